"""Tasks that are born, execute programs and end while looked at: no error, nothing inconsistent, nobody left behind."""

import signal
import threading
import time
from collections.abc import Callable

import pytest

from cptbpf.errors import TargetError
from cptbpf.image.provenance import not_stopped
from tests.conductors import witness
from tests.conductors.shots import Shot, shoot, value
from tests.conductors.test_freeze import assert_free
from tests.harness import SLOWNESS, Target, often, until

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

ROUNDS = often(30)


def assert_sound(shot: Shot) -> None:
    """Ids are unique, parents stand before children, nothing moved, and who has no registers was dying."""
    assert shot.summary.moved == ()
    assert shot.summary.consistent
    assert shot.summary.partial == ()
    assert {one.why for one in shot.summary.no_registers} <= {"zombie", "exiting"}
    seen: set[int] = set()
    for task in shot.image.tasks:
        assert task.task.pid not in seen
        assert task.task.rppid == 0 or task.task.rppid in seen or task.task.pid != task.task.tgid
        seen.add(task.task.pid)


@pytest.mark.parametrize("kind", ["fork", "vfork", "thread", "mixed"])
def test_a_storm_of_births(target: Callable[..., Target], kind: str) -> None:
    storm = target("forkstorm", kind)
    most = born = turn = 0
    while turn < ROUNDS or (not born and turn < 20 * ROUNDS):
        turn += 1
        shot = shoot(storm, registers="bpf" if turn % 3 == 2 else "ptrace")
        assert_sound(shot)
        most = max(most, shot.summary.tasks)
        for task in shot.image.tasks:
            # whether it was there before the freeze or not, its parent is not the freezer
            parent = 0 if task.task.tgid == storm.pid else storm.pid
            assert (task.task.ppid, task.task.rppid, value(task, "ptrace")) == (parent, parent, 0)
            assert value(task, "host_ppid") == value(task, "host_rppid")
            held = kind in ("vfork", "mixed") and task.task.pid == storm.pid  # by its child: it never stops
            if task.regs is not None and not held and not_stopped(task.source("regs")) != "exiting":
                assert task.source("regs") == ("kernel:B" if turn % 3 == 2 else "ptrace")
            born += task.source("task", "state") == "kernel:B" and task.regs is not None
    storm.say("")
    made, failed = storm.read_line(), storm.read_line()
    assert int(made.split()[1]) > 0
    assert failed == "failed 0"
    assert most > 1, "no snapshot met a child"
    assert born, "no snapshot met one that was born after its first pass"
    assert_free(storm)


def test_orphans_leave_a_process_tree(target: Callable[..., Target]) -> None:
    """Their parent ends in the window: then they are not below the root any more, and nobody misses them."""
    storm = target("forkstorm", "orphans", init=True)
    for _ in range(ROUNDS):
        shot = shoot(pid=storm.host_pid)
        assert shot.summary.moved == ()
        assert shot.summary.partial == ()
        assert storm.host_pid in shot.tasks
    storm.say("")
    storm.read_line()
    assert storm.read_line() == "failed 0"
    assert_free(storm)


def test_a_thread_that_executes_programs(target: Callable[..., Target]) -> None:
    program = target("threadexec", 10, 1)
    for turn in range(2 * ROUNDS):
        shot = shoot(program, registers="bpf" if turn % 3 == 2 else "ptrace")
        assert_sound(shot)
        for task in shot.image.tasks:
            assert task.source("kregs") in ("kernel:B, equal", ""), "registers of another task with the same id"
        leader = shot.tasks[program.host_pid]
        assert leader.task.pid == leader.task.tgid == 1
        assert {task.task.tgid for task in shot.image.tasks} == {1}
    program.say("")
    assert int(program.read_line().split()[1]) > 5
    assert_free(program)


def test_snapshots_that_nobody_is_stopped_for(target: Callable[..., Target]) -> None:
    storm = target("forkstorm", "mixed")
    for _ in range(ROUNDS):
        shot = shoot(storm, freeze=False)
        assert shot.summary.partial == ()
        assert shot.summary.consistent is None
        assert shot.image.trailer.flags == 0
    storm.say("")
    storm.read_line()
    assert storm.read_line() == "failed 0"


def test_a_namespace_that_ends_meanwhile(target: Callable[..., Target]) -> None:
    """Killed at any instant of a snapshot, it is in the image, or gone: an error of one line."""
    taken = gone = 0
    turns = often(12)
    began = time.monotonic()
    shoot(target("threads", 30))
    whole = time.monotonic() - began
    for turn in range(turns):
        program = target("threads", 30)
        pid = program.host_pid
        killer = _after(whole * turn / (turns - 1), program)
        try:
            shot = shoot(program, timeout=1 * SLOWNESS)
        except TargetError as error:
            gone += 1
            assert "\n" not in str(error)
        else:
            taken += 1
            assert 0 < shot.summary.tasks <= 31
        killer.join()
        until(lambda: witness.state(pid) in ("", "Z"), "the end")  # noqa: B023
    assert taken


def _after(delay: float, program: Target) -> threading.Thread:
    def kill() -> None:
        time.sleep(delay)
        program.kill(signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread
