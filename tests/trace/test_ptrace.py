"""Numbers and layouts, against python-ptrace's and against the kernel's own answer."""

import ctypes
import errno
import os
from collections.abc import Callable

import pytest

from cptbpf.trace import ptrace, registers, xstate
from cptbpf.trace.buffers import Slab
from cptbpf.trace.freezer import Freezer
from tests.harness import Target, until
from tests.trace.freezing import freeze, state


def test_user_regs_struct_is_that_of_python_ptrace() -> None:
    from ptrace.binding.linux_struct import user_regs_struct

    assert ctypes.sizeof(user_regs_struct) == registers.SIZE
    theirs = {name: getattr(user_regs_struct, name).offset for name, _ in user_regs_struct._fields_}
    ours = {name: 8 * place for place, name in enumerate(registers.UserRegs._fields)}
    aliases = {"frame_pointer": "rbp", "rax": "rax"}
    assert {aliases.get(name, name): offset for name, offset in theirs.items()} == ours


def test_request_numbers_are_those_of_python_ptrace() -> None:
    from ptrace.binding import func

    ours = {
        "PTRACE_DETACH": ptrace.DETACH,
        "PTRACE_PEEKUSER": ptrace.PEEKUSER,
        "PTRACE_GETREGS": ptrace.GETREGS,
        "PTRACE_GETFPREGS": ptrace.GETFPREGS,
        "PTRACE_O_TRACEFORK": ptrace.O_TRACEFORK,
        "PTRACE_O_TRACEVFORK": ptrace.O_TRACEVFORK,
        "PTRACE_O_TRACECLONE": ptrace.O_TRACECLONE,
    }
    assert {name: getattr(func, name) for name in ours} == ours


@pytest.mark.ptrace
def test_errors_name_the_task() -> None:
    for call in (
        lambda: ptrace.floating_point(os.getpid()),
        lambda: ptrace.debug_register(os.getpid(), 7),
        lambda: ptrace.thread_area(os.getpid(), 12),
        lambda: ptrace.regset(os.getpid(), ptrace.NT_X86_XSTATE),
    ):
        with pytest.raises(OSError, match=f"task {os.getpid()}") as caught:
            call()
        assert caught.value.errno == errno.ESRCH


def test_thread_exists() -> None:
    assert ptrace.thread_exists(os.getpid(), os.getpid())
    assert not ptrace.thread_exists(os.getpid(), os.getppid())


AVX = xstate.Component(2, 576, 256, 0)
PKRU = xstate.Component(9, 2688, 8, 0)
TILECFG = xstate.Component(17, 2752, 64, 2)
TILEDATA = xstate.Component(18, 2816, 8192, 6)
LATER = xstate.Component(25, 11008, 64, 0)


@pytest.mark.parametrize(
    ("size", "components", "head", "tail_mask"),
    [
        (576, (), 576, 0),
        (832, (AVX,), 832, 0),
        (11008, (AVX, PKRU, TILECFG, TILEDATA), 2816, 1 << 18),
        (11072, (AVX, TILEDATA, LATER), 11072, 0),  # what is not per process must be read, so all before it is
    ],
)
def test_what_of_the_xstate_is_read_of_each_task(
    size: int, components: tuple[xstate.Component, ...], head: int, tail_mask: int
) -> None:
    assert xstate.layout_of(size, components) == xstate.Layout(size, head, tail_mask, components)


@pytest.mark.needs("xsave")
@pytest.mark.ptrace
def test_the_layout_is_the_kernels(target: Callable[..., Target]) -> None:
    program = target("threads", 0)
    whole: list[bytes] = []
    freeze(lambda: [program.host_pid], lambda _: whole.append(ptrace.regset(program.host_pid, ptrace.NT_X86_XSTATE)))
    layout = xstate.layout()
    assert layout.size == len(whole[0])
    xcr0 = int.from_bytes(whole[0][464:472], "little")
    assert {component.number for component in layout.components} == {n for n in range(2, 63) if xcr0 >> n & 1}
    assert all(component.offset + component.size <= layout.size for component in layout.components)


@pytest.mark.ptrace
def test_registers_without_xsave(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
    program = target("marked", "blocked")
    tid = program.host_pid
    until(lambda: state(tid) == "S", "the program to have set its registers, and to sleep")
    expected = freeze(lambda: [tid]).freezer
    monkeypatch.setattr(xstate, "layout", lambda: xstate.NONE)
    got = freeze(lambda: [tid]).freezer
    assert got.fxsave(tid) == expected.fxsave(tid)
    assert got.regs(tid) == expected.regs(tid)
    assert got.xstate(tid) is None


def test_slots_do_not_overlap() -> None:
    for head in (0, 832):
        slab = Slab(3, head)
        slots = [slab.take(tid) for tid in (11, 12, 13)]
        assert slab.free == 0
        for slot in slots:
            ctypes.memset(slot.regs, slot.tid, registers.SIZE)
            area = ctypes.c_uint64.from_address(slot.fpu.value or 0).value if head else slot.fpu
            ctypes.memset(area, slot.tid + 100, head or 512)
        for slot in slots:
            assert slab.regs(slot.place) == bytes([slot.tid]) * registers.SIZE
            assert slab.fpu(slot.place) == bytes([slot.tid + 100]) * (head or 512)
            if head:
                assert slab.xstate_bv[slot.place] == int.from_bytes(bytes([slot.tid + 100]) * 8, "little")


@pytest.mark.ptrace
def test_without_registers_tasks_are_only_stopped(target: Callable[..., Target]) -> None:
    program = target("threads", 3)
    freezer = Freezer(registers=False)

    def steps() -> list[int]:
        tids = program.tids()
        assert freezer.seize(tids) == {}
        freezer.interrupt(tids)
        return freezer.read()

    assert freezer.run(steps) == []
    assert freezer.regs(program.host_pid) is None
    assert freezer.frozen_ns > 0
