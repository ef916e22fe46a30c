/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One task_record for each task of the namespace that the reader asked for. Nothing is written and nobody is disturbed.
 *
 * The iterator walks the tasks that the reader's own pid namespace sees. What a reader wants stands in the map `readers`,
 * by its thread id; its value holds the scratch memory as well, so that concurrent readers never share any.
 */
struct reader {
	struct reader_head head;
	struct task_record record;
	struct task_extra extra;
	u64 stack[MAX_STACK];
	u8 tail[MAX_GROUPS * sizeof(u32)];
	u8 xstate[MAX_XSTATE];
};

BPF_F_TABLE("hash", u64, struct reader, readers, 256, BPF_F_NO_PREALLOC);

/* Tells a reader without an entry who it is, once. */
static __always_inline void introduce(struct bpf_iter__task *ctx, u64 tid)
{
	struct reader_identity identity = { .size = sizeof(identity), .tid = tid };
	struct task_struct *current_task = (void *)bpf_get_current_task();
	struct pid *pid = NULL;

	if (ctx->meta->seq_num)
		return;
	bpf_probe_read_kernel(&pid, sizeof(pid), (void *)&current_task->thread_pid);
	bpf_probe_read_kernel(&identity.level, sizeof(identity.level), (void *)&pid->level);
	bpf_seq_write(ctx->meta->seq, &identity, sizeof(identity));
}

/* The reader's entry where it asked for this task, its record filled in; else NULL. */
static __always_inline struct reader *record_for(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	u64 tid = bpf_get_current_pid_tgid();
	struct reader *reader = readers.lookup(&tid);
	u32 pid;

	if (!task)
		return NULL;
	if (!reader) {
		introduce(ctx, tid);
		return NULL;
	}
	pid = asked_for(&reader->head.asked, task);
	if (!pid)
		return NULL;
	__builtin_memset(&reader->record, 0, sizeof(reader->record));
	reader->record.size = sizeof(reader->record);
	reader->record.pid = pid;
	read_ids(&reader->head.asked, task, &reader->record);
	read_task(task, &reader->record);
	return reader;
}

int bpf_iter__task(struct bpf_iter__task *ctx)
{
	struct reader *reader = record_for(ctx);

	if (reader)
		bpf_seq_write(ctx->meta->seq, &reader->record, sizeof(reader->record));
	return 0;
}
