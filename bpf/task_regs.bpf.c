/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What task_iter.bpf.c reads, and besides: ids at every level, supplementary groups, signal handlers, kernel stack, user
 * registers, debug registers, TLS and the FPU area. Registers in memory are those of a task that is off-CPU, stopped or not.
 */

static __always_inline void read_handlers(struct task_struct *task, struct task_extra *extra)
{
	struct sighand_struct *sighand = task->sighand;
	u64 ignored = 0, caught = 0;

	if (!sighand) {
		extra->has |= EXTRA_NO_SIGHAND;
		return;
	}
#pragma unroll
	for (int i = 0; i < 64; i++) {
		u64 handler = (u64)sighand->action[i].sa.sa_handler;

		if (handler == 1)		/* SIG_IGN */
			ignored |= 1ULL << i;
		else if (handler)
			caught |= 1ULL << i;
	}
	extra->sig_ignored = ignored;
	extra->sig_caught = caught;
}

static __always_inline void read_debug_registers(struct task_struct *task, struct task_extra *extra)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		struct perf_event *event = task->thread.ptrace_bps[i];

		if (event)
			extra->dr[i] = event->hw.info.address;
	}
	extra->dr6 = task_dr6(task);
	extra->dr7 = task->thread.ptrace_dr7;
}

/*
 * Registers and FPU as the task left them. What memory holds is stale while it is on a CPU, and may be torn where it was on
 * one in between: on_cpu and the switch counters are looked at before and after.
 */
static __always_inline void read_user_state(struct task_struct *task, struct reader *reader)
{
	struct task_extra *extra = &reader->extra;
	u64 switches = task->nvcsw + task->nivcsw;
	u32 before = task->on_cpu, size = 0;
	void *xstate;

	bpf_probe_read_kernel(extra->pt_regs, sizeof(extra->pt_regs), task_user_regs(task));
	extra->fsbase = task->thread.fsbase;
	extra->gsbase = task->thread.gsbase;
	extra->fsindex = task->thread.fsindex;
	extra->gsindex = task->thread.gsindex;
	if (reader->head.asked.request.flags & READER_NO_FSGSBASE) {
		extra->fsbase = task_segment_base(task, extra->fsindex, extra->fsbase);
		extra->gsbase = task_segment_base(task, extra->gsindex, extra->gsbase);
	}
	extra->ds = task->thread.ds;
	extra->es = task->thread.es;
	extra->pkru = task_pkru(task);
	xstate = task_xstate(task, &size);
	if (size <= MAX_XSTATE && !bpf_probe_read_kernel(reader->xstate, bounded(size, MAX_XSTATE), xstate))
		extra->xstate = size;
	if (before || task->on_cpu || switches != task->nvcsw + task->nivcsw)
		extra->has |= EXTRA_ON_CPU;
	else
		extra->has |= EXTRA_HAS_REGS;
}

static __always_inline void write_levels(struct seq_file *seq, struct reader *reader, struct pid *pid)
{
	struct pid_level level;

	for (u32 i = 0; i < MAX_LEVELS; i++) {
		struct upid_value upid;

		if (i > reader->record.ns_level)
			return;
		upid = upid_at(pid, i);
		level.nr = upid.nr;
		level.ns = ns_inum(upid.ns);
		bpf_seq_write(seq, &level, sizeof(level));
	}
}

static __always_inline void write_groups(struct seq_file *seq, struct reader *reader, struct task_struct *task)
{
	u64 length = bounded(reader->extra.groups * sizeof(u32), sizeof(reader->tail));
	u32 padding = 0;

	if (!length)
		return;
	bpf_probe_read_kernel(reader->tail, length, (void *)task->real_cred->group_info->gid);
	bpf_seq_write(seq, reader->tail, length);
	if (reader->extra.groups & 1)
		bpf_seq_write(seq, &padding, sizeof(padding));
}

static __always_inline void write_task(struct seq_file *seq, struct reader *reader, struct task_struct *task)
{
	u64 stack = bounded(reader->extra.stack * sizeof(u64), sizeof(reader->stack));
	u64 xstate = bounded(reader->extra.xstate, sizeof(reader->xstate));

	bpf_seq_write(seq, &reader->record, sizeof(reader->record));
	bpf_seq_write(seq, &reader->extra, sizeof(reader->extra));
	write_levels(seq, reader, task->thread_pid);
	write_groups(seq, reader, task);
	if (stack)
		bpf_seq_write(seq, reader->stack, stack);
	if (xstate)
		bpf_seq_write(seq, reader->xstate, xstate);
}

/* Stopped by a tracer, off the queue, and off its CPU: from now on all of it stands still. */
static __always_inline bool stands_still(struct task_struct *task)
{
	u64 state = task_state(task);

	bool queued;

	asm volatile("" ::: "memory");
	queued = task_queued(task);
	asm volatile("" ::: "memory");
	return state & TASK_TRACED_BIT && !queued && !task->on_cpu;
}

int bpf_iter__task_regs(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	bool still = task && stands_still(task);	/* before anything else is read of it */
	struct reader *reader = record_for(ctx);
	struct task_extra *extra;
	long stack;

	if (!reader || !task)
		return 0;
	extra = &reader->extra;
	__builtin_memset(extra, 0, sizeof(*extra));
	extra->size = sizeof(*extra);
	extra->levels = reader->record.ns_level + 1;
	extra->groups = reader->record.ngroups;
	if (extra->groups > MAX_GROUPS) {
		extra->groups = 0;
		extra->has |= EXTRA_GROUPS_CUT;
	}
	read_handlers(task, extra);
	bpf_probe_read_kernel(extra->tls, sizeof(extra->tls), (void *)task->thread.tls_array);
	read_debug_registers(task, extra);
	if (reader->head.asked.request.flags & READER_REGS && reader->record.valid & TASK_HAS_MM)
		read_user_state(task, reader);
	if (reader->head.asked.request.flags & READER_STACK) {
		stack = bpf_get_task_stack(task, reader->stack, sizeof(reader->stack), 0);
		if (stack > 0)
			extra->stack = stack / sizeof(u64);
	}
	write_task(ctx->meta->seq, reader, task);
	if (!still)
		/* where the buffer is full, what was written of the task is dropped, and it is shown again */
		reader->head.running += !bpf_seq_write(ctx->meta->seq, extra, 0);
	return 0;
}
