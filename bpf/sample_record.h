/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the sampler reports: a sample_head, and behind it the task_record of the task at that instant. tools/generate derives
 * Python's view of it, as of task_record.h.
 */
#ifndef SAMPLE_RECORD_H
#define SAMPLE_RECORD_H

/* sample_head.kind */
#define SAMPLE_STATE 0		/* the task's interval was due */
#define SAMPLE_FORK 1		/* a new task, before it first runs */
#define SAMPLE_EXEC 2		/* the task executes another program */
#define SAMPLE_EXIT 3		/* the task has run for the last time: its counters are final */

/* sample_head.flags */
#define SAMPLE_NEW_CRED (1 << 0)	/* the task's credentials were replaced since its last report */
#define SAMPLE_DISPLACED (1 << 1)	/* exit of a leader whose id another thread took over by exec: it dies with that one's id */
#define SAMPLE_EXEC_LOST (1 << 2)	/* exit of a task that executed a program and could not tell */

struct sample_head {
	u32 size;		/* sizeof(struct sample_head) */
	u32 kind;		/* SAMPLE_* */
	u64 time;		/* CLOCK_MONOTONIC, ns */
	u32 cpu;		/* that reported it */
	u32 old_pid;		/* exec, exit: the id that the task had before, where it changed; else 0 */
	u64 dropped;		/* reports that found no room on this cpu, up to this one */
	u64 flags;		/* SAMPLE_NEW_CRED, SAMPLE_DISPLACED, SAMPLE_EXEC_LOST */
};

/* What user space sets. */
#define SAMPLE_TREE (1 << 0)		/* not the whole namespace: what is seeded, and what it forks */
#define SAMPLE_SEEDED (1 << 1)		/* every task was seen once: one that is not followed is missed */
#define SAMPLE_OVERDUE (1 << 2)		/* a pass shows tasks whose last report is older than what they did since, not all */
#define SAMPLE_ON_CPU (1 << 3)		/* and tasks on a cpu, for no tick reports them */

struct sample_options {
	u64 interval;		/* ns from one report of a state to the next */
	u32 wake_mask;		/* user space is woken when a cpu's count of reports has none of these bits set */
	u32 flags;
};

/* Per cpu, rising. */
struct sample_stats {
	u64 dropped;		/* reports that found no room */
	u64 missed;		/* tasks that are not followed, for want of memory */
	u64 unknown;		/* switches of tasks of the namespace that nobody saw born, nor a pass */
	u64 moved;		/* times that a task ran first after its report */
	u64 reports;
};

#endif
