// SPDX-License-Identifier: GPL-2.0
/*
 * Which functions are hooked, and hooking them. Nothing is hooked but what an open file asked for (control.c).
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include "injector_hooks.h"

DEFINE_PER_CPU(unsigned long [INJECTOR_HOOKS], injector_missed);

static struct injector_entry none[] = { { } };

struct injector_hook injector_hooks[INJECTOR_HOOKS] = {
	[INJECTOR_SLAB] = { .name = "slab", .own = injector_slab_own, .entries = injector_slab_entries },
	[INJECTOR_PAGE] = { .name = "page", .own = injector_page_own, .entries = injector_page_entries },
	[INJECTOR_FILEMAP] = { .name = "filemap", .own = injector_filemap, .entries = none },
	[INJECTOR_BIO] = { .name = "bio", .own = injector_bio, .entries = none },
	[INJECTOR_PAGE_POOL] = { .name = "page-pool", .own = injector_page_pool, .entries = none },
	[INJECTOR_VMALLOC] = { .name = "vmalloc", .own = none, .entries = injector_vmalloc },
	[INJECTOR_PERCPU] = { .name = "percpu", .own = none, .entries = injector_percpu },
};

/* For the users of the hooks. */
static DEFINE_MUTEX(lock);

static void forget(struct injector_entry *entries)
{
	for (struct injector_entry *entry = entries; entry->function; entry++)
		ftrace_free_filter(&entry->ops);
}

/*
 * Where a function is: a kprobe that is never armed tells it. ftrace_set_filter() would find it by name, but asks for the
 * name of every function of the kernel, and each in a module is searched for from the module's first (7.3,
 * kernel/module/kallsyms.c, find_kallsyms_symbol()): with the modules of XFS and NFS, that took 33 emulated seconds.
 */
static unsigned long address_of(const char *function)
{
	struct kprobe probe = { .symbol_name = function, .flags = KPROBE_FLAG_DISABLED };

	if (register_kprobe(&probe))
		return 0;
	unregister_kprobe(&probe);
	return (unsigned long)probe.addr;
}

/* Has ftrace look for the functions. The one that it does not find, or NULL. */
static const char *find(struct injector_entry *entries)
{
	for (struct injector_entry *entry = entries; entry->function; entry++) {
		unsigned long address = address_of(entry->function);

		entry->ops.func = entry->callback;
		/*
		 * IPMODIFY: the callback may change where the function goes on; nobody else does that to the same function
		 * then. PERMANENT: kernel.ftrace_enabled can't be turned off meanwhile.
		 */
		entry->ops.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT;
		if (!address || ftrace_set_filter_ip(&entry->ops, address, 0, 1)) {
			forget(entries);
			return entry->function;
		}
	}
	return NULL;
}

/*
 * Chooses the functions of each hook: those by which the kernel asks itself, else the allocator's entries; with `entries`
 * these first. -ENODEV: this kernel has none of all.
 */
int injector_choose(bool entries)
{
	int found = -ENODEV;

	for (struct injector_hook *hook = injector_hooks; hook < injector_hooks + INJECTOR_HOOKS; hook++) {
		struct injector_entry *first = entries ? hook->entries : hook->own;
		struct injector_entry *second = entries ? hook->own : hook->entries;
		struct injector_entry *chosen = first->function ? first : second;

		if (!chosen->function)
			continue;
		hook->missing = find(chosen);
		if (hook->missing)
			continue;
		hook->chosen = chosen;
		found = 0;
	}
	return found;
}

void injector_forget(void)
{
	for (struct injector_hook *hook = injector_hooks; hook < injector_hooks + INJECTOR_HOOKS; hook++)
		if (hook->chosen)
			forget(hook->chosen);
}

/* The last user has gone, or the first could not come: unhooks what is before `end`. */
static void unhook(struct injector_entry *entries, struct injector_entry *end)
{
	for (struct injector_entry *entry = entries; entry != end && entry->function; entry++)
		unregister_ftrace_function(&entry->ops);
}

/* Hooks the functions of a hook for one more user; on an error, *failed is the function that could not be hooked. */
int injector_enable(enum injector_number number, const char **failed)
{
	struct injector_hook *hook = &injector_hooks[number];
	int error = 0;

	if (!hook->chosen) {
		*failed = hook->missing ?: hook->name;
		return -ENODEV;
	}
	mutex_lock(&lock);
	if (!hook->users) {
		for (struct injector_entry *entry = hook->chosen; entry->function; entry++) {
			error = register_ftrace_function(&entry->ops);
			if (error) {
				*failed = entry->function;
				unhook(hook->chosen, entry);
				break;
			}
		}
	}
	if (!error)
		hook->users++;
	mutex_unlock(&lock);
	return error;
}

void injector_disable(enum injector_number number)
{
	struct injector_hook *hook = &injector_hooks[number];

	mutex_lock(&lock);
	if (!--hook->users)
		unhook(hook->chosen, NULL);
	mutex_unlock(&lock);
}
