// SPDX-License-Identifier: GPL-2.0
/* No defects, but what a searcher may take for one. */
#include <linux/gfp.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>

#include "injector_defects.h"

/* A searcher that calls it a leak when more objects than this stay behind is not taken in. */
#define KEPT_MAX 8

struct late {
	struct rcu_head rcu;
	unsigned long value[14];
};

static struct kmem_cache *kept_cache;
static struct kmem_cache *late_cache;
static mempool_t *pool;

static LIST_HEAD(kept);
static unsigned int kept_count;
static DEFINE_SPINLOCK(kept_lock);

static own_frame int bait_nofail(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL | __GFP_NOFAIL);
	struct page *page = alloc_page(GFP_KERNEL | __GFP_NOFAIL);

	WRITE_ONCE(item->value, 1);
	set_page_private(page, 1);
	set_page_private(page, 0);
	__free_page(page);
	kfree(item);
	return 0;
}

static own_frame int bait_mempool(void)
{
	struct item *item = mempool_alloc(pool, GFP_KERNEL);

	WRITE_ONCE(item->value, 1);
	mempool_free(item, pool);
	return 0;
}

static own_frame int bait_kvmalloc(void)
{
	struct item *items = kvmalloc(SZ_32K, GFP_KERNEL);

	if (!items)
		return -ENOMEM;
	WRITE_ONCE(items[0].value, 1);
	kvfree(items);
	return 0;
}

/* Like leak_first, but what stays behind is wanted and can be reached. */
static own_frame int bait_kept(void)
{
	struct item *item = kmem_cache_alloc(kept_cache, GFP_KERNEL);
	struct item *oldest = NULL;
	void *buffer;

	if (!item)
		return -ENOMEM;
	spin_lock(&kept_lock);
	list_add_tail(&item->link, &kept);
	if (++kept_count > KEPT_MAX) {
		oldest = list_first_entry(&kept, struct item, link);
		list_del(&oldest->link);
		kept_count--;
	}
	spin_unlock(&kept_lock);
	if (oldest)
		kmem_cache_free(kept_cache, oldest);
	buffer = kmalloc(SZ_128, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	kfree(buffer);
	return 0;
}

static void late_free(struct rcu_head *rcu)
{
	kmem_cache_free(late_cache, container_of(rcu, struct late, rcu));
}

static own_frame int bait_rcu(void)
{
	struct late *late = kmem_cache_alloc(late_cache, GFP_KERNEL);
	void *buffer;

	if (!late)
		return -ENOMEM;
	buffer = kmalloc(SZ_128, GFP_KERNEL);
	call_rcu(&late->rcu, late_free);
	if (!buffer)
		return -ENOMEM;
	kfree(buffer);
	return 0;
}

static own_frame int bait_polite(void)
{
	struct item *cache = kmalloc(sizeof(*cache), GFP_KERNEL | __GFP_NOWARN);

	if (!cache) {
		pr_warn("injector_defects: out of memory, going on without a cache\n");
		return 0;
	}
	WRITE_ONCE(cache->value, 1);
	kfree(cache);
	return 0;
}

const struct code_path bait_paths[] = {
	BAIT(nofail),
	BAIT(mempool),
	BAIT(kvmalloc),
	BAIT(kept),
	BAIT(rcu),
	BAIT(polite),
	{ }
};

int bait_init(void)
{
	kept_cache = own_cache("injector_defects_kept", sizeof(struct item));
	late_cache = own_cache("injector_defects_rcu", sizeof(struct late));
	pool = mempool_create_kmalloc_pool(2, sizeof(struct item));
	return kept_cache && late_cache && pool ? 0 : -ENOMEM;
}

void bait_exit(void)
{
	struct item *item, *next;

	list_for_each_entry_safe(item, next, &kept, link) {
		list_del(&item->link);
		kmem_cache_free(kept_cache, item);
	}
	mempool_destroy(pool);
	kmem_cache_destroy(late_cache);
	kmem_cache_destroy(kept_cache);
}
