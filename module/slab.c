// SPDX-License-Identifier: GPL-2.0
/*
 * The hook slab.
 *
 * Up to 6.7 each kernel calls should_failslab(), and later ones do if they have CONFIG_FAILSLAB. (From 6.8 to 6.10 the
 * compiler may have made a copy of it that is called instead.) Where they don't, each of the allocator's functions that
 * has the fast path in it is an entry (mm/slub.c, slab_alloc_node() and kmem_cache_alloc_bulk()). None of them calls
 * another for the same object.
 */
#include <linux/slab.h>
#include <linux/version.h>
#include "callback.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define NAMED(name) name##_noprof
#else
#define NAMED(name) name
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0) || \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0) && defined(CONFIG_FAILSLAB))
#include <linux/fault-inject.h>

static __always_inline void at_should_failslab(const struct injector_call *call)
{
	int error = injector_ask_slab(call->caller, injector_argument(call, 1), injector_argument(call, 0));

	if (error)
		injector_return(call, error);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, should_failslab)

struct injector_entry injector_slab_own[] = {
	INJECTOR_DECLARED(should_failslab, int, should_failslab, struct kmem_cache *, gfp_t),
	{ }
};
#else
struct injector_entry injector_slab_own[] = { { } };
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)

/* An argument that only some configurations have: how many arguments that makes, and its type with a comma. */
#ifdef CONFIG_SLAB_BUCKETS
#define BUCKETS 1
#define BUCKETS_TYPE , kmem_buckets *
#else
#define BUCKETS 0
#define BUCKETS_TYPE
#endif
#ifdef CONFIG_KMALLOC_PARTITION_CACHES
#define TOKENS 1
#define TOKENS_TYPE , kmalloc_token_t
#else
#define TOKENS 0
#define TOKENS_TYPE
#endif

/*
 * The cache from which kmalloc() takes an object: kmalloc_slab() of mm/slab.h. `row` has the caches by size if the caller
 * chose one; `token` chooses one of several equal caches.
 */
static __always_inline struct kmem_cache *cache_of(size_t size, struct kmem_cache **row, gfp_t gfp, unsigned long token)
{
	if (!row) {
#ifdef PASS_TOKEN_PARAM
#ifdef CONFIG_KMALLOC_PARTITION_CACHES
		row = kmalloc_caches[kmalloc_type(gfp, (kmalloc_token_t){ .v = token })];
#else
		row = kmalloc_caches[kmalloc_type(gfp, (kmalloc_token_t){ })];
#endif
#else
		row = (struct kmem_cache **)kmalloc_caches[kmalloc_type(gfp, token)];
#endif
	}
	return row[__kmalloc_index(size, false)];
}

/* kmalloc() of a size that is not a constant. Larger sizes go to the page allocator, and a size of 0 to nobody. */
static __always_inline void at_size(const struct injector_call *call, size_t size, struct kmem_cache **row, gfp_t gfp,
				    unsigned long token)
{
	if (!size || size > KMALLOC_MAX_CACHE_SIZE)
		return;
	if (injector_ask_slab(call->own, gfp, (unsigned long)cache_of(size, row, gfp, token)))
		injector_return(call, 0);
}

static __always_inline void at_cache(const struct injector_call *call)
{
	if (injector_ask_slab(call->own, injector_argument(call, 1), injector_argument(call, 0)))
		injector_return(call, 0);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, cache)

static __always_inline void at_cache_lru(const struct injector_call *call)
{
	if (injector_ask_slab(call->own, injector_argument(call, 2), injector_argument(call, 0)))
		injector_return(call, 0);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, cache_lru)

/* No objects: false, or 0 of them. */
static __always_inline void at_cache_bulk(const struct injector_call *call)
{
	if (injector_argument(call, 2) &&
	    injector_ask_slab(call->own, injector_argument(call, 1), injector_argument(call, 0)))
		injector_return(call, 0);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, cache_bulk)

static __always_inline void at_kmalloc(const struct injector_call *call)
{
	unsigned long token = TOKENS ? injector_argument(call, 1) : call->caller;

	at_size(call, injector_argument(call, 0), NULL, injector_argument(call, 1 + TOKENS), token);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, kmalloc)

static __always_inline void at_kmalloc_node(const struct injector_call *call)
{
	struct kmem_cache **row = BUCKETS ? (void *)injector_argument(call, 1) : NULL;
	unsigned long token = TOKENS ? injector_argument(call, 1 + BUCKETS) : call->caller;

	at_size(call, injector_argument(call, 0), row, injector_argument(call, 1 + BUCKETS + TOKENS), token);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, kmalloc_node)

static __always_inline void at_kmalloc_track_caller(const struct injector_call *call)
{
	struct kmem_cache **row = BUCKETS ? (void *)injector_argument(call, 1) : NULL;
	unsigned long token = injector_argument(call, TOKENS ? 1 + BUCKETS : 3 + BUCKETS);

	at_size(call, injector_argument(call, 0), row, injector_argument(call, 1 + BUCKETS + TOKENS), token);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, kmalloc_track_caller)

/*
 * From 6.15 on, kvmalloc() has the fast path in it, and goes to vmalloc() if that fails. So only without this second
 * attempt, up to a page, can the first one be failed by itself.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define KVMALLOC_ALIGNS \
	__same_type(__kvmalloc_node_noprof, void *(size_t BUCKETS_TYPE TOKENS_TYPE, unsigned long, gfp_t, int))

static __always_inline void at_kvmalloc(const struct injector_call *call)
{
	size_t size = injector_argument(call, 0);
	struct kmem_cache **row = BUCKETS ? (void *)injector_argument(call, 1) : NULL;
	unsigned long token = TOKENS ? injector_argument(call, 1 + BUCKETS) : call->caller;

	if (size <= PAGE_SIZE)
		at_size(call, size, row, injector_argument(call, 1 + BUCKETS + TOKENS + KVMALLOC_ALIGNS), token);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, kvmalloc)
#endif

/* SLUB's own allocations, for what it keeps of objects. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
static __always_inline void at_kmalloc_flags(const struct injector_call *call)
{
	/* SLAB_ALLOC_NOLOCK of mm/slab.h: the allocator does not ask either, it might be in an NMI. */
	if (injector_argument(call, 2 + TOKENS) & 1)
		return;
	at_kmalloc(call);
}
INJECTOR_CALLBACK(INJECTOR_SLAB, kmalloc_flags)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#define BULK_RESULT bool
#else
#define BULK_RESULT int
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define KMALLOC_CACHE __kmalloc_cache_noprof
#define KMALLOC_CACHE_NODE __kmalloc_cache_node_noprof
#else
#define KMALLOC_CACHE NAMED(kmalloc_trace)
#define KMALLOC_CACHE_NODE NAMED(kmalloc_node_trace)
#endif

struct injector_entry injector_slab_entries[] = {
	INJECTOR_DECLARED(cache, void *, NAMED(kmem_cache_alloc), struct kmem_cache *, gfp_t),
	INJECTOR_DECLARED(cache, void *, NAMED(kmem_cache_alloc_node), struct kmem_cache *, gfp_t, int),
	INJECTOR_DECLARED(cache_lru, void *, NAMED(kmem_cache_alloc_lru), struct kmem_cache *, struct list_lru *, gfp_t),
	INJECTOR_DECLARED(cache_bulk, BULK_RESULT, NAMED(kmem_cache_alloc_bulk), struct kmem_cache *, gfp_t, size_t, void **),
	INJECTOR_DECLARED(cache, void *, KMALLOC_CACHE, struct kmem_cache *, gfp_t, size_t),
	INJECTOR_DECLARED(cache, void *, KMALLOC_CACHE_NODE, struct kmem_cache *, gfp_t, int, size_t),
	INJECTOR_DECLARED(kmalloc, void *, NAMED(__kmalloc), size_t TOKENS_TYPE, gfp_t),
	INJECTOR_DECLARED(kmalloc_node, void *, NAMED(__kmalloc_node), size_t BUCKETS_TYPE TOKENS_TYPE, gfp_t, int),
	INJECTOR_DECLARED(kmalloc_track_caller, void *, NAMED(__kmalloc_node_track_caller),
			  size_t BUCKETS_TYPE TOKENS_TYPE, gfp_t, int, unsigned long),
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	{
		.function = "__kvmalloc_node_noprof",
		.prototype = KVMALLOC_ALIGNS
			? __stringify(void *__kvmalloc_node_noprof(size_t BUCKETS_TYPE TOKENS_TYPE, unsigned long, gfp_t, int))
			: __stringify(void *__kvmalloc_node_noprof(size_t BUCKETS_TYPE TOKENS_TYPE, gfp_t, int)),
		.callback = on_kvmalloc,
	},
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
	INJECTOR_UNDECLARED(kmalloc_flags, void *, __kmalloc_flags_noprof, size_t TOKENS_TYPE, gfp_t, unsigned int, int),
#endif
	{ }
};
#else
struct injector_entry injector_slab_entries[] = { { } };
#endif
