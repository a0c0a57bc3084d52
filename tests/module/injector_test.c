// SPDX-License-Identifier: GPL-2.0
/*
 * injector_test: allocates exactly what it is told, so that tests of the injector can count.
 *
 * /sys/kernel/debug/injector_test/run: write one line of KEY=VALUE words, read the result from the same
 * open file (or with pread at offset 0). Each open file has a request and a result of its own, so several
 * processes can work at once. write() returns when all allocations were made, and makes none besides them;
 * open() does allocate, so open before arming.
 *
 *   kind=slab          one allocation from `cache`, or kmalloc(`size`) without one          (slab hook, once)
 *        slab-bulk     kmem_cache_alloc_bulk of `batch` objects from `cache`                (slab hook, once)
 *        page          alloc_pages of `order`                                               (page hook, once)
 *        page-bulk     alloc_pages_bulk_array of `batch` pages                              (page hook, once)
 *        create-cache  kmem_cache_create + destroy: among others an object of the bootstrap cache
 *        slab-node     one allocation from `cache` for this node, or kmalloc_node(`size`)   (slab hook, once)
 *        constant      kmalloc() of a size that the compiler knows: 128                     (slab hook, once)
 *        dup           kmemdup() of `size` bytes, at most 64                                (slab hook, once)
 *        kvmalloc      kvmalloc(`size`): up to a page that is kmalloc()                     (slab hook, once)
 *        vmalloc       __vmalloc(`size`)                                                    (vmalloc hook, once)
 *        percpu        __alloc_percpu_gfp(`size`)                                           (percpu hook, once)
 *   cache=NAME         injector_test_64, _4k, _8k, _16k, _32k: never merged with other caches;
 *                      injector_test_like_a, _like_b: one cache where the kernel merges caches (slab_merge)
 *   size=BYTES         of kmalloc (default 64); above 8192 it is the page hook that is called, with the size's order
 *   order=N            of kind=page (default 0)
 *   batch=N            of the bulk kinds, 2..64 (default 16)
 *   count=N            allocations to make (default 1)
 *   gfp=BASE[+FLAG|-FLAG]…   BASE: KERNEL NOFS NOIO ATOMIC NOWAIT USER HIGHUSER, a flag's name, or a number;
 *                      FLAG: ZERO NOWARN NOFAIL ACCOUNT NORETRY… (default KERNEL)
 *   scope=none|nofs|noio     memalloc_nofs_save() or memalloc_noio_save() around the allocations
 *   from=task|workqueue|softirq|hardirq   where they are made (default task)
 *   cpu=N              the CPU for the last three (default: the writer's). Without it, softirq and hardirq run on top
 *                      of the writer: `current` is the writer.
 *   chain=a|b          the function that leads to injector_test_allocate(): injector_test_chain_a or _b
 *   depth=N            that many frames of injector_test_deeper() in between, up to 100
 *   turns=yes          each call has a stack of its own: the bits of its number say by which of two calls
 *                      injector_test_deeper() comes to itself, so of depth=N there are 2^(N-1)
 *   sleep=MS           from=task: the call sleeps that long before it returns
 *
 * Result: calls=N failed=M ns=… first_failed_ns=… last_failed_ns=… cpu=… context=task|softirq|hardirq pid=…
 * (times are CLOCK_MONOTONIC; cpu, context and pid are those of the last call). After an error of write(): error=REASON.
 *
 * /sys/kernel/debug/injector_test/change: write the name of a kernel function, and until the file is closed ftrace may
 * change where it goes on, as a live patch would. Nobody else may then.
 *
 * All is freed at once. A slab allocation calls the page hook too when the cache needs a new slab, and one with
 * __GFP_ACCOUNT may allocate that slab's accounting vector: exact counts are those of the hook named above.
 */
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/debugfs.h>
#include <linux/ftrace.h>
#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#define MAX_LINE 256
#define MAX_BATCH 64
#define MAX_DEPTH 100
/* An interrupt makes at most that many allocations, then the writer raises the next one. */
#define IRQ_CHUNK 256

/* It lost the end of its name in 6.14. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
#define alloc_pages_bulk_array alloc_pages_bulk
#endif

/* Before 6.5 there is no flag that only forbids merging; this one does, and concerns only kmemleak besides. */
#ifndef SLAB_NO_MERGE
#define SLAB_NO_MERGE SLAB_NOLEAKTRACE
#endif

/* The stacks are what tests look at: no inlining, no clones under another name, no tail calls. */
#define own_frame noinline __noclone
#define no_tail_call() barrier()

enum kind {
	KIND_SLAB, KIND_SLAB_BULK, KIND_PAGE, KIND_PAGE_BULK, KIND_CREATE_CACHE,
	KIND_SLAB_NODE, KIND_CONSTANT, KIND_DUP, KIND_KVMALLOC, KIND_VMALLOC, KIND_PERCPU,
};
enum scope { SCOPE_NONE, SCOPE_NOFS, SCOPE_NOIO };
enum from { FROM_TASK, FROM_WORKQUEUE, FROM_SOFTIRQ, FROM_HARDIRQ };

static const char * const kind_names[] = {
	"slab", "slab-bulk", "page", "page-bulk", "create-cache",
	"slab-node", "constant", "dup", "kvmalloc", "vmalloc", "percpu",
};
static const char * const scope_names[] = { "none", "nofs", "noio" };
static const char * const from_names[] = { "task", "workqueue", "softirq", "hardirq" };
static const char * const chain_names[] = { "a", "b" };

static struct {
	const char *name;
	unsigned int size;
	slab_flags_t flags;
	struct kmem_cache *cache;
} caches[] = {
	{ "injector_test_64", 64, SLAB_NO_MERGE },
	{ "injector_test_4k", 4096, SLAB_NO_MERGE },
	{ "injector_test_8k", 8192, SLAB_NO_MERGE },
	{ "injector_test_16k", 16384, SLAB_NO_MERGE },
	{ "injector_test_32k", 32768, SLAB_NO_MERGE },
	/* A size that no other cache has. */
	{ "injector_test_like_a", 3208, 0 },
	{ "injector_test_like_b", 3208, 0 },
};

static const struct {
	const char *name;
	gfp_t bits;
} gfp_names[] = {
	{ "KERNEL", GFP_KERNEL },
	{ "NOFS", GFP_NOFS },
	{ "NOIO", GFP_NOIO },
	{ "ATOMIC", GFP_ATOMIC },
	{ "NOWAIT", GFP_NOWAIT },
	{ "USER", GFP_USER },
	{ "HIGHUSER", GFP_HIGHUSER },
	{ "ACCOUNT", __GFP_ACCOUNT },
	{ "COMP", __GFP_COMP },
	{ "DIRECT_RECLAIM", __GFP_DIRECT_RECLAIM },
	{ "FS", __GFP_FS },
	{ "HARDWALL", __GFP_HARDWALL },
	{ "HIGH", __GFP_HIGH },
	{ "HIGHMEM", __GFP_HIGHMEM },
	{ "IO", __GFP_IO },
	{ "KSWAPD_RECLAIM", __GFP_KSWAPD_RECLAIM },
	{ "MOVABLE", __GFP_MOVABLE },
	{ "NOFAIL", __GFP_NOFAIL },
	{ "NOMEMALLOC", __GFP_NOMEMALLOC },
	{ "NORETRY", __GFP_NORETRY },
	{ "NOWARN", __GFP_NOWARN },
	{ "RECLAIM", __GFP_RECLAIM },
	{ "RETRY_MAYFAIL", __GFP_RETRY_MAYFAIL },
	{ "WRITE", __GFP_WRITE },
	{ "ZERO", __GFP_ZERO },
};

struct run {
	struct mutex lock;
	char line[MAX_LINE];
	char result[MAX_LINE];
	size_t result_len;

	/* what to do */
	enum kind kind;
	struct kmem_cache *cache;
	size_t size;
	unsigned int order;
	unsigned int batch;
	unsigned long count;
	gfp_t gfp;
	enum scope scope;
	enum from from;
	int cpu;
	unsigned int chain;
	bool turns;
	unsigned long way;
	unsigned int depth;
	unsigned int sleep_ms;

	/* what came of it */
	unsigned long calls;
	unsigned long failed;
	u64 first_failed_ns;
	u64 last_failed_ns;
	int last_cpu;
	int last_pid;
	const char *context;

	/* how it gets where it is to be done */
	unsigned long chunk;
	struct completion done;
	struct work_struct work;
	struct tasklet_struct tasklet;
	struct irq_work irq_work;
	union {
		void *objects[MAX_BATCH];
		struct page *pages[MAX_BATCH];
	};
};

static struct dentry *directory;
static atomic_t cache_number;

static own_frame bool injector_test_create_cache(void)
{
	char name[32];
	struct kmem_cache *cache;

	snprintf(name, sizeof(name), "injector_test_new_%d", atomic_inc_return(&cache_number));
	cache = kmem_cache_create(name, 128, 0, SLAB_NO_MERGE, NULL);
	kmem_cache_destroy(cache);
	return cache != NULL;
}

/* The one place where allocations are made, whatever chain leads here. */
static own_frame bool injector_test_allocate(struct run *run)
{
	void __percpu *counter;
	struct page *page;
	unsigned int got;
	void *object;

	switch (run->kind) {
	case KIND_SLAB:
		if (run->cache) {
			object = kmem_cache_alloc(run->cache, run->gfp);
			if (object)
				kmem_cache_free(run->cache, object);
		} else {
			object = kmalloc(run->size, run->gfp);
			kfree(object);
		}
		return object != NULL;
	case KIND_SLAB_BULK:
		/* All of them or none; since 7.x it says so by a bool (mm/slub.c), before by the number. */
		if (!kmem_cache_alloc_bulk(run->cache, run->gfp, run->batch, run->objects))
			return false;
		kmem_cache_free_bulk(run->cache, run->batch, run->objects);
		return true;
	case KIND_PAGE:
		page = alloc_pages(run->gfp, run->order);
		if (page)
			__free_pages(page, run->order);
		return page != NULL;
	case KIND_PAGE_BULK:
		memset(run->pages, 0, sizeof(run->pages));
		got = alloc_pages_bulk_array(run->gfp, run->batch, run->pages);
		while (got)
			__free_page(run->pages[--got]);
		return run->pages[0] != NULL;
	case KIND_CREATE_CACHE:
		return injector_test_create_cache();
	case KIND_SLAB_NODE:
		if (run->cache)
			object = kmem_cache_alloc_node(run->cache, run->gfp, numa_node_id());
		else
			object = kmalloc_node(run->size, run->gfp, numa_node_id());
		kfree(object);
		return object != NULL;
	case KIND_CONSTANT:
		object = kmalloc(128, run->gfp);
		kfree(object);
		return object != NULL;
	case KIND_DUP:
		object = kmemdup(run->line, run->size, run->gfp);
		kfree(object);
		return object != NULL;
	case KIND_KVMALLOC:
		object = kvmalloc(run->size, run->gfp);
		kvfree(object);
		return object != NULL;
	case KIND_VMALLOC:
		object = __vmalloc(run->size, run->gfp);
		vfree(object);
		return object != NULL;
	case KIND_PERCPU:
		counter = __alloc_percpu_gfp(run->size, sizeof(long), run->gfp);
		free_percpu(counter);
		return counter != NULL;
	}
	return false;
}

static own_frame bool injector_test_deeper(struct run *run, unsigned int depth)
{
	bool ok;

	if (!depth) {
		ok = injector_test_allocate(run);
	} else if (depth <= BITS_PER_LONG && run->way >> (depth - 1) & 1) {
		ok = injector_test_deeper(run, depth - 1);
		asm volatile("# the other call" : : : "memory");
	} else {
		ok = injector_test_deeper(run, depth - 1);
	}
	no_tail_call();
	return ok;
}

/* The two differ in an empty statement, so that gcc does not fold them into one function. */
static own_frame bool injector_test_chain_a(struct run *run)
{
	bool ok = run->depth ? injector_test_deeper(run, run->depth - 1) : injector_test_allocate(run);

	asm volatile("# chain a" : : : "memory");
	return ok;
}

static own_frame bool injector_test_chain_b(struct run *run)
{
	bool ok = run->depth ? injector_test_deeper(run, run->depth - 1) : injector_test_allocate(run);

	asm volatile("# chain b" : : : "memory");
	return ok;
}

static own_frame void injector_test_loop(struct run *run, unsigned long count)
{
	unsigned long i;

	for (i = 0; i < count; i++) {
		bool ok;

		run->way = run->turns ? i : 0;
		ok = run->chain ? injector_test_chain_b(run) : injector_test_chain_a(run);
		run->calls++;
		if (!ok) {
			u64 now = ktime_get_ns();

			run->failed++;
			run->last_failed_ns = now;
			if (!run->first_failed_ns)
				run->first_failed_ns = now;
		}
		if (in_task()) {
			if (fatal_signal_pending(current))
				break;
			cond_resched();
		}
	}
	run->last_cpu = raw_smp_processor_id();
	run->last_pid = task_tgid_nr(current);
	run->context = in_hardirq() ? "hardirq" : in_serving_softirq() ? "softirq" : "task";
}

/* Task context: the writer's or a kworker's. */
static own_frame void injector_test_task(struct run *run)
{
	unsigned int saved;

	switch (run->scope) {
	case SCOPE_NONE:
		injector_test_loop(run, run->count);
		break;
	case SCOPE_NOFS:
		saved = memalloc_nofs_save();
		injector_test_loop(run, run->count);
		memalloc_nofs_restore(saved);
		break;
	case SCOPE_NOIO:
		saved = memalloc_noio_save();
		injector_test_loop(run, run->count);
		memalloc_noio_restore(saved);
		break;
	}
	no_tail_call();
}

static own_frame void injector_test_work(struct work_struct *work)
{
	injector_test_task(container_of(work, struct run, work));
	no_tail_call();
}

static own_frame void injector_test_softirq(struct tasklet_struct *tasklet)
{
	struct run *run = container_of(tasklet, struct run, tasklet);

	injector_test_loop(run, run->chunk);
	complete(&run->done);
}

static own_frame void injector_test_hardirq(struct irq_work *work)
{
	struct run *run = container_of(work, struct run, irq_work);

	injector_test_loop(run, run->chunk);
	complete(&run->done);
}

static void raise_tasklet(void *data)
{
	struct run *run = data;

	tasklet_schedule(&run->tasklet);
}

static void raise_irq_work(void *data)
{
	struct run *run = data;

	irq_work_queue(&run->irq_work);
}

/* On this CPU a softirq is made to run here and now, on top of the writer, and not in ksoftirqd. */
static int raise_softirq_chunk(struct run *run)
{
	int here = get_cpu();
	int error = 0;

	if (run->cpu < 0 || run->cpu == here) {
		local_bh_disable();
		tasklet_schedule(&run->tasklet);
		local_bh_enable();
	} else {
		error = smp_call_function_single(run->cpu, raise_tasklet, run, 1);
	}
	put_cpu();
	return error;
}

static int raise_hardirq_chunk(struct run *run)
{
	int here = get_cpu();
	int error = 0;

	if (run->cpu < 0 || run->cpu == here)
		raise_irq_work(run);
	else
		error = smp_call_function_single(run->cpu, raise_irq_work, run, 1);
	put_cpu();
	return error;
}

static int in_interrupts(struct run *run)
{
	unsigned long left = run->count;
	int error;

	while (left) {
		run->chunk = min_t(unsigned long, left, IRQ_CHUNK);
		left -= run->chunk;
		reinit_completion(&run->done);
		error = run->from == FROM_SOFTIRQ ? raise_softirq_chunk(run) : raise_hardirq_chunk(run);
		if (error)
			return error;
		wait_for_completion(&run->done);
		if (run->from == FROM_HARDIRQ)
			irq_work_sync(&run->irq_work);
		if (fatal_signal_pending(current))
			break;
	}
	return 0;
}

static const char *parse_gfp(struct run *run, char *value)
{
	gfp_t gfp = 0;
	char sign = '+';

	while (*value) {
		size_t length = strcspn(value, "+-");
		char next = value[length];
		gfp_t bits = 0;
		unsigned int number;
		size_t i;

		value[length] = '\0';
		for (i = 0; i < ARRAY_SIZE(gfp_names); i++)
			if (!strcmp(value, gfp_names[i].name))
				bits = gfp_names[i].bits;
		if (!bits) {
			if (kstrtouint(value, 0, &number))
				return "unknown gfp";
			bits = (__force gfp_t)number;
		}
		gfp = sign == '+' ? gfp | bits : gfp & ~bits;
		if (!next)
			break;
		sign = next;
		value += length + 1;
	}
	run->gfp = gfp;
	return NULL;
}

static const char *parse_word(struct run *run, char *word)
{
	char *value = strchr(word, '=');
	size_t i;
	int at;

	if (!value)
		return "a word without =";
	*value++ = '\0';
	if (!strcmp(word, "kind")) {
		at = match_string(kind_names, ARRAY_SIZE(kind_names), value);
		if (at < 0)
			return "unknown kind";
		run->kind = at;
	} else if (!strcmp(word, "scope")) {
		at = match_string(scope_names, ARRAY_SIZE(scope_names), value);
		if (at < 0)
			return "unknown scope";
		run->scope = at;
	} else if (!strcmp(word, "from")) {
		at = match_string(from_names, ARRAY_SIZE(from_names), value);
		if (at < 0)
			return "unknown from";
		run->from = at;
	} else if (!strcmp(word, "chain")) {
		at = match_string(chain_names, ARRAY_SIZE(chain_names), value);
		if (at < 0)
			return "unknown chain";
		run->chain = at;
	} else if (!strcmp(word, "turns")) {
		if (kstrtobool(value, &run->turns))
			return "turns is neither yes nor no";
	} else if (!strcmp(word, "cache")) {
		for (i = 0; i < ARRAY_SIZE(caches); i++)
			if (!strcmp(value, caches[i].name))
				run->cache = caches[i].cache;
		if (!run->cache)
			return "unknown cache";
	} else if (!strcmp(word, "gfp")) {
		return parse_gfp(run, value);
	} else if (!strcmp(word, "size")) {
		if (kstrtoul(value, 0, &run->size) || run->size > SZ_1M)
			return "bad size";
	} else if (!strcmp(word, "order")) {
		if (kstrtouint(value, 0, &run->order) || run->order > 9)
			return "bad order";
	} else if (!strcmp(word, "batch")) {
		if (kstrtouint(value, 0, &run->batch) || run->batch < 2 || run->batch > MAX_BATCH)
			return "bad batch";
	} else if (!strcmp(word, "count")) {
		if (kstrtoul(value, 0, &run->count))
			return "bad count";
	} else if (!strcmp(word, "depth")) {
		if (kstrtouint(value, 0, &run->depth) || run->depth > MAX_DEPTH)
			return "bad depth";
	} else if (!strcmp(word, "sleep")) {
		if (kstrtouint(value, 0, &run->sleep_ms))
			return "bad sleep";
	} else if (!strcmp(word, "cpu")) {
		if (kstrtoint(value, 0, &run->cpu) || run->cpu < 0 || run->cpu >= nr_cpu_ids || !cpu_online(run->cpu))
			return "no such cpu";
	} else {
		return "unknown key";
	}
	return NULL;
}

/* What the kernel would rightly complain about is refused: a splat must be the injector's fault. */
static const char *check_request(const struct run *run)
{
	bool slab = run->kind != KIND_PAGE && run->kind != KIND_PAGE_BULK;
	bool sleeps = run->kind == KIND_CREATE_CACHE || run->kind >= KIND_KVMALLOC || run->scope != SCOPE_NONE;
	bool atomic = run->from == FROM_SOFTIRQ || run->from == FROM_HARDIRQ;

	if (slab && (run->gfp & (__GFP_HIGHMEM | __GFP_MOVABLE | __GFP_COMP)))
		return "a slab allocation can't take that gfp";
	if ((run->gfp & __GFP_NOFAIL) && (!(run->gfp & __GFP_DIRECT_RECLAIM) || run->order > 1 || run->size > PAGE_SIZE))
		return "NOFAIL needs direct reclaim and a small size";
	if (atomic && ((run->gfp & __GFP_DIRECT_RECLAIM) || sleeps))
		return "may sleep, and that in an interrupt";
	if (run->from != FROM_TASK && run->sleep_ms)
		return "only from=task sleeps";
	if (run->from == FROM_TASK && run->cpu >= 0)
		return "from=task runs where the writer runs: pin the writer";
	if (run->kind == KIND_SLAB_BULK && !run->cache)
		return "slab-bulk needs a cache";
	if (run->kind == KIND_DUP && run->size > 64)
		return "dup copies at most 64 bytes";
	return NULL;
}

static const char *parse_request(struct run *run)
{
	char *rest = run->line;
	char *word;
	const char *error;

	run->kind = KIND_SLAB;
	run->cache = NULL;
	run->size = 64;
	run->order = 0;
	run->batch = 16;
	run->count = 1;
	run->gfp = GFP_KERNEL;
	run->scope = SCOPE_NONE;
	run->from = FROM_TASK;
	run->cpu = -1;
	run->chain = 0;
	run->turns = false;
	run->depth = 0;
	run->sleep_ms = 0;
	run->calls = 0;
	run->failed = 0;
	run->first_failed_ns = 0;
	run->last_failed_ns = 0;
	run->last_cpu = -1;
	run->last_pid = 0;
	run->context = "none";

	while ((word = strsep(&rest, " \t\n"))) {
		if (!*word)
			continue;
		error = parse_word(run, word);
		if (error)
			return error;
	}
	return check_request(run);
}

static own_frame int injector_test_run(struct run *run)
{
	int error = 0;

	switch (run->from) {
	case FROM_TASK:
		injector_test_task(run);
		if (run->sleep_ms)
			schedule_timeout_killable(msecs_to_jiffies(run->sleep_ms));
		break;
	case FROM_WORKQUEUE:
		if (run->cpu < 0)
			schedule_work(&run->work);
		else
			schedule_work_on(run->cpu, &run->work);
		flush_work(&run->work);
		break;
	case FROM_SOFTIRQ:
	case FROM_HARDIRQ:
		error = in_interrupts(run);
		break;
	}
	no_tail_call();
	return error;
}

static own_frame ssize_t injector_test_write(struct file *file, const char __user *from, size_t length, loff_t *offset)
{
	struct run *run = file->private_data;
	const char *reason;
	u64 start;
	int error;

	if (length >= MAX_LINE)
		return -EINVAL;
	error = mutex_lock_interruptible(&run->lock);
	if (error)
		return error;
	if (copy_from_user(run->line, from, length)) {
		mutex_unlock(&run->lock);
		return -EFAULT;
	}
	run->line[length] = '\0';
	reason = parse_request(run);
	if (reason) {
		error = -EINVAL;
		run->result_len = scnprintf(run->result, sizeof(run->result), "error=%s\n", reason);
	} else {
		start = ktime_get_ns();
		error = injector_test_run(run);
		run->result_len = scnprintf(run->result, sizeof(run->result),
			"calls=%lu failed=%lu ns=%llu first_failed_ns=%llu last_failed_ns=%llu cpu=%d context=%s pid=%d\n",
			run->calls, run->failed, ktime_get_ns() - start, run->first_failed_ns, run->last_failed_ns,
			run->last_cpu, run->context, run->last_pid);
	}
	mutex_unlock(&run->lock);
	/* The result is read from its start after each request. */
	*offset = 0;
	return error ? error : length;
}

static ssize_t injector_test_read(struct file *file, char __user *to, size_t length, loff_t *offset)
{
	struct run *run = file->private_data;
	ssize_t done;

	done = mutex_lock_interruptible(&run->lock);
	if (done)
		return done;
	done = simple_read_from_buffer(to, length, offset, run->result, run->result_len);
	mutex_unlock(&run->lock);
	return done;
}

static int injector_test_open(struct inode *inode, struct file *file)
{
	struct run *run = kzalloc(sizeof(*run), GFP_KERNEL);

	if (!run)
		return -ENOMEM;
	mutex_init(&run->lock);
	init_completion(&run->done);
	INIT_WORK(&run->work, injector_test_work);
	tasklet_setup(&run->tasklet, injector_test_softirq);
	init_irq_work(&run->irq_work, injector_test_hardirq);
	file->private_data = run;
	return 0;
}

static int injector_test_release(struct inode *inode, struct file *file)
{
	struct run *run = file->private_data;

	tasklet_kill(&run->tasklet);
	irq_work_sync(&run->irq_work);
	kfree(run);
	return 0;
}

static const struct file_operations run_operations = {
	.owner = THIS_MODULE,
	.open = injector_test_open,
	.release = injector_test_release,
	.read = injector_test_read,
	.write = injector_test_write,
	.llseek = default_llseek,
};

/* What a live patch does to a function, but for the change. */
static void notrace changes_nothing(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				    struct ftrace_regs *fregs)
{
}

static struct ftrace_ops change = { .func = changes_nothing, .flags = FTRACE_OPS_FL_IPMODIFY };
static DEFINE_MUTEX(change_lock);

static ssize_t change_write(struct file *file, const char __user *from, size_t length, loff_t *offset)
{
	char name[64];
	int error = -EBUSY;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, from, length))
		return -EFAULT;
	name[length] = '\0';
	mutex_lock(&change_lock);
	if (!file->private_data) {
		error = ftrace_set_filter(&change, name, length, 1) ?: register_ftrace_function(&change);
		if (!error)
			file->private_data = &change;
	}
	mutex_unlock(&change_lock);
	return error ?: length;
}

static int change_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;
	return 0;
}

static int change_release(struct inode *inode, struct file *file)
{
	if (file->private_data) {
		unregister_ftrace_function(&change);
		ftrace_free_filter(&change);
	}
	return 0;
}

static const struct file_operations change_operations = {
	.owner = THIS_MODULE,
	.open = change_open,
	.release = change_release,
	.write = change_write,
};

static void destroy_caches(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(caches); i++)
		kmem_cache_destroy(caches[i].cache);
}

static int __init injector_test_init(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(caches); i++) {
		caches[i].cache = kmem_cache_create(caches[i].name, caches[i].size, 0, caches[i].flags, NULL);
		if (!caches[i].cache) {
			destroy_caches();
			return -ENOMEM;
		}
	}
	directory = debugfs_create_dir("injector_test", NULL);
	debugfs_create_file("run", 0600, directory, NULL, &run_operations);
	debugfs_create_file("change", 0600, directory, NULL, &change_operations);
	return 0;
}

static void __exit injector_test_exit(void)
{
	debugfs_remove(directory);
	destroy_caches();
}

module_init(injector_test_init);
module_exit(injector_test_exit);

MODULE_DESCRIPTION("Allocates exactly what it is told, for the tests of the injector");
MODULE_LICENSE("GPL");
