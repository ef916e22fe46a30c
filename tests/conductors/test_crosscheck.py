"""The check of real tasks: no false alarm whatever they do, and a lie of /proc is found."""

import os
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cptbpf.conductors.crosscheck import hooks
from cptbpf.conductors.crosscheck import live as live_check
from cptbpf.conductors.crosscheck.live import LiveCheck
from cptbpf.conductors.crosscheck.values import CHECKS, NOBODY
from cptbpf.cpu import layout
from cptbpf.errors import TargetError
from cptbpf.fields import ARRAYS, FIELDS, REGISTERS
from cptbpf.kernel.proc_witness import ProcWitness
from cptbpf.proc.witness import Shown
from cptbpf.proc.witness import read as read_witness
from tests.conductors.checks import assert_agreed, check, checked, disagreeing, of, under_mounts
from tests.harness import Target, often, until

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

#: How often a busy namespace is checked in each way; 200 times by: CPTBPF_TEST_RUNS=200 tools/test -k turmoil
RUNS = int(os.environ.get("CPTBPF_TEST_RUNS", often(8)))
BOTH = pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "running"])
GENERAL = {field.name for field in REGISTERS if field.witnesses[0].startswith("PTRACE_GETREGS")}
PROC = {field.name for field in (*FIELDS, *ARRAYS) if any(check.field is field for check in CHECKS)}


KINDS = (
    *("sleeper", "zombie", "stopped", "debugger traced", "debugger breakpoint", "compat32", "credentials", "threads 10"),
    *("marked spin", "marked blocked", "vforkparent", "burner 3"),
)


@pytest.mark.parametrize("what", KINDS)
@BOTH
def test_no_false_alarm(target: Callable[..., Target], what: str, freeze: bool) -> None:
    name, *arguments = what.split()
    one = target(name, *arguments, init=True)
    report = check(one, freeze=freeze)
    assert_agreed(report)
    assert set(one.members()) <= {result.host_pid for result in report.results}, "everybody is in the check"
    assert report.summary.tasks == len({result.host_pid for result in report.results})
    assert report.summary.ended == 0


@BOTH
def test_everything_that_has_a_witness_is_compared(target: Callable[..., Target], freeze: bool) -> None:
    one = target("threads", 2)
    report = check(one, freeze=freeze)
    for tid in one.tids():
        found = of(report, tid)
        fields = {field for field, witness in found if witness == "proc"}
        of_the_process = {"exe_ino", "exe_dev", "group_exit_code"} if tid != one.host_pid else set()
        assert fields | of_the_process == PROC
        if freeze:
            traced = {field for field, witness in found if witness == "ptrace"}
            xsave = {"xsave"} if layout() else set()  # not every processor has it
            assert traced == GENERAL | {"dr0", "dr1", "dr2", "dr3", "dr6", "dr7", "tls", "fxsave"} | xsave
            assert [result.verdict for result in found["rip", "ptrace"]] == ["agree"]
        else:
            assert not any(witness == "ptrace" for _, witness in found)


@pytest.mark.needs("xsave")
def test_each_component_of_the_extended_state_is_compared(target: Callable[..., Target]) -> None:
    one = target("marked", "spin")
    rules = [result.rule for result in of(check(one), one.host_pid)["xsave", "ptrace"]]
    assert {"xstate: header", "xstate: x87", "xstate: SSE"} <= set(rules)
    if "ymm 1" in one.lines:
        assert "xstate: AVX" in rules


@BOTH
def test_values_of_both_sides_are_shown_as_they_are(target: Callable[..., Target], freeze: bool) -> None:
    one = target("credentials")
    found = of(check(one, freeze=freeze), one.host_pid)
    assert [(r.kernel, r.other, r.verdict) for r in found["euid", "proc"]] == [(1002, 1002, "agree")]
    assert [(r.kernel, r.other) for r in found["groups", "proc"]] == [([3001, 3002], [3001, 3002])]
    assert [(r.pid, r.kernel, r.other) for r in found["pid", "proc"]] == [(1, 1, 1)]
    (comm,) = found["comm", "proc"]
    assert comm.kernel == comm.other == Path(f"/proc/{one.host_pid}/comm").read_text().rstrip("\n")
    (start,) = found["real_start_time", "proc"]
    seconds, rest = int(start.kernel, 16) >> 32, int(start.kernel, 16) & 0xFFFFFFFF
    assert start.other == (seconds * 10**9 + rest) // (10**9 // os.sysconf("SC_CLK_TCK"))
    assert start.verdict == "agree" if not rest % 10**7 else "explained"


@BOTH
def test_a_stopped_task_that_nobody_waited_for(target: Callable[..., Target], freeze: bool) -> None:
    one = target("stopped")
    report = check(one, freeze=freeze)
    stopped = next(pid for pid in one.members() if pid != one.host_pid)
    own, group = of(report, stopped)["exit_code", "proc"]
    assert own.verdict == "agree"
    if group.other == 19:  # kernels before 5.17 show the thread's own here as well
        assert group.verdict == "explained" and "group_exit_code" in group.rule


@BOTH
def test_turmoil(target: Callable[..., Target], freeze: bool) -> None:
    """Tasks that fork, execute, change their credentials, names, signals, groups and namespaces, fault and burn."""
    one = target("turmoil")
    for _ in range(RUNS):
        report = check(one, freeze=freeze)
        assert_agreed(report)
        assert report.summary.tasks > 8


@pytest.mark.kprobe
@pytest.mark.parametrize("hook", ["fentry", "kprobe"])
def test_turmoil_by_each_hook(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    """The same with the functions that render /proc hooked: whichever the check would take by itself, either agrees."""
    monkeypatch.setattr(hooks, "ProcWitness", partial(ProcWitness, hook=hook))
    one = target("turmoil")
    for _ in range(RUNS):
        report = check(one, freeze=False)
        assert_agreed(report)
        assert report.summary.hook == hook


@pytest.mark.parametrize("executed", [True, False])
def test_a_counter_of_a_thread_that_takes_over_its_leaders_id(target: Callable[..., Target], executed: bool) -> None:
    """The kernel gives it the leader's id before it counts the execve: until that shows, its counters look wrong."""
    one = target("sleeper")
    with LiveCheck(f"pid:[{one.ns_inode}]", None) as live:
        found = live._pass()
        identity, task = next((key, task) for key, task in found.tasks.items() if key[0] == one.host_pid)
        later = task._replace(state=task.state._replace(exec_id=task.state.exec_id + executed))
        shown = read_witness(one.host_pid, one.host_pid, ("status",))
        assert isinstance(shown, Shown)
        wrong = shown.raw["status"].replace(b"voluntary_ctxt_switches:\t", b"voluntary_ctxt_switches:\t9")  # type: ignore[union-attr]
        context, checks = live._frame.context((found, found), NOBODY), [one for one in CHECKS if one.field.name == "nvcsw"]
        live._judge_all(task, task, Shown(one.host_pid, one.host_pid, {"status": wrong}), context, False, checks)
        assert not list(live.results()), "not yet"
        while identity in live._open:
            live._judge_all(later, later, shown, context, False, checks)
        assert [(result.field, result.verdict) for result in live.results()] == [("nvcsw", "agree" if executed else "disagree")]


def test_what_moves_in_every_look_is_said_to_have_moved(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that is another one before, meanwhile and after: nobody can tell, and nobody is accused."""
    one = target("sleeper")
    monkeypatch.setattr(live_check, "_LOOKS", 0)
    with LiveCheck(f"pid:[{one.ns_inode}]", None) as live:
        found = live._pass()
        task = next(task for key, task in found.tasks.items() if key[0] == one.host_pid)
        later = task._replace(state=task.state._replace(sig_blocked=task.state.sig_blocked ^ 1))
        shown = read_witness(one.host_pid, one.host_pid, ("status",))
        assert isinstance(shown, Shown)
        mask = f"SigBlk:\t{task.state.sig_blocked:016x}".encode()
        other = shown.raw["status"].replace(mask, b"SigBlk:\t8000000000000000")  # type: ignore[union-attr]
        context, checks = (
            live._frame.context((found, found), NOBODY),
            [one for one in CHECKS if one.field.name == "sig_blocked"],
        )
        for before, after in ((task, later), (later, task)):
            live._judge_all(before, after, Shown(one.host_pid, one.host_pid, {"status": other}), context, False, checks)
        live.repeat()
        ((field, verdict, rule),) = [(result.field, result.verdict, result.rule) for result in live.results()]
        assert (field, verdict, rule) == ("sig_blocked", "explained", "kept moving: in each of 2 looks")


def lying(tmp_path: Path, target: Target, old: bytes, new: bytes, name: str = "status", tid: int = 0) -> dict[str, str]:
    """A file of /proc/PID/task/TID that says something else, as what is to be mounted over it."""
    place = Path(f"/proc/{target.host_pid}/task/{tid or target.host_pid}/{name}")
    text = place.read_bytes()
    assert old in text
    lie = tmp_path / name
    lie.write_bytes(text.replace(old, new))
    return {str(place): str(lie)}


LIES = (
    ("euid", "status", b"Uid:\t1001\t1002\t", b"Uid:\t1001\t1003\t"),
    ("gid", "status", b"Gid:\t2001\t", b"Gid:\t2000\t"),
    ("cap_effective", "status", b"CapEff:\t0000000000000000", b"CapEff:\t0000000000000001"),
    ("groups", "status", b"3001 3002", b"3001 3003"),
    ("seccomp_mode", "status", b"Seccomp:\t0", b"Seccomp:\t2"),
)


@pytest.mark.parametrize(("field", "name", "old", "new"), LIES, ids=[lie[0] for lie in LIES])
@pytest.mark.parametrize("option", ["", "--no-freeze"])
def test_a_lie_of_proc_is_found(
    target: Callable[..., Target], tmp_path: Path, field: str, name: str, old: bytes, new: bytes, option: str
) -> None:
    one = target("credentials")
    status, document = under_mounts(lying(tmp_path, one, old, new, name), "--pidns", one.host_pid, *option.split())
    assert status == 1
    found = {found for pid, found in disagreeing(document)}
    assert field in found
    # a copy shows no tracer and no later switches either
    assert found - {field} <= {"ppid", "host_ppid", "nvcsw", "nivcsw"}
    assert document["summary"]["disagree"] == len(disagreeing(document))


OMISSIONS = (
    ("euid", "status", rb"Uid:.*\n"),
    ("cap_effective", "status", rb"CapEff:.*\n"),
    ("groups", "status", rb"Groups:.*\n"),
    ("sig_blocked", "status", rb"(?s).*"),
    ("total_vm", "statm", rb"(?s).*"),
    ("run_count", "schedstat", rb"(?s).*"),
    ("rchar", "io", rb"(?s).*"),
)


@pytest.mark.parametrize(("field", "name", "left_out"), OMISSIONS, ids=[f"{lie[1]}-{lie[0]}" for lie in OMISSIONS])
def test_what_proc_leaves_out_is_found(
    target: Callable[..., Target], tmp_path: Path, field: str, name: str, left_out: bytes
) -> None:
    one = target("credentials")
    place = Path(f"/proc/{one.host_pid}/task/{one.host_pid}/{name}")
    lie = tmp_path / name
    lie.write_bytes(re.sub(left_out, b"", place.read_bytes()))
    status, document = under_mounts({str(place): str(lie)}, "--pidns", one.host_pid)
    assert status == 1
    withheld = {one["field"] for one in document["results"] if one["rule"].startswith("shown of cptbpf itself")}
    assert field in withheld
    assert withheld <= {found for _, found in disagreeing(document)}


@pytest.mark.parametrize("option", ["", "--no-freeze"])
def test_a_counter_that_proc_shows_one_too_low_is_found(target: Callable[..., Target], tmp_path: Path, option: str) -> None:
    """The task runs now and then: its counters rise, and the lie is behind them."""
    one = target("sleeper")
    mounts = lying(tmp_path, one, b"voluntary_ctxt_switches:\t", b"voluntary_ctxt_switches:\t-1")
    status, document = under_mounts(mounts, "--pidns", one.host_pid, *option.split())
    assert status == 1
    assert {(1, "nvcsw"), (1, "nivcsw")} & set(disagreeing(document))


def test_a_lie_about_a_task_that_always_runs_is_found(target: Callable[..., Target], tmp_path: Path) -> None:
    """No look finds it standing still; that they all differ is what tells."""
    one = target("burner", 1)
    blocked = int(one.status("SigBlk", one.tids()[1]), 16)  # it has those of whoever started the tests
    old, new = (f"SigBlk:\t{mask:016x}".encode() for mask in (blocked, blocked ^ 1))
    mounts = lying(tmp_path, one, old, new, tid=one.tids()[1])
    status, document = under_mounts(mounts, "--pidns", one.host_pid, "--no-freeze")
    assert status == 1
    assert (2, "sig_blocked") in disagreeing(document)


def test_cptbpf_inside_what_it_checks() -> None:
    """Its own task and its ancestors are compared too, by brackets."""
    before = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")
    for option in ((), ("--no-freeze",)):
        status, document = checked("--pidns", "/proc/self/ns/pid", *option, before=before)
        assert disagreeing(document) == []
        assert document["tasks"] == {"hidden": [], "phantom": []}
        assert status == 0
        assert 1 in {result["pid"] for result in document["results"]}
        assert len(document["results"]) > 60


def test_from_another_time_namespace(target: Callable[..., Target]) -> None:
    if not Path("/proc/self/ns/time").exists():
        pytest.skip("this kernel has no time namespaces")
    one = target("sleeper")
    from_now_on = ("unshare", "--time", "--boottime", f"-{Path('/proc/uptime').read_text().split('.')[0]}", "--fork", "--")
    status, document = checked("--pidns", one.host_pid, before=from_now_on)
    assert disagreeing(document) == [] and status == 0, "a task from before the start of that clock"
    a_day_later = ("unshare", "--time", "--boottime", "86400", "--fork", "--")
    status, document = checked("--pidns", one.host_pid, before=a_day_later)
    assert disagreeing(document) == [] and status == 0
    (start,) = [result for result in document["results"] if result["field"] == "real_start_time"]
    stat = subprocess.run([*a_day_later, "cat", "/proc/self/stat"], capture_output=True, check=True).stdout
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    shifted = int(stat.rpartition(b") ")[2].split()[19]) > 100 * (uptime + 86400 / 2)
    assert ("time-namespace offset" in start["rule"]) == shifted, "5.10 does not shift it"


def test_a_task_of_another_user_namespace(target: Callable[..., Target]) -> None:
    one = target("sleeper", flags=("--user", "--map-root-user"))
    assert_agreed(check(one))
    assert_agreed(check(one, freeze=False))


def test_a_process_tree(target: Callable[..., Target]) -> None:
    """Only the tree below a process, by the ids of its own namespace."""
    import cptbpf

    one = target("threads", 3, init=True)
    report = cptbpf.crosscheck(pid=one.host_pid)
    assert_agreed(report)
    assert {result.host_pid for result in report.results} == set(one.tids())
    assert {result.pid for result in report.results if result.host_pid == one.host_pid} == {2}


def test_who_is_many_is_not_kept_for_long(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the time does not reach is compared after the thaw, by brackets and without registers; it is told how many."""
    one = target("threads", 300)
    everybody = set(one.tids())
    for longest in (0.0, 0.003):
        monkeypatch.setattr(live_check, "_LONGEST", longest)
        report = check(one)
        assert_agreed(report)
        stood_still = {result.host_pid for result in report.results if result.witness == "ptrace"}
        assert {result.host_pid for result in report.results if result.witness == "proc"} == everybody
        assert report.summary.after_thaw == len(everybody - stood_still)
        assert longest or not stood_still
        assert report.summary.after_thaw


def test_nobody_stays_stopped(target: Callable[..., Target]) -> None:
    one = target("threads", 5)
    check(one)
    for tid in one.tids():
        until(lambda tid=tid: one.status("State", tid)[0] == "S", "the task to run again")
        assert one.status("TracerPid", tid) == "0"


def test_usage() -> None:
    import cptbpf

    for wrong in ({}, {"pidns": 1, "pid": 1}, {"pid": 1, "file": "x"}):
        arguments: dict[str, Any] = wrong
        with pytest.raises(TargetError):
            cptbpf.crosscheck(**arguments)
    with pytest.raises(TargetError):
        cptbpf.crosscheck(pidns="pid:[1]")
