// SPDX-License-Identifier: GPL-2.0
/* Defects in what is done with memory: not checked, not freed, freed too often or too early. */
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/string.h>
#include <linux/version.h>

#include "injector_defects.h"

#define BUFFER_SIZE 200
/* Non-canonical with any small offset: a pointer of this crashes on every machine. */
#define LEFTOVER 0xa5

struct object {
	refcount_t users;
	unsigned long value[15];
};

static struct kmem_cache *leak_first_cache;
static struct kmem_cache *ref_leak_cache;
static struct kmem_cache *double_free_cache;
static struct kmem_cache *uaf_unwind_cache;
static struct kmem_cache *unwind_order_cache;

/* missing_check */

static own_frame int defect_missing_check(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

static own_frame int twin_missing_check(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

/* page_check */

static own_frame int defect_page_check(void)
{
	struct page *page = alloc_page(GFP_KERNEL);

	set_page_private(page, 1);
	set_page_private(page, 0);
	__free_page(page);
	return 0;
}

static own_frame int twin_page_check(void)
{
	struct page *page = alloc_page(GFP_KERNEL);

	if (!page)
		return -ENOMEM;
	set_page_private(page, 1);
	set_page_private(page, 0);
	__free_page(page);
	return 0;
}

/* err_ptr */

static own_frame struct item *err_ptr_create(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	return item ? item : ERR_PTR(-ENOMEM);
}

static own_frame int defect_err_ptr(void)
{
	struct item *item = err_ptr_create();

	if (!item)
		return -ENOMEM;
	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

static own_frame int twin_err_ptr(void)
{
	struct item *item = err_ptr_create();

	if (IS_ERR(item))
		return PTR_ERR(item);
	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

/* uninit_use */

static own_frame int uninit_use_set_up(struct item *item)
{
	item->reused = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!item->reused)
		return -ENOMEM;
	item->value = 0;
	item->counter = &item->value;
	return 0;
}

static own_frame int defect_uninit_use(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	/* What may be in recycled memory, here the same each time. */
	memset(item, LEFTOVER, sizeof(*item));
	uninit_use_set_up(item);
	WRITE_ONCE(*item->counter, 1);
	kfree(item->reused);
	kfree(item);
	return 0;
}

static own_frame int twin_uninit_use(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);
	int error;

	if (!item)
		return -ENOMEM;
	memset(item, LEFTOVER, sizeof(*item));
	error = uninit_use_set_up(item);
	if (error) {
		kfree(item);
		return error;
	}
	WRITE_ONCE(*item->counter, 1);
	kfree(item->reused);
	kfree(item);
	return 0;
}

/* leak_first */

static own_frame int defect_leak_first(void)
{
	struct object *first;
	void *second;

	first = kmem_cache_alloc(leak_first_cache, GFP_KERNEL);
	if (!first)
		return -ENOMEM;
	second = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!second)
		return -ENOMEM;
	kfree(second);
	kmem_cache_free(leak_first_cache, first);
	return 0;
}

static own_frame int twin_leak_first(void)
{
	struct object *first;
	void *second;

	first = kmem_cache_alloc(leak_first_cache, GFP_KERNEL);
	if (!first)
		return -ENOMEM;
	second = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!second) {
		kmem_cache_free(leak_first_cache, first);
		return -ENOMEM;
	}
	kfree(second);
	kmem_cache_free(leak_first_cache, first);
	return 0;
}

/* ref_leak */

static void object_put(struct object *object)
{
	if (refcount_dec_and_test(&object->users))
		kmem_cache_free(ref_leak_cache, object);
}

static own_frame int defect_ref_leak(void)
{
	struct object *object;
	void *user;

	object = kmem_cache_alloc(ref_leak_cache, GFP_KERNEL);
	if (!object)
		return -ENOMEM;
	refcount_set(&object->users, 1);
	refcount_inc(&object->users);
	user = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!user) {
		object_put(object);
		return -ENOMEM;
	}
	kfree(user);
	object_put(object);
	object_put(object);
	return 0;
}

static own_frame int twin_ref_leak(void)
{
	struct object *object;
	void *user;

	object = kmem_cache_alloc(ref_leak_cache, GFP_KERNEL);
	if (!object)
		return -ENOMEM;
	refcount_set(&object->users, 1);
	refcount_inc(&object->users);
	user = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!user) {
		object_put(object);
		object_put(object);
		return -ENOMEM;
	}
	kfree(user);
	object_put(object);
	object_put(object);
	return 0;
}

/*
 * double_free
 *
 * Without KASAN, SLUB notices nothing and hands out the object twice. The unwinding goes on with two plain objects on a
 * list, so that the list's checks see it at once, in the same system call. Clearing `reused` also ends SLUB's chain of
 * free objects, which the second free had tied into a ring: nothing is damaged for longer. In a sheaf, where freed objects
 * wait since 6.18, the item lies twice until both are taken out, so these allocations must not fail.
 */

/* On failure the item is gone. */
static own_frame int double_free_fill(struct item *item)
{
	item->reused = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (item->reused)
		return 0;
	kmem_cache_free(double_free_cache, item);
	return -ENOMEM;
}

static own_frame int double_free_plain_pair(void)
{
	struct item *item, *next;
	LIST_HEAD(list);
	int i;

	for (i = 0; i < 2; i++) {
		item = kmem_cache_alloc(double_free_cache, GFP_KERNEL | __GFP_NOFAIL);
		item->reused = NULL;
		list_add(&item->pair, &list);
	}
	list_for_each_entry_safe(item, next, &list, pair) {
		list_del(&item->pair);
		kmem_cache_free(double_free_cache, item);
	}
	return 0;
}

static own_frame int defect_double_free(void)
{
	struct item *item = kmem_cache_alloc(double_free_cache, GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	if (double_free_fill(item)) {
		kmem_cache_free(double_free_cache, item);
		return double_free_plain_pair();
	}
	kfree(item->reused);
	kmem_cache_free(double_free_cache, item);
	return 0;
}

static own_frame int twin_double_free(void)
{
	struct item *item = kmem_cache_alloc(double_free_cache, GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	if (double_free_fill(item))
		return double_free_plain_pair();
	kfree(item->reused);
	kmem_cache_free(double_free_cache, item);
	return 0;
}

/* uaf_unwind: on a plain kernel the freed object still holds what was written there */

static own_frame int defect_uaf_unwind(void)
{
	struct item *item = kmem_cache_alloc(uaf_unwind_cache, GFP_KERNEL);
	void *buffer;

	if (!item)
		return -ENOMEM;
	WRITE_ONCE(item->value, ENOMEM);
	buffer = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!buffer) {
		kmem_cache_free(uaf_unwind_cache, item);
		return -(int)READ_ONCE(item->value);
	}
	kfree(buffer);
	kmem_cache_free(uaf_unwind_cache, item);
	return 0;
}

static own_frame int twin_uaf_unwind(void)
{
	struct item *item = kmem_cache_alloc(uaf_unwind_cache, GFP_KERNEL);
	void *buffer;

	if (!item)
		return -ENOMEM;
	WRITE_ONCE(item->value, ENOMEM);
	buffer = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!buffer) {
		int error = -(int)READ_ONCE(item->value);

		kmem_cache_free(uaf_unwind_cache, item);
		return error;
	}
	kfree(buffer);
	kmem_cache_free(uaf_unwind_cache, item);
	return 0;
}

/*
 * unwind_order: SLUB's free pointer overwrites the links, so the list's checks notice without KASAN too. They leave the
 * entry alone then, and __list_del_entry() does not poison it: the damage ends with the call.
 */

static own_frame int defect_unwind_order(void)
{
	struct item *item = kmem_cache_alloc(unwind_order_cache, GFP_KERNEL);
	LIST_HEAD(list);
	void *buffer;

	if (!item)
		return -ENOMEM;
	list_add(&item->link, &list);
	buffer = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!buffer) {
		kmem_cache_free(unwind_order_cache, item);
		__list_del_entry(&item->link);
		return -ENOMEM;
	}
	kfree(buffer);
	list_del(&item->link);
	kmem_cache_free(unwind_order_cache, item);
	return 0;
}

static own_frame int twin_unwind_order(void)
{
	struct item *item = kmem_cache_alloc(unwind_order_cache, GFP_KERNEL);
	LIST_HEAD(list);
	void *buffer;

	if (!item)
		return -ENOMEM;
	list_add(&item->link, &list);
	buffer = kmalloc(BUFFER_SIZE, GFP_KERNEL);
	if (!buffer) {
		__list_del_entry(&item->link);
		kmem_cache_free(unwind_order_cache, item);
		return -ENOMEM;
	}
	kfree(buffer);
	list_del(&item->link);
	kmem_cache_free(unwind_order_cache, item);
	return 0;
}

/* second_hit: one call in a loop that must not be unrolled */

static own_frame int defect_second_hit(void)
{
	struct item *items[2];
	int count = ARRAY_SIZE(items);
	int i;

	OPTIMIZER_HIDE_VAR(count);
	for (i = 0; i < count; i++) {
		items[i] = kmalloc(sizeof(struct item), GFP_KERNEL);
		if (!items[i]) {
			if (!i)
				return -ENOMEM;
			goto unwind;
		}
		WRITE_ONCE(items[i]->value, i);
	}
	for (i = 0; i < count; i++)
		kfree(items[i]);
	return 0;
unwind:
	/* Begins with the one that there isn't. */
	for (; i >= 0; i--) {
		WRITE_ONCE(items[i]->value, 0);
		kfree(items[i]);
	}
	return -ENOMEM;
}

static own_frame int twin_second_hit(void)
{
	struct item *items[2];
	int count = ARRAY_SIZE(items);
	int i;

	OPTIMIZER_HIDE_VAR(count);
	for (i = 0; i < count; i++) {
		items[i] = kmalloc(sizeof(struct item), GFP_KERNEL);
		if (!items[i]) {
			if (!i)
				return -ENOMEM;
			goto unwind;
		}
		WRITE_ONCE(items[i]->value, i);
	}
	for (i = 0; i < count; i++)
		kfree(items[i]);
	return 0;
unwind:
	while (--i >= 0) {
		WRITE_ONCE(items[i]->value, 0);
		kfree(items[i]);
	}
	return -ENOMEM;
}

/* combined */

static own_frame struct item *defect_combined_fallback(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	WRITE_ONCE(item->value, 0);
	return item;
}

static own_frame int defect_combined(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		item = defect_combined_fallback();
	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

static own_frame struct item *twin_combined_fallback(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return NULL;
	WRITE_ONCE(item->value, 0);
	return item;
}

static own_frame int twin_combined(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		item = twin_combined_fallback();
	if (!item)
		return -ENOMEM;
	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

/* nofs_scope: each path is run outside of such a scope too, where nothing is wrong with it */

static own_frame int defect_nofs_scope_step(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item && !(current->flags & PF_MEMALLOC_NOFS))
		return -ENOMEM;
	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

static own_frame int twin_nofs_scope_step(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	WRITE_ONCE(item->value, 1);
	kfree(item);
	return 0;
}

static own_frame int defect_nofs_scope(void)
{
	unsigned int saved;
	int error;

	error = defect_nofs_scope_step();
	if (error)
		return error;
	saved = memalloc_nofs_save();
	error = defect_nofs_scope_step();
	memalloc_nofs_restore(saved);
	return error;
}

static own_frame int twin_nofs_scope(void)
{
	unsigned int saved;
	int error;

	error = twin_nofs_scope_step();
	if (error)
		return error;
	saved = memalloc_nofs_save();
	error = twin_nofs_scope_step();
	memalloc_nofs_restore(saved);
	return error;
}

const struct code_path memory_paths[] = {
	DEFECT(missing_check),
	DEFECT(page_check),
	DEFECT(err_ptr),
	DEFECT(uninit_use),
	DEFECT(leak_first),
	DEFECT(ref_leak),
	DEFECT(double_free),
	DEFECT(uaf_unwind),
	DEFECT(unwind_order),
	DEFECT(second_hit),
	DEFECT(combined),
	DEFECT(nofs_scope),
	{ }
};

/*
 * A cache whose freed objects go back to their slab at once. Since 6.18 they wait in a sheaf of their CPU, untouched
 * (mm/slub.c); a cache that is debugged has none, and is never merged.
 */
static struct kmem_cache *direct_cache(const char *name, unsigned int size)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	return own_cache(name, size);
#else
	return kmem_cache_create(name, size, 0, SLAB_RED_ZONE, NULL);
#endif
}

int memory_init(void)
{
	leak_first_cache = own_cache("injector_defects_leak_first", sizeof(struct object));
	ref_leak_cache = own_cache("injector_defects_ref_leak", sizeof(struct object));
	double_free_cache = own_cache("injector_defects_double_free", sizeof(struct item));
	uaf_unwind_cache = own_cache("injector_defects_uaf_unwind", sizeof(struct item));
	unwind_order_cache = direct_cache("injector_defects_unwind_order", sizeof(struct item));
	if (!leak_first_cache || !ref_leak_cache || !double_free_cache || !uaf_unwind_cache || !unwind_order_cache)
		return -ENOMEM;
	return 0;
}

void memory_exit(void)
{
	kmem_cache_destroy(leak_first_cache);
	kmem_cache_destroy(ref_leak_cache);
	kmem_cache_destroy(double_free_cache);
	kmem_cache_destroy(uaf_unwind_cache);
	kmem_cache_destroy(unwind_order_cache);
}
