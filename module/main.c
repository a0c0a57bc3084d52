// SPDX-License-Identifier: GPL-2.0
/*
 * Makes allocators injectable on kernels that don't let eBPF programs override calls: the functions are hooked by ftrace,
 * and tracepoints of this module ask the programs.
 */
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/stringify.h>
#include <linux/sysfs.h>
#include "injector_hooks.h"

static bool entries;
module_param(entries, bool, 0444);
MODULE_PARM_DESC(entries, "Hook the allocators' entries even where the kernel has a function by which it asks itself");

/* A line for each function of each hook with its prototype; a hook without functions says which is missing, if one is. */
static int show_hooks(char *buffer, const struct kernel_param *parameter)
{
	int length = 0;

	for (struct injector_hook *hook = injector_hooks; hook < injector_hooks + INJECTOR_HOOKS; hook++) {
		if (!hook->chosen) {
			length += sysfs_emit_at(buffer, length, "%s missing %s\n", hook->name, hook->missing ?: "");
			continue;
		}
		for (struct injector_entry *entry = hook->chosen; entry->function; entry++)
			length += sysfs_emit_at(buffer, length, "%s %s %s\n", hook->name, entry->function,
						entry->prototype);
	}
	return length;
}

static const struct kernel_param_ops hooks_operations = { .get = show_hooks };
module_param_cb(hooks, &hooks_operations, NULL, 0444);
MODULE_PARM_DESC(hooks, "What can be hooked");

/* A line for each hook: how many calls could not be asked about since the module was loaded. */
static int show_missed(char *buffer, const struct kernel_param *parameter)
{
	int length = 0;

	for (int number = 0; number < INJECTOR_HOOKS; number++) {
		unsigned long sum = 0;
		int cpu;

		for_each_possible_cpu(cpu)
			sum += READ_ONCE(per_cpu(injector_missed, cpu)[number]);
		length += sysfs_emit_at(buffer, length, "%s %lu\n", injector_hooks[number].name, sum);
	}
	return length;
}

static const struct kernel_param_ops missed_operations = { .get = show_missed };
module_param_cb(missed, &missed_operations, NULL, 0444);
MODULE_PARM_DESC(missed, "Calls that could not be asked about");

static int __init injector_hooks_init(void)
{
	int error = injector_choose(entries);

	if (error) {
		pr_err("injector_hooks: this kernel has none of the functions that are known\n");
		return error;
	}
	error = injector_control_add();
	if (error)
		injector_forget();
	return error;
}

static void __exit injector_hooks_exit(void)
{
	injector_control_remove();
	injector_forget();
}

module_init(injector_hooks_init);
module_exit(injector_hooks_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Makes the allocators injectable by eBPF programs, on kernels that have no error injection");
MODULE_VERSION(__stringify(INJECTOR_HOOKS_PROTOCOL));
