// SPDX-License-Identifier: GPL-2.0
/*
 * The hook page.
 *
 * Up to 6.10 each kernel calls should_fail_alloc_page(), and later ones do if they have CONFIG_FAIL_PAGE_ALLOC. Where they
 * don't, the two functions that call prepare_alloc_pages() are the entries (mm/page_alloc.c).
 */
#include <linux/gfp.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/version.h>
#include "callback.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0) || defined(CONFIG_FAIL_PAGE_ALLOC)

static __always_inline void at_should_fail_alloc_page(const struct injector_call *call)
{
	if (injector_ask_page(call->caller, injector_argument(call, 0), (unsigned int)injector_argument(call, 1)))
		injector_return(call, true);
}
INJECTOR_CALLBACK(INJECTOR_PAGE, should_fail_alloc_page)

struct injector_entry injector_page_own[] = {
	INJECTOR_UNDECLARED(should_fail_alloc_page, bool, should_fail_alloc_page, gfp_t, unsigned int),
	{ }
};
#else
struct injector_entry injector_page_own[] = { { } };
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)

/* The allocator asks with what the task's NOFS or NOIO scope leaves of the flags. */
static __always_inline void ask_for_pages(const struct injector_call *call)
{
	gfp_t gfp = current_gfp_context((__force gfp_t)injector_argument(call, 0));

	if (injector_ask_page(call->own, gfp, (unsigned int)injector_argument(call, 1)))
		injector_return(call, 0);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
static __always_inline void at_alloc_pages(const struct injector_call *call)
{
	/* ALLOC_NOLOCK of mm/page_alloc.h: the allocator does not ask either, it might be in an NMI. */
	if (!(injector_argument(call, 4) & 0x400))
		ask_for_pages(call);
}
#else
static __always_inline void at_alloc_pages(const struct injector_call *call)
{
	ask_for_pages(call);
}
#endif
INJECTOR_CALLBACK(INJECTOR_PAGE, alloc_pages)

#define BULK_HAS_LIST										\
	__same_type(alloc_pages_bulk_noprof,							\
		    unsigned long (gfp_t, int, nodemask_t *, int, struct list_head *, struct page **))

/*
 * The pages that the caller's array has already are what is returned: the caller may own them. Where the allocator takes a
 * single page by the other entry, that one asks.
 */
static __always_inline void at_alloc_pages_bulk(const struct injector_call *call)
{
	gfp_t gfp = (__force gfp_t)injector_argument(call, 0);
	int wanted = injector_argument(call, 3);
	struct page **pages = (void *)injector_argument(call, BULK_HAS_LIST ? 5 : 4);
	int populated = 0;

	while (pages && populated < wanted && pages[populated])
		populated++;
	if (wanted - populated <= 1 || (memcg_kmem_online() && (gfp & __GFP_ACCOUNT)))
		return;
	if (injector_ask_page(call->own, gfp, 0))
		injector_return(call, populated);
}
INJECTOR_CALLBACK(INJECTOR_PAGE, alloc_pages_bulk)

struct injector_entry injector_page_entries[] = {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
	INJECTOR_UNDECLARED(alloc_pages, struct page *, __alloc_frozen_pages_noprof, gfp_t, unsigned int, int, nodemask_t *,
			    unsigned int),
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
	INJECTOR_UNDECLARED(alloc_pages, struct page *, __alloc_frozen_pages_noprof, gfp_t, unsigned int, int, nodemask_t *),
#else
	INJECTOR_DECLARED(alloc_pages, struct page *, __alloc_pages_noprof, gfp_t, unsigned int, int, nodemask_t *),
#endif
	{
		.function = "alloc_pages_bulk_noprof",
		.prototype = BULK_HAS_LIST
			? "unsigned long alloc_pages_bulk_noprof(gfp_t, int, nodemask_t *, int, struct list_head *, struct page **)"
			: "unsigned long alloc_pages_bulk_noprof(gfp_t, int, nodemask_t *, int, struct page **)",
		.callback = on_alloc_pages_bulk,
	},
	{ }
};
#else
struct injector_entry injector_page_entries[] = { { } };
#endif
