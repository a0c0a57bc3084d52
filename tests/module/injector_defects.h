/* SPDX-License-Identifier: GPL-2.0 */
#ifndef INJECTOR_DEFECTS_H
#define INJECTOR_DEFECTS_H

#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/types.h>

/* A function that stands in stacks under its own name. */
#define own_frame noinline __noclone

/* A file of the directory. `run` is what a write() does: 0, or a negative errno. */
struct code_path {
	const char *name;
	int (*run)(void);
};

#define DEFECT(id) { #id, defect_##id }, { #id ".twin", twin_##id }
#define BAIT(id) { "bait." #id, bait_##id }

/* Each ends with an entry without a name. */
extern const struct code_path memory_paths[];
extern const struct code_path state_paths[];
extern const struct code_path bait_paths[];

/* What most paths allocate. SLUB keeps its free pointer in the middle of a free object: `reused` lies there. */
struct item {
	unsigned long value;
	unsigned long *counter;
	unsigned long unused[2];
	union {
		void *reused;
		struct list_head link;
	};
	struct list_head pair;
};

static_assert(offsetof(struct item, reused) == sizeof(struct item) / 2);

/* A cache of its own, never merged with another: then /proc/slabinfo counts its objects, and damage stays inside. */
struct kmem_cache *own_cache(const char *name, unsigned int size);

int memory_init(void);
void memory_exit(void);
void state_exit(void);
int bait_init(void);
void bait_exit(void);

#endif
