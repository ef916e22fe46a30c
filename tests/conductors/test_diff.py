"""Differences of images: what is added, gone and changed, and an image against what is there now."""

from collections.abc import Callable
from os import kill
from signal import SIGKILL
from typing import Any

import pytest

from cptbpf.conductors.diff import Change, diff, live
from cptbpf.errors import TargetError
from cptbpf.image.model import Image, Meta, X86_64Regs
from tests.conductors import witness
from tests.conductors.shots import settled, shoot, value
from tests.harness import Target, until
from tests.image.strategies import small_image, small_task


def of(*pids: int) -> Image:
    return small_image(0)._replace(tasks=tuple(small_task(pid) for pid in pids))


def test_an_image_does_not_differ_from_itself() -> None:
    assert not diff(small_image(), small_image())


def test_tasks_that_came_and_went() -> None:
    found = diff(of(1, 2), of(2, 3, 4))
    assert [task.task.pid for task in found.added] == [3, 4]
    assert [task.task.pid for task in found.gone] == [1]
    assert found.changed == ()


def test_an_id_that_was_given_to_another_task_is_another_task() -> None:
    later = small_task(1)
    later = later._replace(task=later.task._replace(real_start_time=later.task.real_start_time + 1))
    found = diff(of(1), of()._replace(tasks=(later,)))
    assert [len(found.added), len(found.gone), len(found.changed)] == [1, 1, 0]


def test_every_change_is_named_once_with_both_values() -> None:
    task = small_task(1)
    assert isinstance(task.regs, X86_64Regs)
    changed = task._replace(
        task=task.task._replace(nvcsw=task.task.nvcsw + 5, comm=b"other".ljust(16, b"\0")),
        regs=task.regs._replace(rip=0x1234),
        ext={**task.ext, "groups": (4,), "cred": (0x77, *task.ext["cred"][1:])},
    )
    found = diff(of(1), of()._replace(tasks=(changed,)))
    host = value(task, "host_pid")
    assert set(map(repr, found.changed)) == {
        repr(Change(1, "task", "nvcsw", task.task.nvcsw, task.task.nvcsw + 5, host)),
        repr(Change(1, "task", "comm", "small\udcff\0rest", "other", host)),
        repr(Change(1, "regs", "rip", hex(task.regs.rip), "0x1234", host)),
        repr(Change(1, "groups", "groups", [4, 24, 27], [4], host)),
        repr(Change(1, "cred", "cap_inheritable", hex(task.ext["cred"][0]), "0x77", host)),
    }


def test_what_one_image_lacks_is_counted_and_not_compared() -> None:
    task = small_task(1)
    lacking = task._replace(regs=None)
    found = diff(of(1), of()._replace(tasks=(lacking,)))
    assert not found
    assert task.regs is not None
    assert found.incomparable == len(task.regs)


@pytest.mark.parametrize(("rax", "call", "differs"), [(-512, 34, False), (-38, 34, False), (-4, 34, True), (-512, -1, True)])
def test_a_stop_within_a_system_call_is_no_difference(rax: int, call: int, differs: bool) -> None:
    def stopped(rax: int) -> Image:
        task = small_task(1)
        registers: Any = {"rax": rax % 2**64, "orig_rax": call % 2**64}
        assert task.regs is not None
        return of()._replace(tasks=(task._replace(regs=task.regs._replace(**registers)),))

    assert [change.field for change in diff(stopped(-38), stopped(rax)).changed] == (["rax"] if differs else [])


def test_an_image_of_another_boot_has_no_present() -> None:
    with pytest.raises(TargetError, match="another machine"):
        live(small_image()._replace(meta=Meta(strings={"boot_id": "other"})))


@pytest.mark.bpf
@pytest.mark.ptrace
def test_a_quiet_namespace_differs_from_its_image_by_what_the_stop_did(target: Callable[..., Target]) -> None:
    sleeper = target("sleeper")
    settled(sleeper)
    shot = shoot(sleeper)
    found = diff(shot.image, live(shot.image))
    assert not found.added and not found.gone
    # a stop is two switches, and the end of one may run the program a bit
    assert {change.group for change in found.changed} <= {"task", "sched", "kstack", "regs", "fxsave", "xsave"}
    steady = {"pid", "tgid", "ppid", "rppid", "uid", "comm", "state", "exit_code", "start_time", "policy"}
    assert not {change.field for change in found.changed} & steady


@pytest.mark.bpf
@pytest.mark.ptrace
def test_births_deaths_and_counters_since_the_image(target: Callable[..., Target]) -> None:
    parent = target("children", init=True)

    def child() -> int:
        parent.say("fork")
        return int(parent.read_line().split()[1])

    first = child()
    inside = settled(parent)
    shot = shoot(parent)
    kill(inside[first], SIGKILL)
    until(lambda: witness.state(inside[first]) == "Z", "the child to die")
    second = child()
    found = diff(shot.image, live(shot.image))
    assert [task.task.pid for task in found.added] == [second]
    assert any(change[:3] == (first, "task", "state") and change.b == "0xa0" for change in found.changed)
    assert (first, "task", "exit_code", 0, SIGKILL, inside[first]) in found.changed
    assert any(change.pid == parent.pid and change.field == "nvcsw" and change.b > change.a for change in found.changed)
