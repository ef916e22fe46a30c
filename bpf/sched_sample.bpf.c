/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Follows every task of a namespace, or of a process tree in it. A switch of a task that is not followed costs a comparison;
 * one of a task whose report is not due, a look at what is kept for it (struct watch).
 *
 * A watch is made at the task's birth or by a pass, never at a switch: there the run queue is locked, and an allocation that
 * wakes kswapd would lock it again.
 */

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
