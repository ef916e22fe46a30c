/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What crosses the kernel boundary of a reading of /proc: one entry of the map `readings`, by the reader's
 * bpf_get_current_pid_tgid(). tools/generate derives Python's view of it, as of task_record.h.
 */
#ifndef WITNESS_RECORD_H
#define WITNESS_RECORD_H

/* reading.stage */
#define READING_ENTERED 1	/* `before` holds */
#define READING_RETURNED 2	/* `after` as well */

struct reading {
	struct asked asked;
	u32 stage;		/* READING_*; 0 on the way in */
	u32 pad;
	u64 task;		/* address of the task that is rendered, which a kretprobe is not told */
	u64 begin;		/* ns, monotonic: before anything of `before` was read */
	u64 end;		/* and after everything of `after` was */
	struct task_record before;
	struct task_record after;
};

#endif
