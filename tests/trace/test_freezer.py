"""What a freeze does to tasks, and what it leaves behind: nothing."""

import ctypes
import errno
import os
import signal
from collections.abc import Callable

import pytest

from cptbpf.trace import ptrace, registers
from cptbpf.trace.freezer import AT_ONCE, Freezer, refusal
from tests.harness import Target, often, until
from tests.trace.freezing import Frozen, assert_untouched, freeze, held_by_vfork, state, status, tasks_of, threads_of

pytestmark = pytest.mark.ptrace


@pytest.mark.parametrize("count", [0, 3, 200, AT_ONCE + 50])
def test_all_threads_stop_and_go_on(target: Callable[..., Target], count: int) -> None:
    program = target("threads", count)
    states: set[str] = set()
    frozen = freeze(lambda: threads_of(program.host_pid), lambda f: states.update(map(state, f.tids)), patience=10)
    assert states == {"t"}
    assert len(frozen.tids) == count + 1
    assert not frozen.pending
    assert not frozen.refused
    assert all(frozen.freezer.regs(tid) for tid in frozen.tids)
    assert frozen.freezer.frozen_ns > 0
    assert_untouched(frozen.tids)


def test_running_threads_stop_and_go_on(target: Callable[..., Target]) -> None:
    burner = target("burner", 4)
    frozen = freeze(lambda: threads_of(burner.host_pid))
    assert not frozen.pending
    assert_untouched(frozen.tids)
    until(lambda: sorted(map(state, frozen.tids)) == ["R"] * 4 + ["S"], "the threads to run")


def test_a_stopped_process_stays_stopped_and_can_be_continued(target: Callable[..., Target]) -> None:
    program = target("stopped")
    child = next(pid for pid in program.members() if pid != program.host_pid)
    for _ in range(5):
        frozen = freeze(lambda: tasks_of(program))
        assert not frozen.pending
        assert frozen.freezer.regs(child)
        until(lambda: state(child) == "T", "the child to be back in its stop")
    os.kill(child, signal.SIGUSR1)
    os.kill(child, signal.SIGCONT)
    assert program.read_line() == "hit"
    until(lambda: state(child) == "S", "the child to go on")


def test_sigcont_during_a_freeze_takes_effect_after_it(target: Callable[..., Target]) -> None:
    program = target("stopped")
    child = next(pid for pid in program.members() if pid != program.host_pid)

    def go_on(_: Frozen) -> None:
        os.kill(child, signal.SIGCONT)
        os.kill(child, signal.SIGUSR1)

    freeze(lambda: tasks_of(program), go_on)
    assert program.read_line() == "hit"
    until(lambda: state(child) == "S", "the child to go on")


def test_sigstop_during_a_freeze_takes_effect_after_it(target: Callable[..., Target]) -> None:
    program = target("threads", 3)
    frozen = freeze(lambda: threads_of(program.host_pid), lambda _: program.kill(signal.SIGSTOP))
    until(lambda: {state(tid) for tid in frozen.tids} == {"T"}, "the stop")
    program.kill(signal.SIGCONT)
    until(lambda: {state(tid) for tid in frozen.tids} == {"S"}, "the threads to go on")


@pytest.mark.parametrize("early", [True, False], ids=["before the interrupt", "while frozen"])
def test_sigkill_of_the_target_kills_it(target: Callable[..., Target], early: bool) -> None:
    program = target("threads", 3, init=True)

    def kill(_: Frozen | None = None) -> None:
        program.kill()

    freeze(lambda: threads_of(program.host_pid), None if early else kill, after_seize=kill if early else None, patience=0.1)
    until(lambda: not program.alive(), "the program to end")


def test_a_vfork_parent_is_released_though_it_never_stopped(target: Callable[..., Target]) -> None:
    program = target("vforkparent")
    child = next(pid for pid in program.members() if pid != program.host_pid)
    assert state(program.host_pid) == "D"
    for _ in range(3):
        frozen = freeze(lambda: tasks_of(program), patience=0.05)
        assert frozen.pending == [program.host_pid]
        assert frozen.freezer.regs(child)
        assert_untouched({child})
        program.say("")
        assert program.read_line() == "here"
    assert program.proc.stdin
    program.proc.stdin.close()
    assert program.read_line() == "back"
    until(lambda: state(program.host_pid) == "S", "the parent to go on")


def test_children_that_escape_the_options_are_found_by_the_list(target: Callable[..., Target]) -> None:
    program = target("children")
    listed = tasks_of(program)

    def make_child() -> None:
        program.say("untraced")
        assert program.read_line().startswith("child")

    lists = iter([listed])  # the first list was made before the child was
    frozen = freeze(lambda: next(lists, None) or tasks_of(program), all_stopped, after_seize=make_child)
    assert len(frozen.tids) == 2
    assert_untouched(frozen.tids)


@pytest.mark.parametrize("how", ["fork", "vfork", "thread"])
def test_children_are_seized_at_birth(target: Callable[..., Target], how: str) -> None:
    program = target("children")
    listed = tasks_of(program)
    born: set[int] = set()

    def make_child() -> None:
        program.say(how)
        born.update(until(lambda: tasks_of(program) - listed, "the child"))
        (child,) = born
        until(lambda: state(child) == "t", "the child to stop by itself")

    lists = iter([listed])
    frozen = freeze(lambda: next(lists, None) or tasks_of(program), all_stopped, after_seize=make_child)
    assert frozen.tids == listed | born
    assert not frozen.refused
    assert all(frozen.freezer.regs(tid) for tid in frozen.tids)
    assert_untouched(frozen.tids)
    if how == "vfork":
        os.kill(born.pop(), signal.SIGUSR1)
    assert program.read_line().startswith("child")


@pytest.mark.parametrize("how", ["fork", "vfork", "thread", "mixed"])
def test_whoever_forks_all_the_time_notices_nothing(target: Callable[..., Target], how: str) -> None:
    storm = target("forkstorm", how)
    most = 0
    for _ in range(often(30)):
        frozen = freeze(lambda: tasks_of(storm), all_stopped, patience=10)
        most = max(most, len(frozen.tids))
    storm.say("")
    made, failed = storm.read_line(), storm.read_line()
    assert int(made.split()[1]) > 0
    assert failed == "failed 0"
    assert most > 1, "no freeze met a child"
    assert_untouched(tasks_of(storm))


def all_stopped(frozen: Frozen) -> None:
    for tid in frozen.tids - frozen.refused.keys() - set(frozen.pending):
        assert state(tid) in ("t", "Z", "X", ""), tid
    assert held_by_vfork(frozen.pending, frozen.tids)


def what_was_read_is_still_so(frozen: Frozen) -> None:
    """A thread that executes a program takes over the leader's id: what was read of the old leader is void."""
    buffer = ctypes.create_string_buffer(registers.SIZE)
    for tid in frozen.tids:
        data = frozen.freezer.regs(tid)
        if state(tid) == "":
            assert data is None, tid
        else:
            assert ptrace.request(ptrace.GETREGS, tid, 0, ctypes.addressof(buffer)) == 0, (tid, state(tid))
            assert data == buffer.raw, tid


def test_a_thread_that_executes_a_program_is_not_held_up(target: Callable[..., Target]) -> None:
    program = target("threadexec", 20, 1, "wait")
    program.say("")
    assert program.read_line() == "execs 0"
    for _ in range(often(100)):
        frozen = freeze(lambda: threads_of(program.host_pid), what_was_read_is_still_so, patience=10)
        assert not frozen.pending
    program.say("")
    assert int(program.read_line().split()[1]) >= often(100) // 20
    assert_untouched(threads_of(program.host_pid))


def test_who_takes_over_the_id_of_an_interrupted_leader_is_interrupted_too(target: Callable[..., Target]) -> None:
    program = target("threadexec", 0, 0, "wait")
    leader = program.host_pid
    executor = until(lambda: next(iter(threads_of(leader) - {leader}), 0), "the thread")
    freezer = Freezer()

    def steps() -> None:
        assert freezer.seize([leader, executor]) == {}
        freezer.interrupt([leader])
        until(lambda: state(leader) == "t", "the leader to stop")
        program.say("sleep")
        until(lambda: executor not in threads_of(leader), "the thread to become the leader")
        freezer.interrupt([executor])
        until(lambda: not freezer.read(), "the new leader to stop")
        assert state(leader) == "t"

    freezer.run(steps)
    assert freezer.regs(leader)
    assert freezer.regs(executor) is None
    assert program.read_line() == "execs 0"
    assert_untouched(threads_of(leader))


def test_seize_of_a_task_in_execve_is_not_stuck_for_ever(target: Callable[..., Target]) -> None:
    """It waits for that execve, which waits for dead threads, which are the tracer's to reap: the starting thread does it."""
    program = target("threadexec", 40, 0, "wait")
    program.say("")
    assert program.read_line() == "execs 0"
    for _ in range(often(200)):
        lists = iter([{program.host_pid}])  # the others only once the leader is being stopped
        frozen = freeze(lambda: next(lists, None) or threads_of(program.host_pid), patience=10)  # noqa: B023
        assert not frozen.pending
    program.say("")
    assert program.read_line().startswith("execs")


def test_who_is_refused_and_why(target: Callable[..., Target]) -> None:
    debugger = target("debugger", "traced")
    traced = next(pid for pid in debugger.members() if pid != debugger.host_pid)
    undead = target("zombie")
    zombie = next(pid for pid in undead.members() if pid != undead.host_pid)
    gone = target("threads", 0)
    gone.close()
    frozen = freeze(lambda: [traced, zombie, gone.host_pid, os.getpid(), debugger.host_pid])
    assert frozen.refused == {traced: errno.EPERM, zombie: errno.EPERM, gone.host_pid: errno.ESRCH, os.getpid(): errno.EPERM}
    reasons = {tid: refusal(tid, error) for tid, error in frozen.refused.items()}
    assert reasons == {
        traced: f"traced by task {debugger.host_pid}",
        zombie: "a zombie",
        gone.host_pid: "gone",
        os.getpid(): "a thread of cptbpf itself",
    }
    assert frozen.freezer.regs(debugger.host_pid)
    assert frozen.freezer.regs(traced) is None
    assert status(traced, "TracerPid") == str(debugger.host_pid)
    assert state(zombie) == "Z"


def test_the_status_of_a_child_that_dies_while_frozen_is_left_to_its_parent() -> None:
    child = os.fork()
    if not child:
        signal.pause()
        os._exit(0)
    freeze(lambda: [child], lambda _: os.kill(child, signal.SIGKILL))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_a_dead_child_of_ours_is_not_reaped_within(target: Callable[..., Target]) -> None:
    child = os.fork()
    if not child:
        signal.pause()
        os._exit(0)

    def kill() -> None:
        os.kill(child, signal.SIGKILL)
        until(lambda: state(child) == "Z", "the child to die")

    frozen = freeze(lambda: [child], after_seize=kill, patience=0.1)
    assert frozen.freezer.regs(child) is None
    assert not frozen.pending
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
