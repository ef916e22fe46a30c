"""People around a freeze: who stands still and goes on, who cannot be stopped, and what is said of each."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cptbpf.conductors.freeze import frozen_window
from cptbpf.conductors.target import resolve
from cptbpf.kernel.tasks import TaskReader
from cptbpf.trace.freezer import Freezer
from tests.conductors import witness
from tests.conductors.shots import PATIENCE, Shot, assert_whole, said, shoot
from tests.harness import SLOWNESS, Target, until
from tests.trace.freezing import status, tasks_of

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

SHORT = 0.1 * SLOWNESS  # seconds to wait for those that will not stop


def host(program: Target, pid: int) -> int:
    """The host pid of the task with that id in the program's namespace."""
    return next(tid for tid in tasks_of(program) if status(tid, "NSpid").split()[1] == str(pid))


def why(shot: Shot) -> dict[int, str]:
    """The partial tasks, by host pid, and why they are."""
    return {one.host_pid: one.why for one in shot.summary.partial}


def assert_free(*programs: Target) -> None:
    """Nobody is stopped or traced any more."""
    for program in programs:
        for tid in tasks_of(program):
            until(lambda: witness.state(tid) not in ("t", "T"), f"task {tid} to go on")  # noqa: B023
            assert status(tid, "TracerPid") in ("0", "")


@pytest.mark.parametrize("how", [{}, {"registers": "bpf"}], ids=["ptrace", "bpf"])
def test_what_was_stopped_stays_stopped_and_what_ran_runs(target: Callable[..., Target], how: dict[str, Any]) -> None:
    stopped, burner = target("stopped"), target("burner", 2)
    child = next(pid for pid in stopped.members() if pid != stopped.host_pid)
    for _ in range(3):
        for program in (stopped, burner):
            shot = shoot(program, **how)
            assert_whole(shot)
            assert all(task.regs and task.fxsave for task in shot.image.tasks)
        until(lambda: witness.state(child) == "T", "the child to be back in its stop")
    until(lambda: sorted(map(witness.state, burner.tids())) == ["R", "R", "S"], "the burner to burn")
    os.kill(child, signal.SIGUSR1)
    os.kill(child, signal.SIGCONT)
    assert stopped.read_line() == "hit"
    assert_free(burner)


def test_a_task_under_another_tracer_is_partial(target: Callable[..., Target]) -> None:
    debugger = target("debugger", "traced")
    child = next(pid for pid in debugger.members() if pid != debugger.host_pid)
    shot = shoot(debugger)
    assert why(shot) == {child: f"traced by another process (host pid {debugger.host_pid})"}
    assert shot.summary.consistent
    assert shot.tasks[child].regs
    assert shot.tasks[child].source("regs") == f"kernel:B, not stopped: {why(shot)[child]}"
    assert shot.tasks[debugger.host_pid].source("regs") == "ptrace"
    assert status(child, "TracerPid") == str(debugger.host_pid)


def test_an_uninterruptible_sleep_past_the_timeout_is_partial_and_released(target: Callable[..., Target]) -> None:
    program = target("held")
    parent, child = (host(program, pid) for pid in said(program, "held"))
    begun = time.monotonic()
    shot = shoot(program, timeout=SHORT)
    assert time.monotonic() - begun >= SHORT
    assert why(shot) == {
        parent: "in uninterruptible sleep",
        child: f"traced by another process (host pid {program.host_pid})",
    }
    assert shot.summary.frozen_ms >= SHORT * 1000
    for pid in (parent, child):
        assert shot.tasks[pid].regs
        assert shot.tasks[pid].source("regs") == f"kernel:B, not stopped: {why(shot)[pid]}"
    assert shot.get(parent, "state") & 2
    assert shot.tasks[program.host_pid].source("regs") == "ptrace"
    assert witness.state(parent) == "D"
    program.say("go")
    assert program.read_line() == "back"  # it does not fall into the stop that it was told of
    until(lambda: witness.state(parent) == "S", "the parent to go on")
    assert status(parent, "TracerPid") == "0"


def test_a_parent_in_vfork_counts_as_frozen_and_goes_on(target: Callable[..., Target]) -> None:
    program = target("vforkparent")
    for _ in range(5):
        shot = shoot(program)
        assert_whole(shot)
        assert shot.tasks[program.host_pid].regs
        assert shot.tasks[program.host_pid].source("regs") == "kernel:B"
        program.say("")
        assert program.read_line() == "here"
    assert_free(program)
    assert program.proc.stdin
    program.proc.stdin.close()
    assert program.read_line() == "back"


def test_a_chain_of_parents_in_vfork_counts_as_frozen(target: Callable[..., Target]) -> None:
    program = target("vforkchain")
    shot = shoot(program)
    assert shot.summary.tasks == 3
    assert_whole(shot)
    assert all(task.regs for task in shot.image.tasks)
    program.say("")
    assert [program.read_line(), program.read_line()] == ["back 2", "back 1"]
    assert_free(program)


def test_an_untraced_child_is_caught(target: Callable[..., Target]) -> None:
    """CLONE_UNTRACED escapes the options of the tracer: only the passes find it."""
    program = target("children")
    for count in range(1, 5):
        program.say("untraced")
        program.read_line()
        shot = shoot(program)
        assert_whole(shot)
        assert shot.summary.tasks == count + 1
        assert all(task.source("regs") == "ptrace" for task in shot.image.tasks)


def test_a_leader_that_ended_before_its_threads(target: Callable[..., Target]) -> None:
    program = target("leaderless", init=True)
    left = host(program, said(program, "left")[0])
    shot = shoot(program)
    assert_whole(shot)
    assert [(one.host_pid, one.why) for one in shot.summary.no_registers] == [(program.host_pid, "zombie")]
    assert shot.get(program.host_pid, "state") & 0x20
    assert shot.tasks[left].source("regs") == "ptrace"
    assert shot.get(left, "leader", "tgid") == (program.pid, program.pid)
    assert_free(program)


def test_threads_that_the_kernel_made_for_a_process(target: Callable[..., Target]) -> None:
    program = target("ringworker")
    if program.lines != ["worker yes"]:
        pytest.skip("this kernel allows no io_uring")
    until(lambda: len(program.tids()) > 1 and all(witness.state(tid) == "S" for tid in program.tids()), "the worker to wait")
    for _ in range(3):
        shot = shoot(program)
        assert_whole(shot)
        assert shot.tasks.keys() == set(program.tids())
        assert shot.tasks[program.host_pid].regs
    assert_free(program)


@pytest.fixture
def freezer_group() -> Iterator[Path]:
    """A cgroup of the v1 freezer, whose frozen tasks cannot be stopped by a tracer."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next((fields[1] for fields in mounts if fields[2] == "cgroup" and "freezer" in fields[3].split(",")), None)
    if root is None:
        pytest.skip("the v1 freezer is not mounted here")
    group = Path(root) / f"cptbpf-test-{os.getpid()}"
    group.mkdir()
    yield group
    (group / "freezer.state").write_text("THAWED")
    for pid in (group / "cgroup.procs").read_text().split():
        (Path(root) / "cgroup.procs").write_text(pid)
    group.rmdir()


def test_a_task_that_its_cgroup_has_frozen(target: Callable[..., Target], freezer_group: Path) -> None:
    program = target("threads", 2)
    (freezer_group / "cgroup.procs").write_text(str(program.host_pid))
    (freezer_group / "freezer.state").write_text("FROZEN")
    until(lambda: (freezer_group / "freezer.state").read_text() == "FROZEN\n", "the freezer")
    shot = shoot(program, timeout=SHORT)
    assert why(shot) == dict.fromkeys(program.tids(), "frozen by its cgroup")
    said = "kernel:B, not stopped: frozen by its cgroup"
    assert all(task.regs and task.source("regs") == said for task in shot.image.tasks)
    (freezer_group / "freezer.state").write_text("THAWED")
    until(lambda: all(witness.state(tid) == "S" for tid in program.tids()), "the threads to go on")
    assert_free(program)


def test_zombies_are_without_registers_but_not_partial(target: Callable[..., Target]) -> None:
    program = target("zombie")
    child = next(pid for pid in program.members() if pid != program.host_pid)
    for how in ({}, {"registers": "bpf"}, {"freeze": False}):
        shot = shoot(program, **how)
        assert shot.summary.partial == ()
        assert [(one.host_pid, one.why) for one in shot.summary.no_registers] == [(child, "zombie")]
    assert witness.state(child) == "Z"


def test_kernel_threads_are_without_registers_but_not_partial() -> None:
    if status(2, "Name") != "kthreadd":
        pytest.skip("kernel threads are not visible here")
    shot = shoot(pid=2)
    assert shot.summary.partial == ()
    assert {one.why for one in shot.summary.no_registers} <= {"kernel thread", "exiting", "zombie"}
    task = shot.tasks[2]
    assert task.regs is None
    assert task.source("exe").startswith("absent: ")
    assert task.task.comm.startswith(b"kthreadd\0")


def test_the_window_is_measured_and_nobody_is_waited_for_in_vain(target: Callable[..., Target]) -> None:
    program = target("threads", 50)
    begun = time.monotonic()
    shot = shoot(program)
    assert 0 < shot.summary.frozen_ms <= shot.summary.wall_ms <= (time.monotonic() - begun) * 1000
    assert (shot.image.meta.freeze, shot.image.meta.registers) == (1, 1)


def test_a_task_that_is_dying_is_neither_waited_for_nor_held_against_the_certificate(target: Callable[..., Target]) -> None:
    program = target("dyinginit")
    dying = host(program, said(program, "dying")[0])
    until(lambda: witness.state(dying) == "S", "the init to wait for its child")
    shot = shoot(program)
    assert_whole(shot)
    assert shot.summary.frozen_ms < PATIENCE * 1000
    assert "exiting" in {one.why for one in shot.summary.no_registers if one.host_pid == dying}
    assert shot.get(dying, "flags") & 1  # CPT_PF_EXITING
    with TaskReader() as reader:
        freezer = Freezer()
        where = resolve(reader, f"pid:[{program.ns_inode}]", None)
        window = freezer.run(lambda: frozen_window(reader, freezer, where, "ptrace", PATIENCE))
    assert program.host_pid in window.frozen
    assert dying not in window.frozen
    assert dying not in window.why_not
    program.say("")
    assert program.read_line() == "ended"
