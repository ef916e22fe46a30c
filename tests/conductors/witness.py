"""What /proc says of a task that sleeps, field by field: read before a snapshot, it is what the image must hold."""

import os
import time
from pathlib import Path
from typing import Any

from cptbpf.proc import stat as proc_stat
from tests import procstatus

# Bits of task->flags and of cpt_flags, from linux/sched.h and from the patch.
PF_TO_CPT = {0x4: 0x1, 0x40: 0x2, 0x100: 0x4, 0x200: 0x8, 0x400: 0x10, 0x2000: 0x20}
STATES = {"R": 0, "S": 1, "D": 2, "T": 4, "t": 8, "X": 0x10, "Z": 0x20}
TICK = 10_000_000  # ns; USER_HZ is 100


def of(tgid: int, tid: int) -> dict[str, Any]:
    """Everything that /proc shows of a thread and that the catalogue names; ids are those of /proc's own namespace."""
    stat, status = proc_stat.read(tgid, tid), procstatus.read(tgid, tid)
    folder = Path(f"/proc/{tgid}/task/{tid}")
    found: dict[str, Any] = {
        "host_pid": status.pid,
        "host_tgid": status.tgid,
        "host_rppid": status.ppid,
        "flags": sum(cpt for bit, cpt in PF_TO_CPT.items() if stat.flags & bit),
        "pf_flags": stat.flags,
        "exit_code": stat.exit_code,
        "exit_signal": stat.exit_signal & 0xFFFFFFFF,
        "comm": stat.comm.ljust(16, b"\0"),
        "nvcsw": status.nvcsw,
        "nivcsw": status.nivcsw,
        "min_flt": stat.minflt,
        "maj_flt": stat.majflt,
        "gtime": stat.guest_time,
        "policy": stat.policy,
        "prio": stat.priority + 100,
        "static_prio": stat.nice + 120,
        "rt_priority": stat.rt_priority,
        "cpu": stat.processor,
        "nr_threads": status.threads,
        "ngroups": len(status.groups),
    }
    found |= dict(zip(("uid", "euid", "suid", "fsuid"), status.uid, strict=True))
    found |= dict(zip(("gid", "egid", "sgid", "fsgid"), status.gid, strict=True))
    for name in ("cap_inheritable", "cap_permitted", "cap_effective", "cap_bset", "cap_ambient", "no_new_privs"):
        found[name] = getattr(status, name)
    for name in ("seccomp_mode", "seccomp_filters", "sig_blocked", "sig_pending", "sig_shared_pending"):
        found[name] = getattr(status, name)
    assert status.cpus_allowed is not None
    found["nr_cpus_allowed"] = status.cpus_allowed.bit_count()
    runtime, delay, count = map(int, (folder / "schedstat").read_text().split())
    found |= {"sum_exec_runtime": runtime, "run_delay": delay, "run_count": count}
    found |= {"sig_ignored": status.sig_ignored, "sig_caught": status.sig_caught}
    if status.state == "Z":
        return found
    found |= {name: int(number) for name, number in (line.split(": ") for line in (folder / "io").read_text().splitlines())}
    for name in ("mnt", "uts", "ipc", "net", "cgroup", "time", "pid", "user"):
        found[f"{name}_ns"] = os.stat(folder / "ns" / name).st_ino
    found["time_ns_for_children"] = os.stat(folder / "ns" / "time_for_children").st_ino
    found["pid_ns_for_children"] = os.stat(folder / "ns" / "pid_for_children").st_ino
    found["total_vm"] = int((folder / "statm").read_text().split()[0])
    found |= {"exe_ino": os.stat(folder / "exe").st_ino, "exe_dev": _device_of(folder / "exe")}
    return found


def _device_of(path: Path) -> int:
    """The device of a file as the kernel has it: its mount's. What stat(2) says on overlayfs is that of a layer."""
    descriptor = os.open(path, os.O_PATH)
    try:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    mount = info.partition("mnt_id:")[2].split()[0]
    # the program may have been started outside the mount namespace that the task is in now
    mounts = (path.with_name("mountinfo").read_text() + Path("/proc/self/mountinfo").read_text()).splitlines()
    rows = (line.split() for line in mounts)
    major, minor = next(row[2] for row in rows if row[0] == mount).split(":")
    return int(major) << 20 | int(minor)


def shown_times(tgid: int, tid: int) -> dict[str, int]:
    """utime, stime and start of a thread in ticks: what its stat file shows, which the kernel notes down as shown."""
    stat = proc_stat.read(tgid, tid)
    return {"prev_utime": stat.utime, "prev_stime": stat.stime, "real_start_time": stat.starttime}


def cpu_clock(pid: int) -> int:
    """A process's CPU clock, in ns: the scheduler's account of its threads, by way of clock_gettime(2)."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def state(tid: int) -> str:
    """The letter of a task's state; "" when it is gone."""
    try:
        return Path(f"/proc/{tid}/stat").read_bytes().rpartition(b") ")[2][:1].decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
