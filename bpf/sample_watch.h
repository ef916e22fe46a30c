/* SPDX-License-Identifier: GPL-2.0-only */
/* What sched_sample.bpf.c keeps for each task that it follows. */
#ifndef SAMPLE_WATCH_H
#define SAMPLE_WATCH_H

struct task_ids {			/* the ids of struct task_record, in its order */
	u32 pid;
	u32 tgid;
	u32 others[12];
};
_Static_assert(sizeof(struct task_ids) == __builtin_offsetof(struct task_record, state) - __builtin_offsetof(struct task_record, pid),
	       "struct task_ids is copied as the ids of struct task_record");

#define WATCH_MOVED (1 << 0)		/* it ran since its last report */

struct watch {
	u64 cred;			/* address of its credentials when it was last reported */
	u64 due;			/* of its next report, ns */
	u64 tick;			/* jiffies, while that is not due */
	u32 flags;
	u32 old_pid;			/* of a failed exec that changed its id */
	u32 exec_id;			/* of the last exec that was told */
	u32 born;			/* its birth was told; apart, because a pass changes the flags meanwhile */
	u32 told;			/* it was told of, or that was lost: what is kept here holds */
	u32 ended;			/* it ran for the last time */
	struct task_ids ids;		/* as they were at its birth, exec or exit: at its last switch it has none any more */
};
#define TASK_MEMORY struct watch

#endif
