/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fills in a task_record from a task. Every program that reports tasks reads them here, so that all mean the same by a field.
 * Each access to kernel memory stands in a READ() of its own (compat.h), with one pointer followed in it.
 */
#ifndef TASK_READ_H
#define TASK_READ_H

struct upid_value {			/* struct upid as it lies in memory */
	u32 nr;
	u32 pad;
	u64 ns;
};

static __always_inline u32 ns_inum(u64 ns)
{
	u32 inum = 0;

	bpf_probe_read_kernel(&inum, sizeof(inum), (void *)&((struct pid_namespace *)ns)->ns.inum);
	return inum;
}

static __always_inline struct upid_value upid_at(struct pid *pid, u32 level)
{
	struct upid_value upid = {};

	if (pid && READ(pid->level) >= level)
		bpf_probe_read_kernel(&upid, sizeof(upid), (char *)pid + __builtin_offsetof(struct pid, numbers) + level * sizeof(upid));
	return upid;
}

/* pid_nr_ns(): the number in the asked namespace, or 0 */
static __always_inline u32 asked_nr(struct asked *asked, struct pid *pid)
{
	struct upid_value upid = upid_at(pid, asked->request.ns_level);

	return upid.ns == asked->ns ? upid.nr : 0;
}

/* the same in the reader's own namespace, which every task that it can see is in, but not their parents */
static __always_inline u32 own_nr(struct asked *asked, struct task_struct *task)
{
	if (asked->request.own_level == 0)
		return READ(task->pid);
	return upid_at(READ(task->thread_pid), asked->request.own_level).nr;
}

/* The task's number in the asked namespace; 0 where it is not in it. */
static __always_inline u32 asked_for(struct asked *asked, struct task_struct *task)
{
	struct upid_value upid = upid_at(READ(task->thread_pid), asked->request.ns_level);

	if (!upid.ns)
		return 0;
	if (upid.ns != asked->ns) {
		if (ns_inum(upid.ns) != asked->request.ns)
			return 0;
		asked->ns = upid.ns;
	}
	return upid.nr;
}

/* Of a task whose asked_for() stands in record->pid. */
static __always_inline void read_ids(struct asked *asked, struct task_struct *task, struct task_record *record)
{
	struct signal_struct *signal = READ(task->signal);
	struct pid *own = READ(task->thread_pid), *group = READ(signal->pids[PIDTYPE_TGID]);
	struct pid *pgrp = READ(signal->pids[PIDTYPE_PGID]), *session = READ(signal->pids[PIDTYPE_SID]);
	struct task_struct *parent = READ(task->parent), *real_parent = READ(task->real_parent);
	struct task_struct *leader = READ(task->group_leader);
	struct pid *leader_pid = READ(leader->thread_pid);

	record->tgid = group == own ? record->pid : asked_nr(asked, group);
	record->leader = record->tgid;
	if (leader_pid != group)	/* in the midst of an exec by another thread */
		record->leader = asked_nr(asked, leader_pid);
	record->rppid = asked_nr(asked, READ(real_parent->thread_pid));
	record->ppid = parent == real_parent ? record->rppid : asked_nr(asked, READ(parent->thread_pid));
	record->pgrp = pgrp == group ? record->tgid : asked_nr(asked, pgrp);
	record->session = session == group ? record->tgid : session == pgrp ? record->pgrp : asked_nr(asked, session);
	record->old_pgrp = asked_nr(asked, READ(signal->tty_old_pgrp));

	record->host_pid = own_nr(asked, task);
	record->host_tgid = group == own ? record->host_pid : own_nr(asked, leader);
	record->host_rppid = own_nr(asked, real_parent);
	record->host_ppid = parent == real_parent ? record->host_rppid : own_nr(asked, parent);
	record->ns_level = READ(own->level);
	record->pid_ns = record->ns_level == asked->request.ns_level
		? asked->request.ns : ns_inum(upid_at(own, record->ns_level).ns);
}

static __always_inline void read_state(struct task_struct *task, struct task_record *record)
{
	struct signal_struct *signal = READ(task->signal);

	record->state = task_state(task);
	record->thrflags = READ(task->thread_info.flags);
	record->thrstatus = READ(task->thread_info.status);
	record->syscall_work = task_syscall_work(task, &record->valid);
	record->jobctl = READ(task->jobctl);
	record->pf_flags = READ(task->flags);
	record->ptrace = READ(task->ptrace);
	record->vfork = READ(task->vfork_done) && !(record->pf_flags & PF_KTHREAD);
	record->exit_code = READ(task->exit_code);
	record->exit_signal = READ(task->exit_signal);
	record->pdeath_signal = READ(task->pdeath_signal);
	record->group_exit_code = READ(signal->group_exit_code);
	record->nr_threads = READ(signal->nr_threads);
	record->signal_flags = READ(signal->flags);
	record->set_tid = (u64)READ(task->set_child_tid);
	record->clear_tid = (u64)READ(task->clear_child_tid);
	*(u64 *)record->comm = READ(*(volatile u64 *)task->comm);
	*(u64 *)(record->comm + 8) = READ(*(volatile u64 *)(task->comm + 8));
}

static __always_inline void read_credentials(struct task_struct *task, struct task_record *record)
{
	struct cred *cred = READ(task->real_cred);
	struct user_struct *user = READ(cred->user);
	struct group_info *groups = READ(cred->group_info);
	struct user_namespace *user_ns = READ(cred->user_ns);

	record->user = READ(user->uid.val);
	record->uid = READ(cred->uid.val);
	record->euid = READ(cred->euid.val);
	record->suid = READ(cred->suid.val);
	record->fsuid = READ(cred->fsuid.val);
	record->gid = READ(cred->gid.val);
	record->egid = READ(cred->egid.val);
	record->sgid = READ(cred->sgid.val);
	record->fsgid = READ(cred->fsgid.val);
	record->securebits = READ(cred->securebits);
	record->cap_inheritable = READ_CAPS(cred->cap_inheritable);
	record->cap_permitted = READ_CAPS(cred->cap_permitted);
	record->cap_effective = READ_CAPS(cred->cap_effective);
	record->cap_bset = READ_CAPS(cred->cap_bset);
	record->cap_ambient = READ_CAPS(cred->cap_ambient);
	record->no_new_privs = READ(task->atomic_flags) & 1;	/* PFA_NO_NEW_PRIVS */
	record->ngroups = READ(groups->ngroups);
	record->user_ns = READ(user_ns->ns.inum);
	record->cred_override = READ(task->cred) != cred;
	read_seccomp(task, record);
}

static __always_inline void read_times(struct task_struct *task, struct task_record *record)
{
	record->utime = READ(task->utime);
	record->stime = READ(task->stime);
	record->gtime = READ(task->gtime);
	record->valid |= task_vtime(task);
	record->prev_utime = READ(task->prev_cputime.utime);
	record->prev_stime = READ(task->prev_cputime.stime);
	record->start_time = READ(task->start_time);
	record->start_boottime = task_start_boottime(task);
	record->sum_exec_runtime = READ(task->se.sum_exec_runtime);
	record->nvcsw = READ(task->nvcsw);
	record->nivcsw = READ(task->nivcsw);
	record->min_flt = READ(task->min_flt);
	record->maj_flt = READ(task->maj_flt);
	read_accounting(task, record);
}

static __always_inline void read_scheduling(struct task_struct *task, struct task_record *record)
{
	struct signal_struct *signal = READ(task->signal);

	record->policy = READ(task->policy);
	record->prio = READ(task->prio);
	record->static_prio = READ(task->static_prio);
	record->normal_prio = READ(task->normal_prio);
	record->rt_priority = READ(task->rt_priority);
	record->nr_cpus_allowed = READ(task->nr_cpus_allowed);
	record->cpu = task_cpu_nr(task);
	if (record->state & TASK_TRACED_BIT && task_queued(task))
		record->valid |= TASK_QUEUED;
	asm volatile("" ::: "memory");	/* who is off the queue leaves the cpu, and never the other way round */
	record->on_cpu = READ(task->on_cpu);
	record->sig_blocked = READ(task->blocked.sig[0]);
	record->sig_pending = READ(task->pending.signal.sig[0]);
	record->sig_shared_pending = READ(signal->shared_pending.signal.sig[0]);
}

static __always_inline void read_surroundings(struct task_struct *task, struct task_record *record)
{
	struct nsproxy *nsproxy = READ(task->nsproxy);
	struct mm_struct *mm = READ(task->mm);

	if (nsproxy) {
		record->mnt_ns = READ(READ(nsproxy->mnt_ns)->ns.inum);
		record->uts_ns = READ(READ(nsproxy->uts_ns)->ns.inum);
		record->ipc_ns = READ(READ(nsproxy->ipc_ns)->ns.inum);
		record->net_ns = READ(READ(nsproxy->net_ns)->ns.inum);
		record->cgroup_ns = READ(READ(nsproxy->cgroup_ns)->ns.inum);
		record->pid_ns_for_children = READ(READ(nsproxy->pid_ns_for_children)->ns.inum);
		record->valid |= TASK_HAS_NSPROXY;
		read_time_namespaces(nsproxy, record);
	}
	if (mm && !(record->pf_flags & PF_KTHREAD)) {
		struct file *exe = READ(mm->exe_file);
		struct inode *inode = READ(exe->f_inode);

		record->total_vm = READ(mm->total_vm);
		record->exe_ino = READ(inode->i_ino);
		record->exe_dev = READ(READ(inode->i_sb)->s_dev);
		record->valid |= TASK_HAS_MM;
	}
	record->exec_id = READ(task->self_exec_id);
#ifdef HAVE_task_struct_cgroups /* CONFIG_CGROUPS */
	record->cgroup_id = READ(READ(READ(READ(task->cgroups)->dfl_cgrp)->kn)->id);
	record->valid |= TASK_HAS_CGROUP;
#endif
}

/* All but the ids. */
static __always_inline void read_task(struct task_struct *task, struct task_record *record)
{
	read_state(task, record);
	read_credentials(task, record);
	read_times(task, record);
	read_scheduling(task, record);
	read_surroundings(task, record);
}

#endif
