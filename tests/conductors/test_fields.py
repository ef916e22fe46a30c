"""Every field of a task against somebody else's word: /proc before the snapshot, the task's own, or what was done to it."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cptbpf
from cptbpf.cpu import layout
from cptbpf.fields import FIELDS
from cptbpf.image.flags import timespec_import
from tests.conductors import witness
from tests.conductors.shots import Shot, assert_whole, said, settled, shoot, value
from tests.harness import Target, until

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

# What has no witness in witness.of: where it is tested instead.
ELSEWHERE = {
    "state", "thrflags", "thrstatus", "syscall_work", "jobctl", "ptrace", "on_cpu", "securebits",  # below
    *("group_exit_code", "signal_flags"),  # below
    *("pid", "tgid", "ppid", "rppid", "pgrp", "session", "old_pgrp", "leader", "host_ppid", "ns_level"),  # test_ids.py
    *("set_tid", "clear_tid", "pdeath_signal", "user", "normal_prio", "exec_id", "cgroup_id", "cred_override"),  # below
    *("utime", "stime", "utimescaled", "stimescaled", "prev_utime", "prev_stime", "start_time", "real_start_time"),  # below
    "tls",  # test_registers.py
}  # fmt: skip


def differences(shot: Shot, expected: dict[int, dict[str, Any]]) -> list[tuple[int, str, Any, Any]]:
    """(host pid, field, what the image has, what was expected) of all that differs."""
    return [
        (pid, name, shot.get(pid, name), wanted)
        for pid, fields in expected.items()
        for name, wanted in fields.items()
        if shot.get(pid, name) != wanted
    ]


def assert_accounts_between(shot: Shot, before: dict[int, dict[str, Any]], after: dict[int, dict[str, Any]]) -> None:
    """The way into a stop takes some time on a CPU, which the scheduler's account has; takes it out of ``before``."""
    for pid, fields in before.items():
        for name in ("sum_exec_runtime", "run_delay", "run_count"):
            assert fields.pop(name) <= shot.get(pid, name) <= after[pid][name], name


@pytest.mark.parametrize("how", [{}, {"registers": "bpf"}, {"freeze": False}], ids=["ptrace", "bpf", "running"])
def test_every_field_that_proc_shows(target: Callable[..., Target], how: dict[str, Any]) -> None:
    program = target("specimen", init=True)
    inside = settled(program)
    expected = {pid: witness.of(pid, pid) for pid in inside.values()}
    shot = shoot(program, **how)
    assert shot.tasks.keys() == expected.keys()
    if how.get("freeze", True):
        assert_accounts_between(shot, expected, {pid: witness.of(pid, pid) for pid in inside.values()})
    assert differences(shot, expected) == []


def test_the_witness_leaves_out_nothing_unnoticed(target: Callable[..., Target]) -> None:
    program = target("threads", 0)
    assert {field.name for field in FIELDS} - witness.of(program.host_pid, program.host_pid).keys() == ELSEWHERE


def test_threads_have_their_own_values(target: Callable[..., Target]) -> None:
    program = target("threads", 5)
    until(lambda: all(witness.state(tid) == "S" for tid in program.tids()), "the threads to sleep")
    expected = {tid: witness.of(program.host_pid, tid) for tid in program.tids()}
    shot = shoot(program, freeze=False)
    assert shot.tasks.keys() == expected.keys()
    assert differences(shot, expected) == []
    assert {shot.get(tid, "exit_signal") for tid in program.tids()[1:]} == {0xFFFFFFFF}
    assert {shot.get(tid, "nr_threads") for tid in program.tids()} == {6}
    assert shot.tasks[program.host_pid].ext["exe"].path == os.readlink(f"/proc/{program.host_pid}/exe").encode()


TIF_SECCOMP = 1 << 8  # of the kernels that have it among the thread's flags: before 5.11


def has_syscall_work(shot: Shot, host_pid: int) -> bool:
    return not shot.tasks[host_pid].source("sched", "syscall_work").startswith("absent: ")


def seccomp_flag(shot: Shot, host_pid: int) -> bool:
    """Whether the kernel looks for a seccomp filter when the task makes a system call."""
    if has_syscall_work(shot, host_pid):
        return bool(shot.get(host_pid, "syscall_work") & 1)
    return bool(shot.get(host_pid, "thrflags") & TIF_SECCOMP)


def test_what_a_process_says_of_itself(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    inside = settled(program)
    shot = shoot(program)
    assert_whole(shot)
    own = program.host_pid
    assert shot.get(own, "comm") == b"a)\n\\\x01 \xff\x80 R 1%s\0\0"
    assert shot.get(own, "clear_tid") == said(program, "clear_tid")[0]
    assert shot.get(own, "pdeath_signal") == 34 + 4
    assert shot.get(own, "securebits") == 0x21
    assert shot.get(own, "cap_effective", "cap_ambient") == (1 | 1 << 21, 1 << 13)
    assert shot.get(own, "no_new_privs", "seccomp_mode", "seccomp_filters") == (1, 2, 3)
    assert shot.get(own, "sig_pending", "sig_shared_pending") == (1 << 11, 1 << 36)
    assert shot.get(own, "nr_cpus_allowed", "cpu", "static_prio", "normal_prio") == (1, 0, 125, 125)
    assert seccomp_flag(shot, own)
    uncommon, set_tid, clear_tid = said(program, "uncommon")
    assert shot.get(inside[uncommon], "set_tid", "clear_tid") == (set_tid, clear_tid)
    assert shot.get(inside[uncommon], "exit_signal") == signal.SIGUSR1
    realtime, idle = inside[said(program, "realtime")[0]], inside[said(program, "idle")[0]]
    assert shot.get(realtime, "policy", "rt_priority", "prio", "normal_prio") == (1, 7, 92, 92)
    usual = 120 + os.getpriority(os.PRIO_PROCESS, 0)
    assert shot.get(idle, "policy", "prio", "normal_prio") == (5, usual, usual)
    assert all(shot.get(pid, "cred_override", "on_cpu", "ptrace", "jobctl") == (0, 0, 0, 0) for pid in inside.values())


def test_thread_flags_tell_what_was_asked_of_the_task(target: Callable[..., Target]) -> None:
    """PR_SET_TSC sets one bit, whichever it is on this kernel; a task in a system call of the 32-bit kind has TS_COMPAT."""
    program = target("specimen", init=True)
    inside = settled(program)
    shot = shoot(program)
    plain, compat = inside[said(program, "group")[0]], inside[said(program, "int80")[0]]
    own = shot.get(program.host_pid, "thrflags")
    if not has_syscall_work(shot, program.host_pid):
        own ^= TIF_SECCOMP
    assert (shot.get(plain, "thrflags") ^ own).bit_count() == 1
    assert shot.get(plain, "thrstatus") == 0
    assert shot.get(compat, "thrstatus") == 2
    assert shot.tasks[compat].regs.cs == 7  # type: ignore[union-attr]  # yet it is a 64-bit process


def test_the_dead(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    inside = settled(program)
    shot = shoot(program)
    assert_whole(shot)
    exited, terminated = inside[said(program, "exited")[0]], inside[said(program, "terminated")[0]]
    assert shot.get(exited, "exit_code", "state") == (7 << 8, 0x80 | 0x20)
    assert shot.get(terminated, "exit_code", "group_exit_code", "signal_flags", "state") == (15, 15, 4, 0x80 | 0x20)
    assert shot.get(exited, "flags") & 1  # CPT_PF_EXITING
    assert not shot.get(exited, "flags") & 0x10
    assert shot.get(terminated, "flags") & 0x11 == 0x11  # CPT_PF_SIGNALED
    assert [(one.host_pid, one.why) for one in shot.summary.no_registers] == [(exited, "zombie"), (terminated, "zombie")]
    assert shot.summary.partial == ()
    for pid in (exited, terminated):
        task = shot.tasks[pid]
        assert (task.regs, task.xsave, task.fxsave) == (None, None, None)
        assert task.source("regs").startswith("absent: ")
        for group, name in (("ns", "mnt_ns"), ("mm", "total_vm"), ("exe", ""), ("kstack", "")):
            assert task.source(group, name).startswith("absent: "), (group, name)


def test_states_as_they_were_before_the_freeze(target: Callable[..., Target]) -> None:
    stopped, burner, spawner = target("stopped"), target("burner"), target("vforkparent")
    child = next(pid for pid in stopped.members() if pid != stopped.host_pid)
    shot = shoot(stopped)
    # the parent has not waited for it
    assert shot.get(child, "state", "group_exit_code", "signal_flags") == (0x104, signal.SIGSTOP, 1)
    assert shot.get(child, "jobctl") & 0xFFFF == signal.SIGSTOP
    assert shot.get(stopped.host_pid, "state") == 1
    assert shot.get(child, "exit_code") == 0
    spinning = next(tid for tid in burner.tids() if tid != burner.host_pid)
    assert shoot(burner).get(spinning, "state") == 0
    until(lambda: witness.state(spawner.host_pid) == "D", "the vfork")
    assert shoot(spawner).get(spawner.host_pid, "state") & 0xFF == 2


def test_a_traced_task_has_the_bits_and_the_parent_of_its_own_tracer(target: Callable[..., Target]) -> None:
    debugger = target("debugger", "traced")
    child = next(pid for pid in debugger.members() if pid != debugger.host_pid)
    shot = shoot(debugger)
    assert shot.get(child, "ptrace") & 0x10001 == 0x10001  # PT_PTRACED, PT_SEIZED
    assert shot.get(child, "host_ppid", "ppid") == (debugger.host_pid, debugger.pid)
    assert shot.get(debugger.host_pid, "ptrace") == 0


def test_credentials_and_groups(target: Callable[..., Target]) -> None:
    program = target("credentials")
    shot = shoot(program)
    own = program.host_pid
    assert shot.get(own, "uid", "euid", "suid", "fsuid", "user") == (1001, 1002, 1003, 1002, 1001)
    assert shot.get(own, "gid", "egid", "sgid", "fsgid") == (2001, 2002, 2003, 2002)
    assert shot.tasks[own].ext["groups"] == (3001, 3002)
    assert shot.get(own, "cap_effective", "cap_permitted") == (0, 0)


def test_more_groups_than_there_is_room_for(spawn: Callable[..., Target]) -> None:
    few = spawn(["setpriv", "--groups", ",".join(map(str, range(5000, 5777))), "sleep", "1000"])
    many = spawn(["setpriv", "--groups", ",".join(map(str, range(5000, 7100))), "sleep", "1000"])
    for program in (few, many):
        until(lambda: "sleep" in program.status("Name"), "sleep")  # noqa: B023
    assert shoot(few).tasks[few.host_pid].ext["groups"] == tuple(range(5000, 5777))
    shot = shoot(many)
    assert shot.get(many.host_pid, "ngroups") == 2100
    assert "groups" not in shot.tasks[many.host_pid].ext
    assert shot.tasks[many.host_pid].source("groups") == "absent: more than 2048 groups"


def test_namespaces_of_its_own(target: Callable[..., Target]) -> None:
    program = target("threads", 1, flags=["--user", "--map-root-user", "--uts", "--ipc", "--net", "--cgroup", "--time"])
    until(lambda: all(witness.state(tid) == "S" for tid in program.tids()), "the threads to sleep")
    expected = {tid: witness.of(program.host_pid, tid) for tid in program.tids()}
    here = witness.of(os.getpid(), os.getpid())
    shot = shoot(program, freeze=False)
    assert differences(shot, expected) == []
    names = ("user_ns", "mnt_ns", "uts_ns", "ipc_ns", "net_ns", "cgroup_ns", "time_ns", "pid_ns")
    assert all(shot.get(program.host_pid, name) != here[name] for name in names)
    assert shot.image.meta.user_ns == expected[program.host_pid]["user_ns"]


def test_executable_command_line_and_cgroup(
    spawn: Callable[..., Target], target: Callable[..., Target], tmp_path: Path
) -> None:
    program = target("threads", 0)
    task = shoot(program).tasks[program.host_pid]
    path = os.readlink(f"/proc/{program.host_pid}/exe")
    notes = subprocess.run(["readelf", "-n", path], check=True, capture_output=True, text=True).stdout
    assert task.ext["exe"].path == path.encode()
    assert task.ext["exe"].build_id.hex() == notes.partition("Build ID: ")[2].split()[0]
    assert task.ext["cmdline"] == Path(f"/proc/{program.host_pid}/cmdline").read_bytes() == f"{path}\0000\0".encode()
    assert task.ext["cgroup"].decode() in Path(f"/proc/{program.host_pid}/cgroup").read_text()
    odd = tmp_path / "no id\n\x1b[31m"
    odd.write_bytes(Path("/usr/bin/sleep").read_bytes())
    odd.chmod(0o755)
    subprocess.run(["strip", "--remove-section=.note.gnu.build-id", odd], check=True)
    gone = spawn([str(odd), "1000"])
    odd.unlink()
    task = shoot(gone).tasks[gone.host_pid]
    assert task.ext["exe"].path == os.fsencode(odd) + b" (deleted)"
    assert task.ext["exe"].build_id == b""
    assert task.source("exe", "build_id").startswith("absent: ")


def test_the_cgroup_is_named_by_its_inode(target: Callable[..., Target]) -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if root is None:
        pytest.skip("no cgroup v2 hierarchy is mounted here")
    program = target("threads", 0)
    path = next(line for line in Path(f"/proc/{program.host_pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    assert shoot(program).get(program.host_pid, "cgroup_id") == os.stat(root / path[4:]).st_ino


def test_start_times(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    inside = settled(program)
    shown = {pid: witness.shown_times(pid, pid) for pid in inside.values()}
    shot = shoot(program)
    born, before, after = said(program, "born")
    assert before < timespec_import(shot.get(inside[born], "start_time")) < after
    for pid in inside.values():
        assert timespec_import(shot.get(pid, "real_start_time")) // witness.TICK == shown[pid]["real_start_time"]


def test_times_on_the_cpu(target: Callable[..., Target]) -> None:
    """/proc shows utime and stime scaled to the scheduler's account of the time, and the kernel notes down what it showed."""
    burner = target("burner")
    spinning = next(tid for tid in burner.tids() if tid != burner.host_pid)
    until(lambda: max(cptbpf.tasks(pid=burner.host_pid).column("utime")) > 100_000_000, "the ticks to have met the thread")
    burner.kill(signal.SIGSTOP)
    until(lambda: witness.state(spinning) == "T", "the stop")
    shown = witness.shown_times(burner.host_pid, spinning)
    shot = shoot(burner, freeze=False)
    runtime, utime, stime = shot.get(spinning, "sum_exec_runtime", "utime", "stime")
    prev_utime, prev_stime = shot.get(spinning, "prev_utime", "prev_stime")
    assert runtime + shot.get(burner.host_pid, "sum_exec_runtime") == witness.cpu_clock(burner.host_pid)
    assert (prev_utime // witness.TICK, prev_stime // witness.TICK) == (shown["prev_utime"], shown["prev_stime"])
    assert prev_utime + prev_stime == runtime
    assert prev_stime == runtime * stime // (utime + stime)
    assert utime > 100_000_000
    assert shot.get(spinning, "utimescaled", "stimescaled") == (utime, stime)
    task = shot.tasks[spinning]
    assert task.source("task", "utimescaled").startswith("derived: ")


def test_exec_counts(spawn: Callable[..., Target]) -> None:
    shell = spawn(["sh", "-c", "read line; exec sh -c 'read line; sleep 1000'"])
    first = shoot(shell).get(shell.host_pid, "exec_id")
    before = Path(f"/proc/{shell.host_pid}/cmdline").read_bytes()
    shell.say("")
    until(lambda: Path(f"/proc/{shell.host_pid}/cmdline").read_bytes() != before, "the exec")
    assert shoot(shell).get(shell.host_pid, "exec_id") == first + 1


def test_where_each_value_came_from(target: Callable[..., Target]) -> None:
    program = target("threads", 1)
    task = shoot(program).tasks[program.host_pid]
    for name in ("state", "thrflags", "nvcsw", "nivcsw", "exit_code", "ppid", "rppid"):
        assert task.source("task", name) == "kernel:A", name
    assert task.source("task", "utime") == "kernel:B"
    assert task.source("cgroup") == task.source("cmdline") == task.source("exe") == "proc"
    assert task.source("regs") == "ptrace"
    assert task.source("kregs") == task.source("kfxsave") == "kernel:B, equal"
    if layout():
        assert (task.source("xsave"), task.source("kxsave")) == ("ptrace", "kernel:B, equal")
    else:
        assert task.source("xsave") == "absent: the CPU has no XSAVE"
    assert task.ext.keys() & {"kregs", "kxsave", "kfxsave"} == set()
    running = shoot(program, freeze=False).tasks[program.host_pid]
    assert {source for key, source in running.provenance.items() if source.startswith("kernel")} == {"kernel:A"}


def test_every_value_has_a_source(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    settled(program)
    for task in shoot(program).image.tasks:
        assert all(task.source(field.group, field.name) for field in FIELDS)
        assert all(task.source(name) for name in (*task.ext, "regs", "fxsave", "xsave"))
        for field in FIELDS:
            if task.source(field.group, field.name).startswith("absent: "):
                assert value(task, field.name) == 0, field.name
