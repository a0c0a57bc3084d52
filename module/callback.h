/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ftrace calls at the entry of a hooked function.
 */
#ifndef INJECTOR_CALLBACK_H
#define INJECTOR_CALLBACK_H

#include <linux/trace_recursion.h>
#include "injector_hooks.h"
#include "trace.h"

/* A call of a hooked function that has just begun. */
struct injector_call {
	struct pt_regs *regs;
	/* An address in the function's own frame, as the stack has it. */
	unsigned long own;
	/* Where the function returns to. */
	unsigned long caller;
};

/* arch.c */
void injector_just_return(void);

static __always_inline unsigned long injector_argument(const struct injector_call *call, unsigned int n)
{
	return regs_get_kernel_argument(call->regs, n);
}

/* Has the function return a value at once. */
static __always_inline void injector_return(const struct injector_call *call, unsigned long value)
{
	call->regs->ax = value;
	call->regs->ip = (unsigned long)injector_just_return;
}

static __always_inline struct pt_regs *injector_regs(struct ftrace_regs *fregs)
{
#ifdef arch_ftrace_regs	/* since 6.13, and in stable kernels before */
	return &arch_ftrace_regs(fregs)->regs;
#else
	return &fregs->regs;
#endif
}

/*
 * Makes the callback on_WHAT() of at_WHAT(). ftrace_test_recursion_trylock() also disables preemption.
 */
#define INJECTOR_CALLBACK(number, what)								\
static void notrace on_##what(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,	\
			      struct ftrace_regs *fregs)						\
{												\
	const struct injector_call call = {							\
		.regs = injector_regs(fregs),							\
		.own = ip + MCOUNT_INSN_SIZE,							\
		.caller = parent_ip,								\
	};											\
	int bit = ftrace_test_recursion_trylock(ip, parent_ip);					\
												\
	if (bit < 0) {										\
		this_cpu_inc(injector_missed[number]);						\
		return;										\
	}											\
	at_##what(&call);									\
	ftrace_test_recursion_unlock(bit);							\
}

/*
 * Ask the eBPF programs: 0 if the call is to be made, else what it is to return where it returns an error number.
 * `first` is the return address at which the call's stack begins.
 */
#define INJECTOR_ASK(hook)									\
static __always_inline int injector_ask_##hook(unsigned long first, gfp_t gfp, unsigned long fact)	\
{												\
	int verdict = 0;									\
												\
	trace_injector_##hook##_tp(&verdict, first, (__force unsigned int)gfp, fact);		\
	return verdict;										\
}
INJECTOR_ASK(slab)
INJECTOR_ASK(page)
INJECTOR_ASK(filemap)
INJECTOR_ASK(bio)
INJECTOR_ASK(page_pool)
INJECTOR_ASK(vmalloc)
INJECTOR_ASK(percpu)

/* An entry whose function this kernel's headers declare: the compiler checks the prototype, too. */
#define INJECTOR_DECLARED(what, result, name, ...) {						\
	.function = __stringify(name),								\
	.prototype = __stringify(result name(__VA_ARGS__)),					\
	.callback = on_##what + BUILD_BUG_ON_ZERO(!__same_type(name, result (__VA_ARGS__))),	\
}
/* An entry whose function they don't. */
#define INJECTOR_UNDECLARED(what, result, name, ...) {						\
	.function = __stringify(name),								\
	.prototype = __stringify(result name(__VA_ARGS__)),					\
	.callback = on_##what,									\
}

#endif
