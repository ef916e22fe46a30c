/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's values at the moment that /proc reads them: a task_record at entry to the function that renders a file of a
 * task, and another at its return. A value that both agree on is the one that the file was rendered from.
 *
 * Only for readers with an entry in the map `readings`, by their thread id: for everybody else it is one look into a map.
 */
BPF_F_TABLE("hash", u64, struct reading, readings, 64, BPF_F_NO_PREALLOC);

/*
 * do_task_stat(m, ns, pid, task, whole) and proc_pid_status(m, ns, pid, task). A kprobe has struct pt_regs, in which the
 * fourth argument is cx.
 */
#ifdef UNTRUSTED_POINTERS
#define RENDERED_TASK(ctx) ((struct task_struct *)(ctx)[11])
#else
#define RENDERED_TASK(ctx) ((struct task_struct *)(ctx)[3])
#endif

static __always_inline void witness(struct reading *reading, struct task_struct *task, struct task_record *record)
{
	__builtin_memset(record, 0, sizeof(*record));
	record->size = sizeof(*record);
	record->pid = asked_for(&reading->asked, task);
	read_ids(&reading->asked, task, record);
	read_task(task, record);
}

static __always_inline int entered(u64 *ctx)
{
	u64 tid = bpf_get_current_pid_tgid();
	struct reading *reading = readings.lookup(&tid);

	if (!reading)
		return 0;
	/* once more where the text outgrew its buffer: then the reader gets the last one */
	reading->begin = bpf_ktime_get_ns();
	reading->task = (u64)RENDERED_TASK(ctx);
	witness(reading, RENDERED_TASK(ctx), &reading->before);
	reading->stage = READING_ENTERED;
	return 0;
}

static __always_inline int returned(u64 *ctx)
{
	u64 tid = bpf_get_current_pid_tgid();
	struct reading *reading = readings.lookup(&tid);

	if (!reading || reading->stage != READING_ENTERED)
		return 0;
#ifdef UNTRUSTED_POINTERS
	witness(reading, (struct task_struct *)reading->task, &reading->after);
#else
	witness(reading, RENDERED_TASK(ctx), &reading->after);
#endif
	reading->end = bpf_ktime_get_ns();
	reading->stage = READING_RETURNED;
	return 0;
}

int stat_entered(u64 *ctx)
{
	return entered(ctx);
}

int stat_returned(u64 *ctx)
{
	return returned(ctx);
}

int status_entered(u64 *ctx)
{
	return entered(ctx);
}

int status_returned(u64 *ctx)
{
	return returned(ctx);
}
