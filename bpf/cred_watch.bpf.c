/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reports every change of the credentials of the tasks of a namespace, or of a process tree in it: what they were and are.
 *
 * A task's credentials are replaced in one place, commit_creds(new), by the task itself. FENTRY and without: on entry to it, as
 * fentry or kprobe. FOLLOW_SWITCHES, for kernels that let neither be: compared, at the end of each of the task's turns on a
 * cpu, with what they were at its birth, in the first pass or when they were last reported. So two changes within one turn
 * are one, and one of a task that does not leave its cpu is not seen. A change that was taken back within the turn is counted,
 * by the address of the credentials.
 *
 * All is compiled with UNTRUSTED_POINTERS; only what every switch looks at is followed directly (FOLLOW).
 */
#define MAX_DEPTH 256			/* of the watched tree */

BPF_ARRAY(watched, struct cred_watch, 1);
BPF_RINGBUF_OUTPUT(changes, 256);

static __always_inline struct cred_watch *the_watch(void)
{
	int zero = 0;

	return watched.lookup(&zero);
}

/* Each member of cred_values but the groups, from `cred` by GET. */
#define EACH_VALUE(VALUE, GET) \
	VALUE(user, GET(GET(cred->user)->uid.val)) \
	VALUE(uid, GET(cred->uid.val)) \
	VALUE(euid, GET(cred->euid.val)) \
	VALUE(suid, GET(cred->suid.val)) \
	VALUE(fsuid, GET(cred->fsuid.val)) \
	VALUE(gid, GET(cred->gid.val)) \
	VALUE(egid, GET(cred->egid.val)) \
	VALUE(sgid, GET(cred->sgid.val)) \
	VALUE(fsgid, GET(cred->fsgid.val)) \
	VALUE(securebits, GET(cred->securebits)) \
	VALUE(user_ns, GET(GET(cred->user_ns)->ns.inum)) \
	VALUE(ngroups, GET(GET(cred->group_info)->ngroups)) \
	VALUE(cap_inheritable, CAPS(GET, cred->cap_inheritable)) \
	VALUE(cap_permitted, CAPS(GET, cred->cap_permitted)) \
	VALUE(cap_effective, CAPS(GET, cred->cap_effective)) \
	VALUE(cap_bset, CAPS(GET, cred->cap_bset)) \
	VALUE(cap_ambient, CAPS(GET, cred->cap_ambient))

static __always_inline void read_values(struct cred *cred, struct cred_values *values)
{
	struct group_info *groups = READ(cred->group_info);
	u64 count;

#define READ_VALUE(name, value) values->name = value;
	EACH_VALUE(READ_VALUE, READ)
#undef READ_VALUE
	__builtin_memset(values->groups, 0, sizeof(values->groups));
	count = bounded(values->ngroups, MAX_CRED_GROUPS);
	if (count)
		bpf_probe_read_kernel(values->groups, count * sizeof(u32), (void *)groups->gid);
}

/* Whether the task is below options.root, which is the whole of the namespace where that is 0. */
static __always_inline bool in_tree(struct cred_watch *watch, struct task_struct *task)
{
	struct task_struct *parent;

	if (!watch->options.root)
		return true;
	for (int i = 0; i < MAX_DEPTH && task; i++) {
		if (own_nr(&watch->asked, READ(task->group_leader)) == watch->options.root)
			return true;
		parent = READ(task->real_parent);
		if (parent == task)	/* the machine's first process */
			return false;
		task = parent;
	}
	if (task)	/* too deep to tell */
		__sync_fetch_and_add(&watch->options.dropped, 1);
	return false;
}

/* Room for a report, or NULL and the loss counted. */
static __always_inline struct cred_change *begin(struct cred_watch *watch, struct task_struct *task)
{
	struct cred_change *change = changes.ringbuf_reserve(sizeof(*change));

	if (!change) {
		__sync_fetch_and_add(&watch->options.dropped, 1);
		return NULL;
	}
	change->size = sizeof(*change);
	change->pad = 0;
	change->time = bpf_ktime_get_ns();
	change->start_boottime = task_start_boottime(task);
	*(u64 *)change->comm = READ(*(volatile u64 *)task->comm);
	*(u64 *)(change->comm + 8) = READ(*(volatile u64 *)(task->comm + 8));
	return change;
}

static __always_inline void read_own_ids(struct cred_watch *watch, struct task_struct *task, u32 *tgid, u32 *host_pid, u32 *host_tgid)
{
	struct task_struct *leader = READ(task->group_leader);

	*tgid = asked_nr(&watch->asked, READ(leader->thread_pid));
	*host_pid = own_nr(&watch->asked, task);
	*host_tgid = own_nr(&watch->asked, leader);
}

#ifndef FOLLOW_SWITCHES

#ifdef FENTRY
#define NEW_CRED(ctx) ((struct cred *)(ctx)[0])
#else
#define NEW_CRED(ctx) ((struct cred *)(ctx)[14])	/* pt_regs.di */
#endif

static __always_inline bool differ(struct cred *old, struct cred *new)
{
	if (READ(old->group_info) != READ(new->group_info))
		return true;
#define RETURN_IF_DIFFERENT(name, value) { \
	struct cred *cred = old; \
	u64 was = value; \
	cred = new; \
	if (was != value) \
		return true; }
	EACH_VALUE(RETURN_IF_DIFFERENT, READ)
#undef RETURN_IF_DIFFERENT
	return false;
}

/* commit_creds(new): most calls (every exec makes one) change nothing */
int on_commit(u64 *ctx)
{
	struct task_struct *task = current_task();
	struct cred *old = READ(task->real_cred), *new = NEW_CRED(ctx);
	struct cred_watch *watch = the_watch();
	struct cred_change *change;
	u32 pid;

	if (!watch)
		return 0;
	pid = asked_for(&watch->asked, task);
	if (!pid || !differ(old, new) || !in_tree(watch, task))
		return 0;
	change = begin(watch, task);
	if (!change)
		return 0;
	change->pid = pid;
	read_own_ids(watch, task, &change->tgid, &change->host_pid, &change->host_tgid);
	read_values(old, &change->old);
	read_values(new, &change->new);
	changes.ringbuf_submit(change, 0);
	return 0;
}

#else

/* Begins to follow a task. Never at a switch: there the run queue is locked, and memory is not to be asked for. */
static __always_inline int follow(struct task_struct *task)
{
	struct cred_watch *watch = the_watch();
	struct known *known;
	struct cred *cred;
	u32 pid;

	if (!task || !watch)
		return 0;
	pid = asked_for(&watch->asked, task);
	if (!pid)
		return 0;
	known = memory_new(task);
	if (!known) {
		__sync_fetch_and_add(&watch->options.dropped, 1);
		return 0;
	}
	known->pid = 0;
	cred = READ(task->real_cred);
	known->cred = (u64)cred;
	known->exec_id = READ(task->self_exec_id);
	known->group_info = (u64)READ(cred->group_info);
	read_own_ids(watch, task, &known->tgid, &known->host_pid, &known->host_tgid);
	read_values(cred, &known->values);
	asm volatile("" ::: "memory");
	known->pid = pid;		/* until now on_switch lets it be: the task may be on another cpu */
	return 0;
}

static __always_inline bool differs(struct known *known, struct cred *cred)
{
	u64 different = known->group_info != (u64)FOLLOW(cred->group_info);	/* a pointer is compared, never computed with */

#define DIFFERENT(name, value) different |= known->values.name ^ value;
	EACH_VALUE(DIFFERENT, FOLLOW)
#undef DIFFERENT
	return different;
}

static __always_inline void report(struct cred_watch *watch, struct task_struct *task, struct known *known)
{
	struct cred *cred = READ(task->real_cred);
	u32 pid = asked_for(&watch->asked, task);
	struct cred_change *change;

	if (pid) {
		known->pid = pid;
		read_own_ids(watch, task, &known->tgid, &known->host_pid, &known->host_tgid);
	}
	change = in_tree(watch, task) ? begin(watch, task) : NULL;
	if (change) {
		change->pid = known->pid;
		change->tgid = known->tgid;
		change->host_pid = known->host_pid;
		change->host_tgid = known->host_tgid;
		__builtin_memcpy(&change->old, &known->values, sizeof(change->old));
	}
	known->cred = (u64)cred;
	known->exec_id = READ(task->self_exec_id);
	known->group_info = (u64)READ(cred->group_info);
	read_values(cred, &known->values);
	if (change) {
		__builtin_memcpy(&change->new, &known->values, sizeof(change->new));
		changes.ringbuf_submit(change, 0);
	}
}

/* The values are as they were. Where the credentials are others, who knows what they were in between. */
static __always_inline void look_at_replacement(struct cred_watch *watch, struct task_struct *task, struct known *known)
{
	u64 cred = (u64)FOLLOW(task->real_cred), exec_id = FOLLOW(task->self_exec_id);

	if (known->cred == cred)
		return;
	if (known->exec_id == exec_id && in_tree(watch, task))
		__sync_fetch_and_add(&watch->options.replaced, 1);
	known->cred = cred;
	known->exec_id = exec_id;
}

/* sched_switch(preempt, prev, next, ...) */
int on_switch(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[1];
	struct known *known = memory_of(task);
	struct cred_watch *watch = the_watch();

	if (!known || !known->pid || !watch)
		return 0;
	if (differs(known, FOLLOW(task->real_cred)))
		report(watch, task, known);
	else
		look_at_replacement(watch, task, known);
	memory_end(task);
	return 0;
}

/* sched_process_fork(parent, child) */
int on_fork(u64 *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx[1];

	memory_begin(child);	/* whatever its namespace: a zombie that a pass met has no last switch to end its memory */
	return follow(child);
}

/* what was there before */
int on_pass(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	return task && !memory_of(task) ? follow(task) : 0;
}

#endif
