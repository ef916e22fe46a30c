/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Follows every task of a namespace, or of a process tree in it. A switch of a task that is not followed costs a comparison;
 * one of a task whose report is not due, a look at what is kept for it (struct watch).
 *
 * A watch is made at the task's birth or by a pass, never at a switch: there the run queue is locked, and an allocation that
 * wakes kswapd would lock it again.
 *
 * Reports are compiled with UNTRUSTED_POINTERS: the verifier searches the kernel's whole BTF for each pointer that a program
 * follows by itself, which takes it ten times as long, and reports are few. Only what every switch reads is followed (FOLLOW).
 */
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

/* sched_switch(preempt, prev, next, ...) */
int on_switch(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	struct sampler *sampler = the_sampler();
	struct watch *watch;
	bool dead;

	if (!sampler || !may_be_ours(sampler, task))
		return 0;
	watch = memory_of(task);
	if (!watch) {
		if ((options().flags & (SAMPLE_SEEDED | SAMPLE_TREE)) == SAMPLE_SEEDED && FOLLOW(task->thread_pid) && FOLLOW(task->pid))
			count_unknown();
		return 0;
	}
	dead = FOLLOW(task->STATE_WORD) & TASK_DEAD;
	if (dead ? ends(watch) : due(task, watch))
		report(sampler, task, watch, dead ? SAMPLE_EXIT : SAMPLE_STATE);
	if (dead)
		memory_end(task);
	return 0;
}

static __always_inline int executed(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct sampler *sampler = the_sampler();
	struct watch *watch;

	if (!sampler || !may_be_ours(sampler, task))
		return 0;
	watch = memory_of(task);
	if (watch && watch->exec_id != (u32)FOLLOW(task->self_exec_id))
		report(sampler, task, watch, SAMPLE_EXEC);
	return 0;
}

/*
 * Where tracepoints can be preempted (seen on 7.3) a task may be in the midst of one of the programs below, and the kernel leaves
 * the same program out for the next task on that cpu. So each has a stand-in, which does nothing where the first one did it:
 * on_newborn for on_fork, also where that found no memory, on_exec_again for on_exec; without on_exit a task's end has the ids
 * that it had before. Switches and wake-ups cannot be preempted.
 */

/* Tells a birth once: a pass may have met the child before. False for want of memory. */
static __always_inline bool born(struct sampler *sampler, struct task_struct *child)
{
	struct watch *watch = memory_new(child);

	if (!watch)
		return false;
	if (!watch->born) {
		watch->born = 1;
		report(sampler, child, watch, SAMPLE_FORK);
	}
	return true;
}

/* sched_process_fork(parent, child) */
int on_fork(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	struct sampler *sampler = the_sampler();

	if (!sampler || !asked_for(&sampler->asked, child))
		return 0;
	if (options().flags & SAMPLE_TREE && !memory_of(parent))
		return 0;
	if (!born(sampler, child) && !allocates_anywhere())
		count_missed();		/* else on_newborn tries again */
	return 0;
}

/* sched_wakeup_new(child), by its parent */
int on_newborn(u64 *ctx)
{
	struct task_struct *child = (void *)ctx[0];
	struct sampler *sampler = the_sampler();
	struct watch *watch;

	if (!allocates_anywhere() || !sampler || !may_be_ours(sampler, child))
		return 0;
	watch = memory_of(child);
	if (watch && watch->born)
		return 0;
	if (options().flags & SAMPLE_TREE && !memory_of(running_task()))
		return 0;
	if (!born(sampler, child))
		count_missed();
	return 0;
}

/* sched_process_exec(task, old_pid, bprm) */
int on_exec(u64 *ctx)
{
	return executed(ctx);
}

int on_exec_again(u64 *ctx)
{
	return executed(ctx);
}

/* sched_process_exit(task): it still has all its ids, and loses some before its last switch */
int on_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct sampler *sampler = the_sampler();
	struct watch *watch;
	u32 old_pid;

	if (!sampler || !may_be_ours(sampler, task))
		return 0;
	watch = memory_of(task);
	if (!watch)
		return 0;
	old_pid = watch->ids.pid;
	keep_ids(sampler, task, watch);
	if (watch->ids.pid != old_pid)
		watch->old_pid = old_pid;
	return 0;
}

#ifdef HAVE_TYPED_CURRENT
/* local_timer_entry: the tick of a cpu on which a task runs, perhaps for long without a switch */
int on_tick(u64 *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct sampler *sampler = the_sampler();
	struct watch *watch;

	if (!sampler || !may_be_ours(sampler, task))
		return 0;
	watch = memory_of(task);
	if (watch && due(task, watch))
		report(sampler, task, watch, SAMPLE_STATE);
	return 0;
}
#endif

/* A watch for a task that nobody saw born; NULL where it is not to be followed. One that ended is only shown. */
static __always_inline struct watch *watch_met(struct sampler *sampler, struct task_struct *task)
{
	struct watch *watch;
	u64 *started;
	u32 number;

	if (options().flags & SAMPLE_TREE) {
		number = own_nr(&sampler->asked, task);
		started = seeds.lookup(&number);
		if (!started || *started != task_start_boottime(task))
			return NULL;
	}
	if (task_state(task) & EXIT_STATES) {
		__builtin_memset(&sampler->nobody, 0, sizeof(sampler->nobody));
		sampler->nobody.told = 1;
		return &sampler->nobody;
	}
	watch = memory_new(task);
	if (!watch)
		count_missed();
	return watch;
}

/* The clock comes last: most tasks of most passes sleep. */
static __always_inline bool overdue(struct task_struct *task, struct watch *watch, u32 flags)
{
	if (!(watch->flags & WATCH_MOVED) && !(flags & SAMPLE_ON_CPU && READ(task->on_cpu)))
		return false;
	return bpf_ktime_get_ns() >= watch->due;
}

/* iter/task: shows tasks as they are now, and follows those that nobody saw born */
int on_pass(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct sampler *sampler = the_sampler();
	u32 flags = options().flags;
	struct sample *sample;
	struct watch *watch;
	u64 cred;
	bool new;

	if (!sampler || !task)
		return 0;
	watch = memory_of(task);
	if (flags & SAMPLE_OVERDUE && (!watch || !overdue(task, watch, flags)))
		return 0;
	if (!asked_for(&sampler->asked, task))
		return 0;
	if (!watch)
		watch = watch_met(sampler, task);
	if (!watch)
		return 0;
	sample = &sampler->pass;
	cred = (u64)READ(task->real_cred);
	begin(sample, SAMPLE_STATE, cred, watch);
	if (!identify(sampler, task, watch, sample))
		return 0;
	read_task(task, &sample->task);
	new = !watch->told;
	keep(watch, SAMPLE_STATE, &sample->task);
	if (gone(task, watch, new))
		return 0;
	if (bpf_seq_write(ctx->meta->seq, sample, sizeof(*sample)))
		return 0;	/* it is shown again */
	reported(watch, cred, sample->head.time);
	return 0;
}
