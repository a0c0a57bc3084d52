// SPDX-License-Identifier: GPL-2.0
/* The hook percpu: every dynamic per-CPU allocation. */
#include <linux/percpu.h>
#include <linux/version.h>
#include "callback.h"

static __always_inline void at_percpu(const struct injector_call *call)
{
	if (injector_ask_percpu(call->caller, (__force gfp_t)injector_argument(call, 3), injector_argument(call, 0)))
		injector_return(call, 0);
}
INJECTOR_CALLBACK(INJECTOR_PERCPU, percpu)

struct injector_entry injector_percpu[] = {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	INJECTOR_UNDECLARED(percpu, void *, pcpu_alloc_noprof, size_t, size_t, bool, gfp_t),
#else
	INJECTOR_UNDECLARED(percpu, void *, pcpu_alloc, size_t, size_t, bool, gfp_t),
#endif
	{ }
};
