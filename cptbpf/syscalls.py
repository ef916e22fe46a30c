"""System calls by number.

The tables are python-ptrace's, where they are those of the headers. What is newer, and the i386 names that python-ptrace takes
from inside the kernel (``setuid16`` for what a program calls ``setuid``), stand here.
"""

import importlib.util
from functools import cache

# A number, then the names from there on.
_X86_64 = """
283 timerfd_create
335 uretprobe uprobe
"""
_I386 = """
16 lchown break oldstat 22 umount setuid getuid 28 oldfstat 31 stty gtty 35 ftime 44 prof 46 setgid getgid 49 geteuid
getegid 52 umount2 lock 56 mpx 58 ulimit 70 setreuid setregid 76 getrlimit 80 getgroups setgroups select 84 oldlstat 89
readdir mmap 95 fchown 98 profil 106 stat lstat fstat 112 idle 127 create_module 130 get_kernel_syms 137 afs_syscall
setfsuid setfsgid _llseek 142 _newselect 149 _sysctl 164 setresuid getresuid 167 query_module 170 setresgid getresgid
182 chown 188 getpmsg putpmsg 191 ugetrlimit 198 lchown32 getuid32 getgid32 geteuid32 getegid32 setreuid32 setregid32
getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 chown32 setuid32 setgid32 setfsuid32
setfsgid32 273 vserver
320 utimensat signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1
    dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark
    prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns process_vm_readv process_vm_writev
    kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create bpf execveat socket
    socketpair bind connect listen accept4 getsockopt setsockopt getsockname getpeername sendto sendmsg recvfrom recvmsg
    shutdown userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx
    arch_prctl io_pgetevents rseq
393 semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl clock_gettime64 clock_settime64 clock_adjtime64
    clock_getres_time64 clock_nanosleep_time64 timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64
    utimensat_time64 pselect6_time64 ppoll_time64
416 io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64
    rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64
"""
# One numbering for all architectures since Linux 5.1.
_COMMON = """
424 pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount
    fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr
    quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease
    futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue
    statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat
    removexattrat open_tree_attr file_getattr file_setattr listns
"""


def _numbered(text: str) -> dict[int, str]:
    names: dict[int, str] = {}
    number = 0
    for word in text.split():
        if word.isdigit():
            number = int(word)
        else:
            names[number] = word
            number += 1
    return names


@cache
def names(compat: bool = False) -> dict[int, str]:
    """Number to name, of the 64-bit system calls or of those of 32-bit code (``int 0x80``, ia32_emulation)."""
    if compat:
        return {**_table("i386"), **_numbered(_I386), **_numbered(_COMMON)}
    return {**_table("x86_64"), **_numbered(_X86_64), **_numbered(_COMMON)}


def _table(machine: str) -> dict[int, str]:
    """A table of python-ptrace, from its file alone: importing the package that it is in would bring sixty modules more."""
    package = importlib.util.find_spec("ptrace")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'ptrace'", name="ptrace")
    path = f"{package.submodule_search_locations[0]}/syscall/linux/{machine}.py"
    spec = importlib.util.spec_from_file_location(f"ptrace_{machine}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"not a module: {path}", path=path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: dict[int, str] = module.SYSCALL_NAMES
    return table


def name(orig_rax: int, compat: bool = False) -> str | None:
    """The system call that a task is in, by the ``orig_rax`` of its registers (``orig_ax`` of 32-bit ones).

    None where it is in none (-1: an interrupt or an exception brought it into the kernel), ``syscall_N`` for an unknown one.
    """
    number = orig_rax & 0xFFFFFFFF
    if number == 0xFFFFFFFF:
        return None
    return names(compat).get(number, f"syscall_{number}")
