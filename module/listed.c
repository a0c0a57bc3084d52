// SPDX-License-Identifier: GPL-2.0
/*
 * The hooks filemap, bio and page-pool: functions that the kernel lists as injectable if it was built with
 * CONFIG_FUNCTION_ERROR_INJECTION, and has in any case.
 */
#include "callback.h"

static __always_inline void at_filemap(const struct injector_call *call)
{
	int error = injector_ask_filemap(call->caller, (__force gfp_t)injector_argument(call, 3), 0);

	if (error)
		injector_return(call, error);
}
INJECTOR_CALLBACK(INJECTOR_FILEMAP, filemap)

static __always_inline void at_bio(const struct injector_call *call)
{
	int error = injector_ask_bio(call->caller, 0, 0);

	if (error)
		injector_return(call, error);
}
INJECTOR_CALLBACK(INJECTOR_BIO, bio)

static __always_inline void at_page_pool(const struct injector_call *call)
{
	if (injector_ask_page_pool(call->caller, (__force gfp_t)injector_argument(call, 1), 0))
		injector_return(call, 0);
}
INJECTOR_CALLBACK(INJECTOR_PAGE_POOL, page_pool)

struct injector_entry injector_filemap[] = {
	INJECTOR_UNDECLARED(filemap, int, __filemap_add_folio, struct address_space *, struct folio *, unsigned long, gfp_t,
			    void **),
	{ }
};

struct injector_entry injector_bio[] = {
	INJECTOR_UNDECLARED(bio, int, should_fail_bio, struct bio *),
	{ }
};

struct injector_entry injector_page_pool[] = {
	INJECTOR_UNDECLARED(page_pool, struct page *, page_pool_alloc_pages, struct page_pool *, gfp_t),
	{ }
};
