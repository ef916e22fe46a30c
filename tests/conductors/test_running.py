"""Without a freeze nobody is disturbed: no context switch is added, and registers are those of who is off-CPU."""

import time
from collections.abc import Callable

import pytest

import cptbpf
from tests.conductors import witness
from tests.conductors.shots import shoot
from tests.harness import SLOWNESS, Target, often, until

pytestmark = pytest.mark.bpf


def test_no_context_switch_is_added(target: Callable[..., Target]) -> None:
    program = target("threads", 4)
    until(lambda: all(witness.state(tid) == "S" for tid in program.tids()), "the threads to sleep")

    def switches() -> list[tuple[str, str]]:
        keys = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
        return [(program.status(keys[0], tid), program.status(keys[1], tid)) for tid in program.tids()]

    before = switches()
    for _ in range(often(50)):
        shot = shoot(program, freeze=False)
        assert all(task.regs and task.fxsave for task in shot.image.tasks)
        list(cptbpf.tasks(pidns=program.ns_inode))
    assert switches() == before
    assert (shot.summary.frozen_ms, shot.summary.consistent, shot.summary.partial) == (0, None, ())
    assert (shot.image.meta.freeze, shot.image.meta.registers, shot.image.trailer.flags) == (0, 2, 0)


def test_a_task_on_a_cpu_has_no_registers_and_the_image_says_why(target: Callable[..., Target]) -> None:
    burner = target("burner", 4)
    spinning = {tid for tid in burner.tids() if tid != burner.host_pid}
    deadline = time.monotonic() + 20 * SLOWNESS
    met: set[int] = set()
    while not met:
        assert time.monotonic() < deadline, "none was ever met on a cpu"
        shot = shoot(burner, freeze=False)
        met = {tid for tid in spinning if shot.tasks[tid].regs is None}
        for tid in met:
            task = shot.tasks[tid]
            assert {task.source(name) for name in ("regs", "fxsave", "xsave")} == {"absent: on a cpu"}
            assert (task.fxsave, task.xsave) == (None, None)
        assert {(one.host_pid, one.why) for one in shot.summary.no_registers} == {(tid, "on a cpu") for tid in met}
        assert shot.summary.partial == ()
        assert shot.tasks[burner.host_pid].regs
