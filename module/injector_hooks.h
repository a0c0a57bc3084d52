/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of this module share. README.md says how it works.
 */
#ifndef INJECTOR_HOOKS_H
#define INJECTOR_HOOKS_H

#include <linux/ftrace.h>
#include <linux/percpu.h>
#include <linux/types.h>

/*
 * The version of what the injector relies on: the tracepoints and their arguments, the parameters, the device. It is the
 * module's version. injector-common has the same number, and a test compares both.
 */
#define INJECTOR_HOOKS_PROTOCOL 1

#ifndef CONFIG_X86_64
#error "injector_hooks is for x86-64 only"
#endif
#ifndef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#error "injector_hooks needs a kernel with CONFIG_DYNAMIC_FTRACE_WITH_ARGS"
#endif
#ifndef CONFIG_KPROBES
#error "injector_hooks needs a kernel with CONFIG_KPROBES"
#endif
#ifndef CONFIG_BPF_EVENTS
#error "injector_hooks needs a kernel with CONFIG_BPF_EVENTS"
#endif

/* A function that is hooked. */
struct injector_entry {
	const char *function;
	/* The prototype that the callback relies on. The injector compares it with the kernel's BTF. */
	const char *prototype;
	ftrace_func_t callback;
	struct ftrace_ops ops;
};

/* The hooks' numbers: places in injector_hooks[]. */
enum injector_number {
	INJECTOR_SLAB,
	INJECTOR_PAGE,
	INJECTOR_FILEMAP,
	INJECTOR_BIO,
	INJECTOR_PAGE_POOL,
	INJECTOR_VMALLOC,
	INJECTOR_PERCPU,
	INJECTOR_HOOKS
};

struct injector_hook {
	/* As the injector calls it. */
	const char *name;
	/*
	 * What is hooked, up to an entry without a function: the function by which the kernel itself asks, or the
	 * allocator's entries. NULL: this kernel has none, or none that is known.
	 */
	struct injector_entry *own;
	struct injector_entry *entries;
	/* Which of both it is. NULL: nothing. */
	struct injector_entry *chosen;
	/* The function that the kernel turned out not to have. */
	const char *missing;
	/* How many open files want it. */
	unsigned int users;
};

extern struct injector_hook injector_hooks[INJECTOR_HOOKS];

extern struct injector_entry injector_slab_own[], injector_slab_entries[];
extern struct injector_entry injector_page_own[], injector_page_entries[];
extern struct injector_entry injector_filemap[], injector_bio[], injector_page_pool[];
extern struct injector_entry injector_vmalloc[], injector_percpu[];

/* Calls that could not be asked about, since ftrace was at work on this CPU in the same context. */
DECLARE_PER_CPU(unsigned long [INJECTOR_HOOKS], injector_missed);

/* hooks.c */
int injector_choose(bool entries);
void injector_forget(void);
int injector_enable(enum injector_number number, const char **failed);
void injector_disable(enum injector_number number);

/* control.c */
int injector_control_add(void);
void injector_control_remove(void);

#endif
