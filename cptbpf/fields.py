"""The catalogue: every field that cptbpf knows, in one place.

A field's name here is its name everywhere: in ``bpf/task_record.h``, in :class:`cptbpf.kernel.record.TaskState` (but for the few
that are made of a member of another name: see :attr:`Field.record`), in the image (there with the prefix ``cpt_``), in JSON and
in the field table of the documentation. To add a field, add it to the C record, add it here at the **end** of its group (readers
go by ``cpt_hdrlen``), and run ``tools/generate``.

The module imports nothing but :mod:`typing`, so that every room may use it.
"""

from typing import NamedTuple


class Field(NamedTuple):
    """One field of a task.

    ``ctype``
        Type in the image: ``u32``, ``s32``, ``u64``, ``char[16]`` or ``u64[3]``.
    ``unit``
        What the number counts, or ``""``.
    ``source``
        Where the kernel keeps the value, on today's kernels (``bpf/compat.h`` has the older places).
    ``witnesses``
        Who else shows it. Of ``/proc/PID/task/TID``: ``stat N``, ``schedstat N`` and ``statm N`` (columns, from 1),
        ``status KEY``, ``status KEY N`` and ``status KEY *`` (the whole line), ``io KEY``, ``comm``, ``ns/NAME``, ``exe ino`` and
        ``exe dev``; ``group stat N`` is of ``/proc/PID``, for the leader; ``PTRACE_*`` and ``NT_*`` are of ptrace(2).
        ``status NS...`` means the entry of the namespace that was asked for.
    ``rule``
        How the kernel's value and a witness are compared: a name of :data:`RULES`.
    ``hex``
        The value is a mask or an address, and stands in JSON as a ``"0x…"`` string.
    ``needs``
        The ``TASK_HAS_*`` bit without which the kernel had no value (a key of :data:`NEEDS`), or ``""`` where it always has one.
    ``member``
        The member of the C record that it is made of, where that has another name.
    """

    name: str
    group: str
    ctype: str
    unit: str
    doc: str
    source: str
    witnesses: tuple[str, ...] = ()
    rule: str = ""
    hex: bool = False
    needs: str = ""
    member: str = ""

    @property
    def record(self) -> str:
        """The member of the C record, and of TaskState or TaskExtra, that the value is made of."""
        return self.member or self.name


#: Each rule is a function of :mod:`cptbpf.rules` under the same name; docs/rules.md is made from this.
RULES: dict[str, str] = {
    "": "has no other witness",
    "exact": "the witness shows the kernel's value",
    "bracket": "a rising counter: the witness lies between the kernel's values before and after it",
    "state": "the witness shows one letter for the highest bit of __state and exit_state; TASK_IDLE is I, TASK_FROZEN D, before 6.13 R",
    "flags": "the witness shows PF_* bits, which are compared as the CPT_PF_* bits of the image",
    "tgid": "the witness shows the thread group, in cptbpf's own pid namespace, of the task that the kernel names",
    "tracer": "the witness shows the parent of a traced task and 0 for any other, whose parent is its real parent",
    "exit_code": "stat of the process, not of the thread, shows group_exit_code instead while signal_flags has the group stopped or ending, since 5.17",
    "group_exit": "stat of the process shows the leader's exit_code instead unless signal_flags has the group stopped or ending; always before 5.17",
    "userns": "the witness maps ids into cptbpf's user namespace; without a place there they are kernel.overflowuid, overflowgid",
    "gids": "each of the list as userns",
    "levels": "the witness shows the levels from cptbpf's own pid namespace inwards",
    "comm": "the witness appends to the name of a kernel thread what the kernel holds elsewhere",
    "tls": "the descriptor taken apart as struct user_desc; an empty slot has flags 0x28",
    "cputime": "the witness scales utime and stime to sum_exec_runtime (cputime_adjust), in ticks of 1/USER_HZ s; of a task that runs on a cpu whose tick is off (nohz_full=) it adds what is not counted yet, which is not told",
    "shown": "what the last reader of /proc was shown, cut to ticks of 1/USER_HZ s",
    "ticks": "the witness is cut to ticks of 1/USER_HZ s; where the tick is off as cputime",
    "boottime": "the witness adds the boottime offset of cptbpf's time namespace (since 5.11) and is cut to ticks of 1/USER_HZ s",
    "prio": "the witness shows the priority less 100",
    "nice": "the witness shows the nice value: the priority less 120",
    "count": "the witness shows the list that the kernel counts",
    "weight": "the witness shows the mask whose bits the kernel counts",
    "file": "the witness is the open executable (fdinfo, mountinfo); before 5.14 stat(2), which overlayfs gives other numbers, and btrfs another device",
    "syscall": "within a system call the kernel keeps -ENOSYS until the task stops, and -ERESTART* from then on",
    "software": "bytes 464-511 of fxsave are the software's: not compared",
    "xstate": "each component that xstate_bv marks, in the standard format",
}

#: Each ``TASK_HAS_*`` bit that a field needs, and why there is no value without it.
NEEDS: dict[str, str] = {
    "SECCOMP": "the kernel has no CONFIG_SECCOMP",
    "SECCOMP_COUNT": "the kernel does not count seccomp filters",
    "SCHED_INFO": "the kernel has no CONFIG_SCHED_INFO",
    "SYSCALL_WORK": "this kernel has it in thrflags",
    "SIGHAND": "the task is dead",
    "TASK_XACCT": "the kernel has no CONFIG_TASK_XACCT",
    "TASK_IO": "the kernel has no CONFIG_TASK_IO_ACCOUNTING",
    "NSPROXY": "the task is dead",
    "TIME_NS": "the kernel has no time namespaces, or the task is dead",
    "MM": "the task is dead, or a kernel thread",
    "CGROUP": "the kernel has no CONFIG_CGROUPS",
}

GROUPS: dict[str, str] = {
    "task": "struct cpt_task_image",
    "host": "identity outside the namespace",
    "cred": "credentials beyond the ids",
    "sched": "scheduling",
    "signal": "signals",
    "io": "I/O accounting",
    "ns": "namespaces and cgroup, by inode number",
    "mm": "address space",
}

# fmt: off
FIELDS: tuple[Field, ...] = (
    # struct cpt_task_image, in its order
    Field("state", "task", "u64", "", "scheduler state and exit state, before the freeze", "task->__state | task->exit_state", ("stat 3",), "state", True),
    Field("flags", "task", "u64", "", "CPT_PF_* bits", "task->flags, re-encoded", ("stat 9",), "flags", True, member="pf_flags"),
    Field("thrflags", "task", "u64", "", "TIF_* bits of this kernel, before the freeze", "task->thread_info.flags", hex=True),
    Field("thrstatus", "task", "u64", "", "TS_* bits of this kernel", "task->thread_info.status", hex=True),
    Field("pid", "task", "u32", "", "thread id", "task->thread_pid", ("status NSpid",), "exact"),
    Field("tgid", "task", "u32", "", "thread-group id", "task->signal->pids[PIDTYPE_TGID]", ("status NStgid",), "exact"),
    Field("ppid", "task", "u32", "", "parent's thread id, before the freeze (the tracer of a traced task)", "task->parent", ("status TracerPid",), "tracer"),
    Field("rppid", "task", "u32", "", "real parent's thread id", "task->real_parent", ("status PPid",), "tgid"),
    Field("pgrp", "task", "u32", "", "process group", "task->signal->pids[PIDTYPE_PGID]", ("status NSpgid",), "exact"),
    Field("session", "task", "u32", "", "session", "task->signal->pids[PIDTYPE_SID]", ("status NSsid",), "exact"),
    Field("old_pgrp", "task", "u32", "", "foreground group that the terminal had", "task->signal->tty_old_pgrp"),
    Field("leader", "task", "u32", "", "thread-group leader's thread id", "task->group_leader", ("status NStgid",), "exact"),
    Field("set_tid", "task", "u64", "", "CLONE_CHILD_SETTID address", "task->set_child_tid", hex=True),
    Field("clear_tid", "task", "u64", "", "CLONE_CHILD_CLEARTID address", "task->clear_child_tid", hex=True),
    Field("exit_code", "task", "u32", "", "exit code in the kernel's form, before the freeze", "task->exit_code", ("stat 52", "group stat 52"), "exit_code"),
    Field("exit_signal", "task", "u32", "", "signal sent to the parent at exit; 0xffffffff for a thread", "task->exit_signal", ("stat 38",), "exact"),
    Field("pdeath_signal", "task", "u32", "", "signal received when the parent dies", "task->pdeath_signal"),
    Field("user", "task", "u32", "", "user that the task is charged to", "task->real_cred->user->uid"),
    Field("uid", "task", "u32", "", "real uid, as kuid", "task->real_cred->uid", ("status Uid 1",), "userns"),
    Field("euid", "task", "u32", "", "effective uid, as kuid", "task->real_cred->euid", ("status Uid 2",), "userns"),
    Field("suid", "task", "u32", "", "saved uid, as kuid", "task->real_cred->suid", ("status Uid 3",), "userns"),
    Field("fsuid", "task", "u32", "", "file-system uid, as kuid", "task->real_cred->fsuid", ("status Uid 4",), "userns"),
    Field("gid", "task", "u32", "", "real gid, as kgid", "task->real_cred->gid", ("status Gid 1",), "userns"),
    Field("egid", "task", "u32", "", "effective gid, as kgid", "task->real_cred->egid", ("status Gid 2",), "userns"),
    Field("sgid", "task", "u32", "", "saved gid, as kgid", "task->real_cred->sgid", ("status Gid 3",), "userns"),
    Field("fsgid", "task", "u32", "", "file-system gid, as kgid", "task->real_cred->fsgid", ("status Gid 4",), "userns"),
    Field("comm", "task", "char[16]", "", "command name", "task->comm", ("comm",), "comm"),
    Field("tls", "task", "u64[3]", "", "the three TLS descriptors of the GDT", "task->thread.tls_array", ("PTRACE_GET_THREAD_AREA",), "tls", True),
    Field("utime", "task", "u64", "ns", "user time of this thread", "task->utime", ("stat 14",), "cputime"),
    Field("stime", "task", "u64", "ns", "system time of this thread", "task->stime", ("stat 15",), "cputime"),
    Field("utimescaled", "task", "u64", "ns", "repeats utime: x86 has no scaled time", "task->utime", member="utime"),
    Field("stimescaled", "task", "u64", "ns", "repeats stime: x86 has no scaled time", "task->stime", member="stime"),
    Field("gtime", "task", "u64", "ns", "guest time of this thread", "task->gtime", ("stat 43",), "ticks"),
    Field("prev_utime", "task", "u64", "ns", "utime last shown to a reader of /proc", "task->prev_cputime.utime", ("stat 14",), "shown"),
    Field("prev_stime", "task", "u64", "ns", "stime last shown to a reader of /proc", "task->prev_cputime.stime", ("stat 15",), "shown"),
    Field("start_time", "task", "u64", "sec<<32|ns", "start on the monotonic clock", "task->start_time", hex=True),
    Field("real_start_time", "task", "u64", "sec<<32|ns", "start on the boottime clock", "task->start_boottime", ("stat 22",), "boottime", True, member="start_boottime"),
    Field("nvcsw", "task", "u64", "switches", "voluntary context switches, before the freeze", "task->nvcsw", ("status voluntary_ctxt_switches",), "bracket"),
    Field("nivcsw", "task", "u64", "switches", "involuntary context switches, before the freeze", "task->nivcsw", ("status nonvoluntary_ctxt_switches",), "bracket"),
    Field("min_flt", "task", "u64", "faults", "minor faults of this thread", "task->min_flt", ("stat 10",), "bracket"),
    Field("maj_flt", "task", "u64", "faults", "major faults of this thread", "task->maj_flt", ("stat 12",), "bracket"),
    # host
    Field("host_pid", "host", "u32", "", "thread id in cptbpf's own pid namespace", "task->thread_pid", ("status Pid",), "exact"),
    Field("host_tgid", "host", "u32", "", "thread-group id in cptbpf's own pid namespace", "task->signal->pids[PIDTYPE_TGID]", ("status Tgid",), "exact"),
    Field("host_ppid", "host", "u32", "", "parent's thread id in cptbpf's own pid namespace, before the freeze", "task->parent", ("status TracerPid",), "tracer"),
    Field("host_rppid", "host", "u32", "", "real parent's thread id in cptbpf's own pid namespace", "task->real_parent", ("status PPid",), "tgid"),
    Field("ns_level", "host", "u32", "", "level of the task's own pid namespace", "task->thread_pid->level"),
    Field("ptrace", "host", "u32", "", "PT_* bits of a tracer that is not cptbpf", "task->ptrace"),
    # cred
    Field("cap_inheritable", "cred", "u64", "", "inheritable capabilities", "task->real_cred->cap_inheritable", ("status CapInh",), "exact", True),
    Field("cap_permitted", "cred", "u64", "", "permitted capabilities", "task->real_cred->cap_permitted", ("status CapPrm",), "exact", True),
    Field("cap_effective", "cred", "u64", "", "effective capabilities", "task->real_cred->cap_effective", ("status CapEff",), "exact", True),
    Field("cap_bset", "cred", "u64", "", "capability bounding set", "task->real_cred->cap_bset", ("status CapBnd",), "exact", True),
    Field("cap_ambient", "cred", "u64", "", "ambient capabilities", "task->real_cred->cap_ambient", ("status CapAmb",), "exact", True),
    Field("securebits", "cred", "u32", "", "SECBIT_* flags", "task->real_cred->securebits"),
    Field("no_new_privs", "cred", "u32", "", "1 after PR_SET_NO_NEW_PRIVS", "task->atomic_flags bit 0", ("status NoNewPrivs",), "exact"),
    Field("seccomp_mode", "cred", "u32", "", "0 none, 1 strict, 2 filter", "task->seccomp.mode", ("status Seccomp",), "exact", needs="SECCOMP"),
    Field("seccomp_filters", "cred", "u32", "filters", "seccomp filters attached", "task->seccomp.filter_count", ("status Seccomp_filters",), "exact", needs="SECCOMP_COUNT"),
    Field("ngroups", "cred", "u32", "groups", "number of supplementary groups", "task->real_cred->group_info->ngroups", ("status Groups",), "count"),
    Field("user_ns", "cred", "u32", "", "user namespace, by inode number", "task->real_cred->user_ns", ("ns/user",), "exact"),
    Field("cred_override", "cred", "u32", "", "1 while the task acts under credentials that are not its own", "task->cred != task->real_cred"),
    # sched
    Field("policy", "sched", "u32", "", "SCHED_* policy", "task->policy", ("stat 41",), "exact"),
    Field("prio", "sched", "s32", "", "effective priority", "task->prio", ("stat 18",), "prio"),
    Field("static_prio", "sched", "s32", "", "120 + nice", "task->static_prio", ("stat 19",), "nice"),
    Field("normal_prio", "sched", "s32", "", "priority without inheritance", "task->normal_prio"),
    Field("rt_priority", "sched", "u32", "", "real-time priority", "task->rt_priority", ("stat 40",), "exact"),
    Field("nr_cpus_allowed", "sched", "u32", "cpus", "size of the affinity mask", "task->nr_cpus_allowed", ("status Cpus_allowed",), "weight"),
    Field("cpu", "sched", "u32", "", "cpu that the task runs or last ran on", "task->thread_info.cpu", ("stat 39",), "exact"),
    Field("on_cpu", "sched", "u32", "", "1 while the task is on a cpu, before the freeze", "task->on_cpu"),
    Field("sum_exec_runtime", "sched", "u64", "ns", "time on a cpu, by the scheduler's own account", "task->se.sum_exec_runtime", ("schedstat 1",), "bracket"),
    Field("run_delay", "sched", "u64", "ns", "time runnable but waiting for a cpu", "task->sched_info.run_delay", ("schedstat 2",), "bracket", needs="SCHED_INFO"),
    Field("run_count", "sched", "u64", "times", "times that the task was given a cpu", "task->sched_info.pcount", ("schedstat 3",), "bracket", needs="SCHED_INFO"),
    Field("pf_flags", "sched", "u32", "", "PF_* bits of this kernel", "task->flags", ("stat 9",), "exact"),
    Field("jobctl", "sched", "u64", "", "JOBCTL_* bits, before the freeze", "task->jobctl", hex=True),
    Field("syscall_work", "sched", "u64", "", "SYSCALL_WORK_* bits, before the freeze", "task->thread_info.syscall_work", hex=True, needs="SYSCALL_WORK"),
    # signal
    Field("sig_blocked", "signal", "u64", "", "blocked signals; bit N-1 is signal N", "task->blocked", ("status SigBlk",), "exact", True),
    Field("sig_pending", "signal", "u64", "", "signals pending for this thread", "task->pending.signal", ("status SigPnd",), "exact", True),
    Field("sig_shared_pending", "signal", "u64", "", "signals pending for the thread group", "task->signal->shared_pending.signal", ("status ShdPnd",), "exact", True),
    Field("sig_ignored", "signal", "u64", "", "ignored signals", "task->sighand->action", ("status SigIgn",), "exact", True, "SIGHAND"),
    Field("sig_caught", "signal", "u64", "", "signals with a handler", "task->sighand->action", ("status SigCgt",), "exact", True, "SIGHAND"),
    Field("group_exit_code", "signal", "u32", "", "exit code of the whole group, or the signal that stopped it", "task->signal->group_exit_code", ("group stat 52",), "group_exit"),
    Field("nr_threads", "signal", "u32", "threads", "threads in the group", "task->signal->nr_threads", ("status Threads",), "exact"),
    Field("signal_flags", "signal", "u64", "", "SIGNAL_* bits of the group: it is stopped (1), it ends (4)", "task->signal->flags", hex=True),
    # io
    Field("rchar", "io", "u64", "bytes", "bytes read by system calls", "task->ioac.rchar", ("io rchar",), "bracket", needs="TASK_XACCT"),
    Field("wchar", "io", "u64", "bytes", "bytes written by system calls", "task->ioac.wchar", ("io wchar",), "bracket", needs="TASK_XACCT"),
    Field("syscr", "io", "u64", "calls", "read system calls", "task->ioac.syscr", ("io syscr",), "bracket", needs="TASK_XACCT"),
    Field("syscw", "io", "u64", "calls", "write system calls", "task->ioac.syscw", ("io syscw",), "bracket", needs="TASK_XACCT"),
    Field("read_bytes", "io", "u64", "bytes", "bytes fetched from storage", "task->ioac.read_bytes", ("io read_bytes",), "bracket", needs="TASK_IO"),
    Field("write_bytes", "io", "u64", "bytes", "bytes sent to storage", "task->ioac.write_bytes", ("io write_bytes",), "bracket", needs="TASK_IO"),
    Field("cancelled_write_bytes", "io", "u64", "bytes", "bytes whose write-back was made needless", "task->ioac.cancelled_write_bytes", ("io cancelled_write_bytes",), "bracket", needs="TASK_IO"),
    # ns
    Field("mnt_ns", "ns", "u32", "", "mount namespace", "task->nsproxy->mnt_ns", ("ns/mnt",), "exact", needs="NSPROXY"),
    Field("uts_ns", "ns", "u32", "", "UTS namespace", "task->nsproxy->uts_ns", ("ns/uts",), "exact", needs="NSPROXY"),
    Field("ipc_ns", "ns", "u32", "", "IPC namespace", "task->nsproxy->ipc_ns", ("ns/ipc",), "exact", needs="NSPROXY"),
    Field("net_ns", "ns", "u32", "", "network namespace", "task->nsproxy->net_ns", ("ns/net",), "exact", needs="NSPROXY"),
    Field("cgroup_ns", "ns", "u32", "", "cgroup namespace", "task->nsproxy->cgroup_ns", ("ns/cgroup",), "exact", needs="NSPROXY"),
    Field("time_ns", "ns", "u32", "", "time namespace", "task->nsproxy->time_ns", ("ns/time",), "exact", needs="TIME_NS"),
    Field("time_ns_for_children", "ns", "u32", "", "time namespace of children to come", "task->nsproxy->time_ns_for_children", ("ns/time_for_children",), "exact", needs="TIME_NS"),
    Field("pid_ns", "ns", "u32", "", "the task's own pid namespace", "task->thread_pid->numbers[level].ns", ("ns/pid",), "exact"),
    Field("pid_ns_for_children", "ns", "u32", "", "pid namespace of children to come", "task->nsproxy->pid_ns_for_children", ("ns/pid_for_children",), "exact", needs="NSPROXY"),
    Field("cgroup_id", "ns", "u64", "", "id of the cgroup in the v2 hierarchy", "task->cgroups->dfl_cgrp->kn->id", needs="CGROUP"),
    # mm
    Field("total_vm", "mm", "u64", "pages", "size of the address space", "task->mm->total_vm", ("statm 1",), "exact", needs="MM"),
    Field("exe_ino", "mm", "u64", "", "inode number of the executable", "task->mm->exe_file->f_inode->i_ino", ("exe ino",), "file", True, "MM"),
    Field("exe_dev", "mm", "u32", "", "device of the executable (major << 20 | minor)", "task->mm->exe_file->f_inode->i_sb->s_dev", ("exe dev",), "file", needs="MM"),
    Field("exec_id", "mm", "u32", "", "number of the task's last exec", "task->self_exec_id"),
)
# fmt: on


#: Arrays that a task has beside its fields.
ARRAYS: tuple[Field, ...] = (
    Field(
        "pids",
        "pids",
        "u32[]",
        "",
        "thread id at every level of pid namespaces",
        "task->thread_pid->numbers",
        ("status NSpid *",),
        "levels",
    ),
    Field(
        "groups",
        "groups",
        "u32[]",
        "",
        "supplementary groups, as kgids",
        "task->real_cred->group_info->gid",
        ("status Groups",),
        "gids",
    ),
)


def _register(name: str, source: str, rule: str = "exact", witness: str = "PTRACE_GETREGS") -> Field:
    return Field(name, "regs", "u64", "", f"register {name}", source, (witness,), rule, True)


_GENERAL = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
_THREAD = "fsbase gsbase ds es fsindex gsindex"

#: User registers and the FPU areas, in the order of ``struct user_regs_struct``: records of their own in the image.
REGISTERS: tuple[Field, ...] = (
    *(_register(name, f"task_pt_regs(task)->{name}", "syscall" if name == "rax" else "exact") for name in _GENERAL.split()),
    *(_register(name, f"task->thread.{name}") for name in _THREAD.split()),
    *(_register(f"dr{number}", f"task->thread.ptrace_bps[{number}]", witness="PTRACE_PEEKUSER") for number in range(4)),
    _register("dr6", "task->thread.virtual_dr6", witness="PTRACE_PEEKUSER"),
    _register("dr7", "task->thread.ptrace_dr7", witness="PTRACE_PEEKUSER"),
    Field("fxsave", "fpu", "u8[512]", "", "x87 and SSE state", "fpstate->regs", ("PTRACE_GETFPREGS",), "software"),
    Field("xsave", "fpu", "u8[]", "", "extended state", "fpstate->regs", ("NT_X86_XSTATE",), "xstate"),
)

BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}


def group(name: str) -> tuple[Field, ...]:
    """The fields of one group, in the order in which the image holds them."""
    return tuple(field for field in FIELDS if field.group == name)
