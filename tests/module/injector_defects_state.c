// SPDX-License-Identifier: GPL-2.0
/* Defects in locks, state, reporting, and away from the caller's task. */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "injector_defects.h"

/* How long write() waits for its work. Only after an oops of the kworker does it wait that long. */
#define WORK_TIMEOUT (5 * HZ)
/* How often the twin of infinite_retry tries. */
#define TRIES 4

/* lock_held */

static DEFINE_MUTEX(defect_lock_held_mutex);
static DEFINE_MUTEX(twin_lock_held_mutex);

static own_frame int defect_lock_held(void)
{
	struct item *item;

	mutex_lock(&defect_lock_held_mutex);
	item = kmalloc(sizeof(*item), GFP_KERNEL);
	if (!item) {
		/* Who waits looks at the owner. The defect is the lock; an owner that was freed would be another one. */
		get_task_struct(current);
		return -ENOMEM;
	}
	kfree(item);
	mutex_unlock(&defect_lock_held_mutex);
	return 0;
}

static own_frame int twin_lock_held(void)
{
	struct item *item;

	mutex_lock(&twin_lock_held_mutex);
	item = kmalloc(sizeof(*item), GFP_KERNEL);
	if (!item) {
		mutex_unlock(&twin_lock_held_mutex);
		return -ENOMEM;
	}
	kfree(item);
	mutex_unlock(&twin_lock_held_mutex);
	return 0;
}

/* sleep_atomic: the lock is the call's own, so nobody spins on it while its holder sleeps */

static own_frame void sleep_atomic_back_off(void)
{
	DECLARE_COMPLETION_ONSTACK(never);

	wait_for_completion_timeout(&never, 1);
}

static own_frame int defect_sleep_atomic(void)
{
	struct item *item;
	spinlock_t lock;

	spin_lock_init(&lock);
	spin_lock(&lock);
	item = kmalloc(sizeof(*item), GFP_ATOMIC);
	if (!item) {
		sleep_atomic_back_off();
		/* The scheduler complains and forgets that the lock is held; unlocking would then count below zero. */
		if (!preempt_count())
			preempt_disable();
		spin_unlock(&lock);
		return -ENOMEM;
	}
	spin_unlock(&lock);
	kfree(item);
	return 0;
}

static own_frame int twin_sleep_atomic(void)
{
	struct item *item;
	spinlock_t lock;

	spin_lock_init(&lock);
	spin_lock(&lock);
	item = kmalloc(sizeof(*item), GFP_ATOMIC);
	if (!item) {
		spin_unlock(&lock);
		sleep_atomic_back_off();
		return -ENOMEM;
	}
	spin_unlock(&lock);
	kfree(item);
	return 0;
}

/* infinite_retry */

static own_frame int defect_infinite_retry(void)
{
	struct item *item;

	while (!(item = kmalloc(sizeof(*item), GFP_KERNEL))) {
		/* For the machine's sake. */
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	kfree(item);
	return 0;
}

static own_frame int twin_infinite_retry(void)
{
	struct item *item;
	int tries = TRIES;

	while (!(item = kmalloc(sizeof(*item), GFP_KERNEL))) {
		if (!--tries)
			return -ENOMEM;
		cond_resched();
	}
	kfree(item);
	return 0;
}

/* swallowed: each call uses what the one before left in `kept`, and leaves something of its own */

static struct item defect_first, twin_first;
static struct item *defect_kept = &defect_first;
static struct item *twin_kept = &twin_first;

static own_frame int defect_swallowed(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);
	struct item *before = xchg(&defect_kept, item);

	WRITE_ONCE(before->value, 1);
	if (before != &defect_first)
		kfree(before);
	return 0;
}

static own_frame int twin_swallowed(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);
	struct item *before;

	if (!item)
		return -ENOMEM;
	before = xchg(&twin_kept, item);
	WRITE_ONCE(before->value, 1);
	if (before != &twin_first)
		kfree(before);
	return 0;
}

/*
 * workqueue: unbound, because there a worker that dies takes no other work with it. The job has two users, as after a
 * time-out the work may still come.
 */

struct job {
	struct work_struct work;
	struct completion done;
	refcount_t users;
};

static void job_put(struct job *job)
{
	if (refcount_dec_and_test(&job->users))
		kfree(job);
}

static void job_done(struct job *job)
{
	complete(&job->done);
	job_put(job);
}

static own_frame void defect_workqueue_work(struct work_struct *work)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	WRITE_ONCE(item->value, 1);
	kfree(item);
	job_done(container_of(work, struct job, work));
}

static own_frame void twin_workqueue_work(struct work_struct *work)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (item)
		WRITE_ONCE(item->value, 1);
	kfree(item);
	job_done(container_of(work, struct job, work));
}

static int job_run(struct job *job, work_func_t function)
{
	INIT_WORK(&job->work, function);
	init_completion(&job->done);
	refcount_set(&job->users, 2);
	queue_work(system_unbound_wq, &job->work);
	wait_for_completion_timeout(&job->done, WORK_TIMEOUT);
	job_put(job);
	return 0;
}

static own_frame int defect_workqueue(void)
{
	struct job *job = kmalloc(sizeof(*job), GFP_KERNEL);

	if (!job)
		return -ENOMEM;
	return job_run(job, defect_workqueue_work);
}

static own_frame int twin_workqueue(void)
{
	struct job *job = kmalloc(sizeof(*job), GFP_KERNEL);

	if (!job)
		return -ENOMEM;
	return job_run(job, twin_workqueue_work);
}

/* warn_on */

static own_frame int defect_warn_on(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (WARN_ON(!item))
		return -ENOMEM;
	kfree(item);
	return 0;
}

static own_frame int twin_warn_on(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	kfree(item);
	return 0;
}

/* bug_on */

static own_frame int defect_bug_on(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	BUG_ON(!item);
	kfree(item);
	return 0;
}

static own_frame int twin_bug_on(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	kfree(item);
	return 0;
}

/* misreported */

static own_frame int defect_misreported(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return -EINVAL;
	kfree(item);
	return 0;
}

static own_frame int twin_misreported(void)
{
	struct item *item = kmalloc(sizeof(*item), GFP_KERNEL);

	if (!item)
		return -ENOMEM;
	kfree(item);
	return 0;
}

/* stays_busy */

static atomic_t defect_busy, twin_busy;

static own_frame int defect_stays_busy(void)
{
	struct item *item;

	if (atomic_xchg(&defect_busy, 1))
		return -EBUSY;
	item = kmalloc(sizeof(*item), GFP_KERNEL);
	if (!item)
		return -ENOMEM;
	kfree(item);
	atomic_set(&defect_busy, 0);
	return 0;
}

static own_frame int twin_stays_busy(void)
{
	struct item *item;

	if (atomic_xchg(&twin_busy, 1))
		return -EBUSY;
	item = kmalloc(sizeof(*item), GFP_KERNEL);
	if (!item) {
		atomic_set(&twin_busy, 0);
		return -ENOMEM;
	}
	kfree(item);
	atomic_set(&twin_busy, 0);
	return 0;
}

const struct code_path state_paths[] = {
	DEFECT(lock_held),
	DEFECT(sleep_atomic),
	DEFECT(infinite_retry),
	DEFECT(swallowed),
	DEFECT(workqueue),
	DEFECT(warn_on),
	DEFECT(bug_on),
	DEFECT(misreported),
	DEFECT(stays_busy),
	{ }
};

void state_exit(void)
{
	if (defect_kept != &defect_first)
		kfree(defect_kept);
	if (twin_kept != &twin_first)
		kfree(twin_kept);
}
