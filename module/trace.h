/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoints by which the hooks ask eBPF programs. A program writes to *verdict what the call is to return; it is the
 * first argument because that is where the verifier allows writing.
 *
 * They are only for BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE: there are no trace events of them.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM injector

#if !defined(INJECTOR_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define INJECTOR_TRACE_H

#include <linux/tracepoint.h>

/*
 * The kernel declares a tracepoint, defines it, and makes what eBPF needs by reading this file once for each. In the last
 * reading there is DECLARE_TRACE_WRITABLE. Since 6.16 (where there is DECLARE_TRACE_EVENT), the kernel appends _tp to the
 * names; before, we do.
 */
#undef INJECTOR_DECLARE
#undef INJECTOR_DECLARE_WRITABLE
#ifdef DECLARE_TRACE_EVENT
#define INJECTOR_DECLARE(name, proto, args) DECLARE_TRACE(name, PARAMS(proto), PARAMS(args))
#define INJECTOR_DECLARE_WRITABLE(name, proto, args) \
	DECLARE_TRACE_WRITABLE(name, PARAMS(proto), PARAMS(args), sizeof(int))
#else
#define INJECTOR_DECLARE(name, proto, args) DECLARE_TRACE(name##_tp, PARAMS(proto), PARAMS(args))
#define INJECTOR_DECLARE_WRITABLE(name, proto, args) \
	DECLARE_TRACE_WRITABLE(name##_tp, PARAMS(proto), PARAMS(args), sizeof(int))
#endif
#undef INJECTOR_TRACE
#ifdef DECLARE_TRACE_WRITABLE
#define INJECTOR_TRACE(name, proto, args) INJECTOR_DECLARE_WRITABLE(name, PARAMS(proto), PARAMS(args))
#else
#define INJECTOR_TRACE(name, proto, args) INJECTOR_DECLARE(name, PARAMS(proto), PARAMS(args))
#endif

/*
 * first: the return address at which the call's stack begins. gfp: the flags that are asked for. The last argument is the
 * address of the cache (slab), the order (page), the size in bytes (vmalloc, percpu), or 0.
 */
#undef INJECTOR_HOOK
#define INJECTOR_HOOK(name, fact)								\
	INJECTOR_TRACE(name,									\
		TP_PROTO(int *verdict, unsigned long first, unsigned int gfp, unsigned long fact),	\
		TP_ARGS(verdict, first, gfp, fact))

INJECTOR_HOOK(injector_slab, cache)
INJECTOR_HOOK(injector_page, order)
INJECTOR_HOOK(injector_filemap, none)
INJECTOR_HOOK(injector_bio, none)
INJECTOR_HOOK(injector_page_pool, none)
INJECTOR_HOOK(injector_vmalloc, size)
INJECTOR_HOOK(injector_percpu, size)

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
