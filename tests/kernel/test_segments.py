"""The bases of fs and gs, as the kernel's memory has them on a CPU with RDFSBASE and on one without."""

import signal
from collections.abc import Callable

import pytest

from cptbpf.kernel import record, tasks
from tests.harness import Target, until

pytestmark = pytest.mark.bpf
BASE = 0x12345000


def bases(program: Target) -> tuple[int, int, int]:
    """gs_base, the selector in gs, and fs_base, of kernel memory."""
    with tasks.TaskReader() as reader:
        reader.ask(program.ns_inode, 1)
        extra = next(task.extra for task in reader.full(registers=True).tasks() if task.state.host_pid == program.host_pid)
    return extra.gsbase, extra.gsindex, extra.fsbase


@pytest.mark.parametrize("by_descriptor", [False, True], ids=["as this CPU has it", "by the descriptor"])
def test_a_selector_of_the_ldt(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch, by_descriptor: bool) -> None:
    program = target("ldt")
    if by_descriptor:
        monkeypatch.setattr(tasks, "_without_fsgsbase", lambda: record.READER_NO_FSGSBASE)
    base, selector, thread_area = bases(program)
    assert program.lines == [f"selector {selector}"]
    assert base == BASE
    assert thread_area  # set by arch_prctl(2), with a selector of 0


def test_a_selector_of_the_tls_entries(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    program = target("compat32")
    monkeypatch.setattr(tasks, "_without_fsgsbase", lambda: record.READER_NO_FSGSBASE)
    # it spins: the kernel's memory has its selectors as of the last time that it left the processor
    program.kill(signal.SIGSTOP)
    until(lambda: program.status("State").startswith("T"), "compat32 to stop")
    base, selector, _ = bases(program)
    assert f"entry {selector >> 3}" in program.lines
    assert base == BASE
