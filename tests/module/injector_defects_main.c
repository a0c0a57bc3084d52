// SPDX-License-Identifier: GPL-2.0
/*
 * injector_defects: paths that do not survive a failed allocation, for tests of `injector sweep`.
 *
 * /sys/kernel/debug/injector_defects/ has for each defect two files:
 *
 *   NAME         the defective path
 *   NAME.twin    correct code of the same shape
 *   bait.NAME    no defect, but may be taken for one
 *
 * Writing "1" runs the path once, in the writer's system call. write() returns the count, or -ENOMEM when an allocation
 * failed and that was reported rightly. All allocations are the path's own and ordinary; while none fails, each path
 * works again and again, also from several tasks at once. The functions are called defect_NAME…, twin_NAME…, bait_NAME….
 *
 *   missing_check    kmalloc's result is not checked
 *   page_check       alloc_page's result is not checked
 *   err_ptr          the callee returns ERR_PTR(), the caller checks for NULL
 *   uninit_use       initialising fails half-way, the object is used all the same
 *   leak_first       the second allocation fails, the first is not freed: one object of the cache of that name, each time
 *   ref_leak         a reference is not dropped: one object of the cache of that name, each time
 *   double_free      callee and caller both free
 *   uaf_unwind       the unwinding reads what it has freed
 *   unwind_order     frees an object before it is off its list
 *   second_hit       a loop; wrong only when its second allocation fails, which is the same site as the first
 *   combined         an allocation fails, then its fallback too, which is not checked
 *   nofs_scope       wrong only in a memalloc_nofs_save() scope
 *   lock_held        a mutex stays locked: the next writer hangs for ever
 *   sleep_atomic     sleeps with a spinlock held
 *   infinite_retry   tries for ever, until it succeeds or a fatal signal comes; the twin gives up
 *   swallowed        write() succeeds all the same; what the failure left behind breaks the next write()
 *   workqueue        not checked in a kworker; write() waits for the work, at most WORK_TIMEOUT
 *   warn_on          WARN_ON() where a failure is nothing to be surprised at
 *   bug_on           BUG_ON() there
 *   misreported      the failure comes back as -EINVAL
 *   stays_busy       -EBUSY from then on: what was claimed before the failure is never given back
 *
 * Bait:
 *
 *   nofail           __GFP_NOFAIL, slab and page: rightly not checked
 *   mempool          mempool_alloc() that may sleep: rightly not checked
 *   kvmalloc         falls back to vmalloc
 *   kept             allocated before what fails, and kept on purpose on a global list: at most KEPT_MAX objects
 *   rcu              freed after a grace period
 *   polite           goes on without what it could not allocate, and says so in the log
 *
 * Don't unload the module after a defect has struck: its caches are not empty, or its functions never return.
 *
 * To add a defect: two functions of the same shape, and a DEFECT() in the table at the end of their file.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "injector_defects.h"

static const struct code_path * const all_paths[] = { memory_paths, state_paths, bait_paths };

static struct dentry *directory;

struct kmem_cache *own_cache(const char *name, unsigned int size)
{
#ifdef SLAB_NO_MERGE
	return kmem_cache_create(name, size, 0, SLAB_NO_MERGE, NULL);
#else
	/* Before 6.5 there is no such flag, but nobody merges a cache that user space may copy from. */
	return kmem_cache_create_usercopy(name, size, 0, 0, 0, size, NULL);
#endif
}

static own_frame ssize_t injector_defects_write(struct file *file, const char __user *from, size_t length,
						loff_t *offset)
{
	const struct code_path *path = file->private_data;
	bool yes;
	int error;

	error = kstrtobool_from_user(from, length, &yes);
	if (error)
		return error;
	if (!yes)
		return -EINVAL;
	error = path->run();
	return error ? error : length;
}

static const struct file_operations path_operations = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = injector_defects_write,
	.llseek = noop_llseek,
};

static int __init injector_defects_init(void)
{
	const struct code_path *path;
	size_t i;
	int error;

	error = memory_init();
	if (!error)
		error = bait_init();
	if (error) {
		memory_exit();
		bait_exit();
		return error;
	}
	directory = debugfs_create_dir("injector_defects", NULL);
	for (i = 0; i < ARRAY_SIZE(all_paths); i++)
		for (path = all_paths[i]; path->name; path++)
			debugfs_create_file(path->name, 0200, directory, (void *)path, &path_operations);
	return 0;
}

static void __exit injector_defects_exit(void)
{
	debugfs_remove(directory);
	rcu_barrier();
	state_exit();
	bait_exit();
	memory_exit();
}

module_init(injector_defects_init);
module_exit(injector_defects_exit);

MODULE_DESCRIPTION("Does not survive failed allocations, for the tests of the injector");
MODULE_LICENSE("GPL");
