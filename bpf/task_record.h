/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What crosses the kernel boundary: one record per task. tools/generate derives Python's view of it, and the reader
 * compares `size` with that view, so the two cannot part unnoticed. A member has the name that the catalogue
 * (cptbpf/fields.py) gives it, which says also where the kernel keeps it. Keep every member on its natural boundary: no padding.
 *
 * "asked namespace": the pid namespace that the reader asked for; an id is 0 where the task is not visible there.
 */
#ifndef TASK_RECORD_H
#define TASK_RECORD_H

/* task_record.valid: what this kernel and this task have. A member whose bit is off holds nothing. */
#define TASK_HAS_SECCOMP (1 << 0)	/* CONFIG_SECCOMP */
#define TASK_HAS_SCHED_INFO (1 << 1)	/* CONFIG_SCHED_INFO */
#define TASK_HAS_SYSCALL_WORK (1 << 2)	/* the word split off thread_info.flags */
#define TASK_HAS_SIGHAND (1 << 3)	/* not of a dead task */
#define TASK_HAS_TASK_XACCT (1 << 4)	/* CONFIG_TASK_XACCT */
#define TASK_HAS_TASK_IO (1 << 5)	/* CONFIG_TASK_IO_ACCOUNTING */
#define TASK_HAS_NSPROXY (1 << 6)	/* not of a dead task */
#define TASK_HAS_TIME_NS (1 << 7)	/* nsproxy.time_ns */
#define TASK_HAS_MM (1 << 8)		/* not of a dead task, not of a kernel thread */
#define TASK_HAS_CGROUP (1 << 9)	/* CONFIG_CGROUPS */
#define TASK_HAS_SECCOMP_COUNT (1 << 10) /* seccomp.filter_count */
/* Not all of its times have been counted: it is on a cpu whose tick is off. utime, stime and gtime hold the rest. */
#define TASK_VTIME (1 << 11)
/* A tracer is about to stop it: it has the state already, but it lost its cpu on the way, and will go on to the stop. */
#define TASK_QUEUED (1 << 12)

#define TASK_COMM_LEN 16

struct task_record {
	u32 size;		/* sizeof(struct task_record) */
	u32 valid;		/* TASK_HAS_*, TASK_VTIME, TASK_QUEUED */

	/* ids in the asked namespace */
	u32 pid;
	u32 tgid;
	u32 ppid;
	u32 rppid;
	u32 pgrp;
	u32 session;
	u32 old_pgrp;
	u32 leader;

	/* ids in the pid namespace of the reader */
	u32 host_pid;
	u32 host_tgid;
	u32 host_ppid;
	u32 host_rppid;
	u32 ns_level;		/* level of the task's own pid namespace */
	u32 pid_ns;		/* and its inode number */

	/* state */
	u64 state;		/* __state | exit_state */
	u64 thrflags;
	u64 thrstatus;
	u64 syscall_work;
	u64 jobctl;
	u32 pf_flags;
	u32 ptrace;
	u32 vfork;		/* 1: its parent waits in vfork for this task */
	u32 exit_code;
	u32 exit_signal;
	u32 pdeath_signal;
	u32 group_exit_code;
	u32 nr_threads;
	u64 signal_flags;
	u64 set_tid;
	u64 clear_tid;
	u8 comm[TASK_COMM_LEN];

	/* credentials */
	u32 user;
	u32 uid;
	u32 euid;
	u32 suid;
	u32 fsuid;
	u32 gid;
	u32 egid;
	u32 sgid;
	u32 fsgid;
	u32 securebits;
	u64 cap_inheritable;
	u64 cap_permitted;
	u64 cap_effective;
	u64 cap_bset;
	u64 cap_ambient;
	u32 no_new_privs;
	u32 seccomp_mode;
	u32 seccomp_filters;
	u32 ngroups;
	u32 user_ns;
	u32 cred_override;

	/* times, ns */
	u64 utime;
	u64 stime;
	u64 gtime;
	u64 prev_utime;
	u64 prev_stime;
	u64 start_time;		/* monotonic */
	u64 start_boottime;
	u64 sum_exec_runtime;
	u64 run_delay;
	u64 run_count;

	/* counters */
	u64 nvcsw;
	u64 nivcsw;
	u64 min_flt;
	u64 maj_flt;
	u64 rchar;
	u64 wchar;
	u64 syscr;
	u64 syscw;
	u64 read_bytes;
	u64 write_bytes;
	u64 cancelled_write_bytes;

	/* scheduling */
	u32 policy;
	s32 prio;
	s32 static_prio;
	s32 normal_prio;
	u32 rt_priority;
	u32 nr_cpus_allowed;
	u32 cpu;
	u32 on_cpu;

	/* signals; bit N-1 is signal N */
	u64 sig_blocked;
	u64 sig_pending;
	u64 sig_shared_pending;

	/* namespaces, by inode number */
	u32 mnt_ns;
	u32 uts_ns;
	u32 ipc_ns;
	u32 net_ns;
	u32 cgroup_ns;
	u32 time_ns;
	u32 time_ns_for_children;
	u32 pid_ns_for_children;

	/* address space, cgroup */
	u64 total_vm;
	u64 exe_ino;
	u32 exe_dev;
	u32 exec_id;
	u64 cgroup_id;
};

/*
 * What a snapshot takes besides. It follows the task's task_record in the stream, and is itself followed by
 *	struct pid_level	[levels]
 *	u32			[groups], and 4 bytes of padding where groups is odd
 *	u64			[stack]		return addresses, innermost first
 *	u8			[xstate]	the FPU area as it lies in kernel memory, perhaps compacted
 */
#define EXTRA_HAS_REGS (1 << 0)		/* user registers and xstate are exact: off-CPU all the while that they were read */
#define EXTRA_ON_CPU (1 << 1)		/* on a CPU meanwhile: what was read of its registers is stale */
#define EXTRA_GROUPS_CUT (1 << 2)	/* more groups than MAX_GROUPS: groups is 0 */
#define EXTRA_NO_SIGHAND (1 << 3)	/* of a dead task */

#define MAX_LEVELS 33			/* MAX_PID_NS_LEVEL + 1 */
#define MAX_GROUPS 2048
#define MAX_STACK 48
#define MAX_XSTATE 12288		/* the largest area known, with AMX tiles, is 11008 */

struct task_extra {
	u32 size;		/* sizeof(struct task_extra) */
	u32 has;		/* EXTRA_* */
	u32 levels;
	u32 groups;
	u32 stack;
	u32 xstate;
	u64 sig_ignored;
	u64 sig_caught;
	u64 pt_regs[21];	/* struct pt_regs, in its order */
	u64 fsbase;
	u64 gsbase;
	u32 fsindex;
	u32 gsindex;
	u32 ds;
	u32 es;
	u64 tls[3];		/* descriptors of the GDT */
	u64 dr[4];		/* addresses of the breakpoints set through ptrace */
	u64 dr6;		/* as PTRACE_PEEKUSER shows it */
	u64 dr7;
	u64 pkru;		/* thread.pkru; all ones where the kernel keeps it in the xstate */
};

struct pid_level {
	u32 nr;
	u32 ns;			/* inode number of the pid namespace */
};

/* How a reader says what it wants: one entry of the map `readers`, by its bpf_get_current_pid_tgid(). */
#define READER_STACK (1 << 0)		/* take kernel stacks */
#define READER_REGS (1 << 1)		/* take registers and FPU */
#define READER_NO_FSGSBASE (1 << 2)	/* the CPU has no RDFSBASE: see task_segment_base() */

struct reader_request {
	u32 ns;			/* inode number of the asked namespace */
	u32 ns_level;		/* its level */
	u32 own_level;		/* level of the reader's own pid namespace */
	u32 flags;		/* READER_* */
};

/* A request as it stands in a map. */
struct asked {
	struct reader_request request;
	u64 ns;			/* address of the asked pid_namespace, once a program has seen it */
};

/* What leads an entry of the map `readers`. */
struct reader_head {
	struct asked asked;
	u64 running;		/* tasks of a full pass that no tracer had stopped, or that had not left their CPU */
};

/* What a reader gets that has no entry: who it is. A reader in a nested pid namespace cannot know its global id otherwise. */
struct reader_identity {
	u32 size;		/* sizeof(struct reader_identity) */
	u32 level;		/* level of its pid namespace */
	u64 tid;		/* the key of its entry */
};

#endif
