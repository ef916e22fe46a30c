"""The window of many tasks: pass B is read while ptrace reads the registers, unless somebody was not still for one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from cptbpf.conductors import freeze
from cptbpf.conductors.beside import Beside
from cptbpf.conductors.merge import certificate
from cptbpf.conductors.target import resolve
from cptbpf.kernel.tasks import FullPass, TaskReader
from cptbpf.trace.freezer import Freezer
from tests.conductors.shots import assert_whole, shoot
from tests.conductors.test_freeze import assert_free
from tests.harness import SLOWNESS, Target, until
from tests.trace.freezing import state

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]
COUNT = freeze._MANY + 40


class Early:
    """A pass B that was read before anybody was told to stop."""

    def __init__(self, reader: TaskReader) -> None:
        self._read = reader.full(registers=True)

    def start(self) -> None:
        pass

    def result(self) -> FullPass:
        return self._read


@contextmanager
def early(reader: TaskReader) -> Iterator[Beside[FullPass]]:
    yield cast(Beside[FullPass], Early(reader))


def in_time(reader: TaskReader) -> Beside[FullPass]:
    return Beside(lambda: reader.ready(registers=True))


@pytest.mark.parametrize(
    ("pass_b", "left", "whole"),
    [(in_time, 0, True), (early, 0, False), (in_time, 1, False)],
    ids=["all still", "pass B too early", "one not stopped"],
)
def test_at_once_or_not_at_all(
    target: Callable[..., Target], pass_b: Callable[..., Beside[FullPass]], left: int, whole: bool
) -> None:
    program = target("threads", COUNT)
    freezer = Freezer()
    with TaskReader() as reader:
        where = resolve(reader, program.ns_inode, None)
        watch = freeze._Watch(reader, freezer, where)

        def steps() -> freeze._Seen | None:
            watch.seize_all()
            told = sorted(watch.seized)[left:]
            with pass_b(reader) as beside:
                freezer.interrupt(told)
                until(lambda: {state(tid) for tid in told} == {"t"}, "the stops")
                return freeze._at_once(reader, freezer, watch, beside)

        seen = freezer.run(steps)
    assert (seen is not None) == whole
    if seen is not None:
        tasks = list(seen.b.raw())
        assert {task.host_pid for task in tasks} == set(program.tids()) == watch.seized
        assert seen.b.running == 0
        assert certificate(tasks, seen.c, frozenset(watch.seized)) == []
        assert all(freezer.regs(tid) for tid in watch.seized)
    assert_free(program)


@pytest.mark.parametrize("registers", ["ptrace", "bpf"])
@pytest.mark.parametrize("name", ["threads", "burner"])
def test_a_snapshot_of_many(target: Callable[..., Target], name: str, registers: str) -> None:
    # so many threads that spin take an emulated machine minutes to stop
    program = target(name, COUNT if name == "threads" or SLOWNESS == 1 else 30)
    for _ in range(3):
        shot = shoot(program, registers=registers, timeout=10 * SLOWNESS)
        assert_whole(shot)
        assert shot.tasks.keys() == set(program.tids())
        assert {task.source("regs") for task in shot.image.tasks} == {"ptrace" if registers == "ptrace" else "kernel:B"}
        assert all(task.source("kregs") in ("kernel:B, equal", "") for task in shot.image.tasks)
    assert_free(program)


def test_what_has_to_be_read_again_is(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaders are, when a thread is found dead: also where that comes out in the sweep that should have been the last one."""
    program = target("threads", 3)
    leader = program.host_pid
    read, sweeps = Freezer.read, []

    def sweep(freezer: Freezer) -> list[int]:
        left = read(freezer)
        sweeps.append(left)
        if len(sweeps) == 1:
            return [leader]  # as if it had not stopped: a look follows, which says that all have
        if len(sweeps) == 2:
            freezer._read_again([leader])
            return [leader]
        return left

    monkeypatch.setattr(Freezer, "read", sweep)
    shot = shoot(program)
    assert_whole(shot)
    assert {task.source("regs") for task in shot.image.tasks} == {"ptrace"}
    assert_free(program)


def test_without_a_thread_one_comes_after_the_other(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    program = target("threads", COUNT)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(freeze, "Beside", refuse)
    assert_whole(shoot(program))
    assert_free(program)
