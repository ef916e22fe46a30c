/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What sched_sample.bpf.c tells of a task, and when: its maps, the ids and the records of reports, and whether one is due.
 *
 * Reports are compiled with UNTRUSTED_POINTERS: the verifier searches the kernel's whole BTF for each pointer that a program
 * follows by itself, which takes it ten times as long, and reports are few. Only what every switch reads is followed (FOLLOW).
 */
#ifndef SCHED_REPORT_H
#define SCHED_REPORT_H

#define LONGEST_TICK 10000000		/* ns: HZ is at least 100 */
#define EXIT_STATES 0x30		/* EXIT_DEAD | EXIT_ZOMBIE */
#define NO_SIGNAL 0xffffffffU		/* exit_signal of what is no leader */

struct sample {
	struct sample_head head;
	struct task_record task;
};

struct sampler {
	struct asked asked;
	/* scratch of the one pass that is read at a time */
	struct sample pass;
	struct watch nobody;
};

BPF_ARRAY(samplers, struct sampler, 1);
BPF_ARRAY(settings, struct sample_options, 1);	/* apart, because user space changes them while programs run */
BPF_PERCPU_ARRAY(stats, struct sample_stats, 1);
BPF_F_TABLE("hash", u32, u64, seeds, 1, BPF_F_NO_PREALLOC);	/* id in the reader's namespace: start_boottime */
BPF_RINGBUF_OUTPUT(samples, 1);

static __always_inline struct sampler *the_sampler(void)
{
	int zero = 0;

	return samplers.lookup(&zero);
}

static __always_inline struct sample_stats *the_stats(void)
{
	int zero = 0;

	return stats.lookup(&zero);
}

static __always_inline void count_missed(void)
{
	struct sample_stats *mine = the_stats();

	if (mine)
		__sync_fetch_and_add(&mine->missed, 1);
}

static __always_inline void count_unknown(void)
{
	struct sample_stats *mine = the_stats();

	if (mine)
		__sync_fetch_and_add(&mine->unknown, 1);
}

/* Zeros before user space has set them. */
static __always_inline struct sample_options options(void)
{
	struct sample_options none = {}, *set;
	int zero = 0;

	set = settings.lookup(&zero);
	return set ? *set : none;
}

/* upid_at(pid, level).ns without a call, where the verifier lets the array be read (6.5, b69f0aeb0689: its length is open) */
static __always_inline u64 ns_at(struct pid *pid, u32 level)
{
#ifndef RAW_TP
	if (level == 0)
		return (u64)pid->numbers[0].ns;
	if (sizeof(pid->numbers) == 0) {
		if (level == 1)
			return (u64)pid->numbers[1].ns;
		if (level == 2)
			return (u64)pid->numbers[2].ns;
	}
#endif
	return upid_at(pid, level).ns;
}

/* Whether a task is in the asked namespace, once that has been seen. One that the kernel has taken its ids from may be. */
static __always_inline bool may_be_ours(struct sampler *sampler, struct task_struct *task)
{
	struct pid *pid = FOLLOW(task->thread_pid);
	u32 level = sampler->asked.request.ns_level;

	if (!pid)
		return true;
	return FOLLOW(pid->level) >= level && ns_at(pid, level) == sampler->asked.ns;
}

/* The ids of a task that still has them. False where it is not in the asked namespace. */
static __always_inline bool fill_ids(struct sampler *sampler, struct task_struct *task, struct task_record *record)
{
	record->pid = asked_for(&sampler->asked, task);
	if (!record->pid)
		return false;
	read_ids(&sampler->asked, task, record);
	return true;
}

static __always_inline void keep(struct watch *watch, u32 kind, struct task_record *record)
{
	if (!watch->told || kind == SAMPLE_EXEC)
		watch->exec_id = record->exec_id;
	__builtin_memcpy(&watch->ids, &record->pid, sizeof(watch->ids));
	if (!watch->told)
		__sync_fetch_and_add(&watch->told, 1);
}

/*
 * The end of a task that a pass just meets is told where the pass is sure to see that (gone()) or has kept who it is. Each does
 * its own atomic addition before it looks at the other's, so that they cannot both miss it.
 */
static __always_inline bool ends(struct watch *watch)
{
	__sync_fetch_and_add(&watch->ended, 1);
	return watch->told;
}

/* Whether a task that a pass met ended meanwhile, perhaps before it had a watch. Its end may be told, though it was not shown. */
static __always_inline bool gone(struct task_struct *task, struct watch *watch, bool new)
{
	return watch->ended || (new && task_state(task) & (EXIT_STATES | TASK_DEAD));
}

static __always_inline void submit(struct sample *sample, struct sample_stats *mine)
{
	u64 flags = BPF_RB_NO_WAKEUP;

	if (!(++mine->reports & options().wake_mask))
		flags = BPF_RB_FORCE_WAKEUP;
	samples.ringbuf_submit(sample, flags);
}

/* The ids of a report, and what is told of them. False where nobody can know the task by its id yet. */
static __always_inline bool identify(struct sampler *sampler, struct task_struct *task, struct watch *watch, struct sample *sample)
{
	u32 kind = sample->head.kind;

	if (kind == SAMPLE_EXIT) {
		__builtin_memcpy(&sample->task.pid, &watch->ids, sizeof(watch->ids));
		sample->head.old_pid = watch->old_pid;
		if (watch->ids.pid == watch->ids.tgid && (u32)READ(task->exit_signal) == NO_SIGNAL)
			sample->head.flags |= SAMPLE_DISPLACED;
		/* it may have been killed in the midst of an exec, but it did not end by itself there */
		if (watch->exec_id != (u32)READ(task->self_exec_id) && !(READ(task->exit_code) & 0x7f))
			sample->head.flags |= SAMPLE_EXEC_LOST;
		return true;
	}
	if (!fill_ids(sampler, task, &sample->task))
		return false;
	if (kind == SAMPLE_STATE && watch->ids.pid && watch->ids.pid != sample->task.pid)
		return false;	/* it just took over its leader's id, and will tell at its exec */
	if (kind == SAMPLE_EXEC && watch->ids.pid != sample->task.pid)
		sample->head.old_pid = watch->ids.pid;
	return true;
}

static __always_inline void begin(struct sample *sample, u32 kind, u64 cred, struct watch *watch)
{
	__builtin_memset(sample, 0, sizeof(*sample));
	sample->head.size = sizeof(sample->head);
	sample->head.kind = kind;
	sample->head.flags = watch->cred && watch->cred != cred ? SAMPLE_NEW_CRED : 0;
	sample->head.time = bpf_ktime_get_ns();
	sample->head.cpu = bpf_get_smp_processor_id();
	sample->task.size = sizeof(sample->task);
}

static __always_inline void reported(struct watch *watch, u64 cred, u64 now)
{
	watch->cred = cred;
	watch->due = now + options().interval;
	watch->tick = 0;
	watch->flags &= ~WATCH_MOVED;
}

/* The ids that a task has now. A task_record would not fit the stack: this is one of which the ids alone exist. */
static __always_inline void keep_ids(struct sampler *sampler, struct task_struct *task, struct watch *watch)
{
	fill_ids(sampler, task, (void *)((char *)&watch->ids - __builtin_offsetof(struct task_record, pid)));
}

/* A report that finds no room is counted, and the next is due when it would have been. */
static __always_inline void report(struct sampler *sampler, struct task_struct *task, struct watch *watch, u32 kind)
{
	struct sample *sample = samples.ringbuf_reserve(sizeof(*sample));
	struct sample_stats *mine = the_stats();
	u64 cred = (u64)READ(task->real_cred);

	if (!sample) {
		if (mine)
			__sync_fetch_and_add(&mine->dropped, 1);
		reported(watch, cred, bpf_ktime_get_ns());
		if (kind == SAMPLE_FORK || kind == SAMPLE_EXEC) {
			keep_ids(sampler, task, watch);
			watch->exec_id = READ(task->self_exec_id);
			watch->told = 1;
		}
		return;
	}
	begin(sample, kind, cred, watch);
	if (!mine || !identify(sampler, task, watch, sample)) {
		samples.ringbuf_discard(sample, BPF_RB_NO_WAKEUP);
		return;
	}
	sample->head.dropped = mine->dropped;
	reported(watch, cred, sample->head.time);
	read_task(task, &sample->task);
	keep(watch, kind, &sample->task);
	submit(sample, mine);
}

/* An exec replaces credentials as well, before it is told. */
static __always_inline bool new_credentials(struct task_struct *task, struct watch *watch)
{
	return watch->cred != (u64)FOLLOW(task->real_cred) && watch->exec_id == (u32)FOLLOW(task->self_exec_id);
}

/* Whether it is time. Reading the clock can cost more than all the rest of a switch: a task does so once in a tick. */
static __always_inline bool has_come(struct watch *watch)
{
	u64 now, tick = bpf_jiffies64();

	if (watch->tick == tick)
		return false;
	now = bpf_ktime_get_ns();
	if (now + LONGEST_TICK < watch->due)
		watch->tick = tick;
	return now >= watch->due;
}

/* Whether a task that ran has to be reported now; where not, that it ran is kept. */
static __always_inline bool due(struct task_struct *task, struct watch *watch)
{
	struct sample_stats *mine;

	if (new_credentials(task, watch) || has_come(watch))
		return true;
	if (!(watch->flags & WATCH_MOVED)) {
		watch->flags |= WATCH_MOVED;
		mine = the_stats();
		if (mine)
			__sync_fetch_and_add(&mine->moved, 1);
	}
	return false;
}

#endif
