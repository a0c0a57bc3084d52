// SPDX-License-Identifier: GPL-2.0
/*
 * The hook vmalloc: every virtually contiguous area that pages are allocated for. vmap() and vm_map_ram() map pages that
 * are there already, and don't come here.
 */
#include <linux/version.h>
#include <linux/vmalloc.h>
#include "callback.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define ENTRY __vmalloc_node_range_noprof
#else
#define ENTRY __vmalloc_node_range
#endif

static __always_inline void at_vmalloc(const struct injector_call *call)
{
	if (injector_ask_vmalloc(call->caller, (__force gfp_t)injector_argument(call, 4), injector_argument(call, 0)))
		injector_return(call, 0);
}
INJECTOR_CALLBACK(INJECTOR_VMALLOC, vmalloc)

struct injector_entry injector_vmalloc[] = {
	INJECTOR_DECLARED(vmalloc, void *, ENTRY, unsigned long, unsigned long, unsigned long, unsigned long, gfp_t, pgprot_t,
			  unsigned long, int, const void *),
	{ }
};
