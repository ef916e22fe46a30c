/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a set that hangs on sched_switch keeps for each task that it follows: one struct, which the set names as TASK_MEMORY.
 *
 * NO_TASK_STORAGE: in a hash by the task's address, for kernels without task storage for tracing programs (before 5.13,
 * a10787e6d58c, "bpf: Enable task local storage for tracing programs"). RAW_TP: for kernels that load no BTF tracepoints; a raw
 * one gets plain addresses.
 */
#ifndef TASK_MEMORY_H
#define TASK_MEMORY_H

/* READ() where a program may follow a pointer by itself although UNTRUSTED_POINTERS is set: for what every switch looks at. */
#ifdef RAW_TP
#define FOLLOW(member) READ(member)
#else
#define FOLLOW(member) (member)
#endif

#define TASK_DEAD 0x80			/* linux/sched.h: a macro; its value since 4.14 */
#define MAX_FOLLOWED 65536		/* tasks in the hash */

#ifdef TASK_MEMORY
#ifdef NO_TASK_STORAGE
BPF_TABLE("hash", u64, TASK_MEMORY, memories, MAX_FOLLOWED);

static __always_inline TASK_MEMORY *memory_of(struct task_struct *task)
{
	u64 key = (u64)task;

	return memories.lookup(&key);
}

/* The memory of a task, made where there is none yet. NULL where none can be had. */
static __always_inline TASK_MEMORY *memory_new(struct task_struct *task)
{
	TASK_MEMORY none = {};
	u64 key = (u64)task;

	memories.insert(&key, &none);
	return memories.lookup(&key);
}

/* Of a task that is just being born: what is there is that of a dead one, at whose address it lies. */
static __always_inline void memory_begin(struct task_struct *task)
{
	u64 key = (u64)task;

	memories.delete(&key);
}

/* To be called at the task's last switch, or at every one. */
static __always_inline void memory_end(struct task_struct *task)
{
	u64 key = (u64)task;

	if (FOLLOW(task->STATE_WORD) & TASK_DEAD)
		memories.delete(&key);
}
#else
BPF_TASK_STORAGE(memories, TASK_MEMORY);

static __always_inline TASK_MEMORY *memory_of(struct task_struct *task)
{
	return memories.task_storage_get(task, 0, 0);
}

/* The kernel makes none (EAGAIN) where a pass and a birth meet in one instant on two cpus: then it is there now. */
static __always_inline TASK_MEMORY *memory_new(struct task_struct *task)
{
	TASK_MEMORY *memory = memories.task_storage_get(task, 0, 1 /* BPF_LOCAL_STORAGE_GET_F_CREATE */);

	return memory ? memory : memory_of(task);
}

static __always_inline void memory_begin(struct task_struct *task)
{
}

static __always_inline void memory_end(struct task_struct *task)	/* it goes with the task */
{
}
#endif

/* Whether memory can be had with the run queue locked: of the hash's own elements, or as the kernel has it. */
static __always_inline bool allocates_anywhere(void)
{
#ifdef NO_TASK_STORAGE
	return true;
#else
	return storage_allocates_anywhere();
#endif
}

/* The current task, as memory_of() takes it. */
static __always_inline struct task_struct *running_task(void)
{
#ifdef NO_TASK_STORAGE
	return (void *)bpf_get_current_task();
#else
	return (void *)bpf_get_current_task_btf();
#endif
}
#endif

#endif
