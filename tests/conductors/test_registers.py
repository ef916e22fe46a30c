"""Registers of programs that say what they have put into them, in every way that a snapshot takes registers."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cptbpf.image.model import TaskImage, X86_64Regs, X86Regs, XstateComponent
from tests.conductors import witness
from tests.conductors.shots import Shot, assert_whole, settled, shoot
from tests.harness import Target, until

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

PTRACE: dict[str, Any] = {}
BPF = {"registers": "bpf"}
RUNNING = {"freeze": False}
GENERAL = {"rbx": 2, "rdx": 4, "rsi": 5, "rdi": 6, "rbp": 7} | {f"r{n}": n for n in (8, 9, 10, 12, 13, 14, 15)}
SPINNING = {"rax": 1, "rcx": 3, "r11": 11}
PI = bytes.fromhex("35c26821a2da0fc90040")
ENOSYS, ERESTARTNOHAND = 2**64 - 38, 2**64 - 514
YMM, OPMASK, ZMM_LOW, ZMM_HIGH, PKRU, TILE = 2, 5, 6, 7, 9, 18
MXCSR_MASK = {28, 29, 30, 31}  # gdb knows no such register: 0 in its cores
NT_X86_XSTATE = 0x202
END_OF_AVX = 832
SEGMENTS = {"cs": 7, "ss": 4, "ds": 0, "es": 0, "fsindex": 0, "gsindex": 0}


def said(target: Target, key: str) -> int:
    """A number that a target said, in whichever base."""
    return int(next(line.split()[1] for line in target.lines if line.startswith(key + " ")), 0)


def shoot_at(target: Target, rip: int, how: dict[str, Any]) -> Shot:
    """A snapshot with the target at the instruction where all its registers are set: it says ready just before."""

    def there() -> Shot | None:
        shot = shoot(target, **how)
        regs = shot.tasks[target.host_pid].regs
        return shot if regs and rip == (regs.ip if isinstance(regs, X86Regs) else regs.rip) else None

    shot = until(there, f"rip {rip:#x}")
    assert shot
    return shot


def component(shot: Shot, task: TaskImage, number: int) -> bytes:
    """One component of a task's xstate, at the place that the image's own META gives."""
    place: XstateComponent = next(entry for entry in shot.image.meta.xstate if entry.number == number)
    assert task.xsave is not None
    return bytes(task.xsave[place.offset : place.offset + place.size])


@pytest.mark.parametrize(
    ("state", "how"),
    [("spin", PTRACE), ("blocked", PTRACE), ("spin", BPF), ("blocked", BPF), ("blocked", RUNNING)],
    ids=["spin-ptrace", "blocked-ptrace", "spin-bpf", "blocked-bpf", "blocked-running"],
)
def test_every_register(target: Callable[..., Target], state: str, how: dict[str, Any]) -> None:
    marked = target("marked", state)
    shot = shoot_at(marked, said(marked, "rip"), how)
    task = shot.tasks[marked.host_pid]
    regs = task.regs
    assert isinstance(regs, X86_64Regs)
    for name, times in (GENERAL | (SPINNING if state == "spin" else {})).items():
        assert getattr(regs, name) == 0x0101010101010101 * times, name
    assert (regs.rsp, regs.gsbase) == (said(marked, "rsp"), said(marked, "gs_base"))
    assert regs.fsbase
    assert {name: getattr(regs, name) for name in SEGMENTS} == SEGMENTS
    assert regs.eflags & 1
    assert regs.debugreg == (0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0)
    if state == "spin":
        assert regs.orig_rax == 2**64 - 1
    else:
        assert (regs.orig_rax, regs.rcx) == (34, regs.rip)
        assert regs.rax == (ENOSYS if how is RUNNING else ERESTARTNOHAND)
    assert task.fxsave
    assert bytes(task.fxsave[160:416]) == bytes(range(256))
    assert int.from_bytes(task.fxsave[:2], "little") == 0x027F
    assert int.from_bytes(task.fxsave[24:28], "little") == 0x1FC0
    assert bytes(task.fxsave[32:42]) == PI
    assert bytes(task.fxsave[416:]) == bytes(96)
    if said(marked, "ymm"):
        assert component(shot, task, YMM) == bytes(255 - n for n in range(256))
        assert task.xsave
        assert len(task.xsave) == shot.image.meta.xstate_size
        assert bytes(task.xsave[:464]) == bytes(task.fxsave[:464])
    source = {id(PTRACE): "ptrace", id(BPF): "kernel:B", id(RUNNING): "kernel:A"}[id(how)]
    assert task.source("regs") == source
    assert task.source("fxsave").endswith(source)


@pytest.mark.needs("avx512")
@pytest.mark.parametrize("how", [PTRACE, BPF], ids=["ptrace", "bpf"])
def test_avx_512(target: Callable[..., Target], how: dict[str, Any]) -> None:
    program = target("avx512")
    assert program.lines == ["zmm yes"]
    high = b"".join(bytes([i + 1]) * 64 for i in range(16, 32))

    def there() -> tuple[Shot, TaskImage] | None:
        shot = shoot(program, **how)
        task = shot.tasks[program.host_pid]
        # the last mask register is the last to be loaded
        return (shot, task) if component(shot, task, OPMASK)[-8:] == b"\7" * 8 else None

    shot, task = until(there, "the registers to be loaded") or (None, None)
    assert shot and task and task.xsave
    assert component(shot, task, ZMM_HIGH) == high
    assert component(shot, task, ZMM_LOW) == b"".join(bytes([i + 1]) * 32 for i in range(16))
    assert component(shot, task, YMM) == b"".join(bytes([i + 1]) * 16 for i in range(16))
    assert bytes(task.xsave[160:416]) == component(shot, task, YMM)
    assert component(shot, task, OPMASK) == b"".join(bytes([i]) * 8 for i in range(8))


@pytest.mark.needs("amx")
@pytest.mark.parametrize("how", [PTRACE, BPF], ids=["ptrace", "bpf"])
def test_amx_tiles(target: Callable[..., Target], how: dict[str, Any]) -> None:
    program = target("amx")
    assert program.lines == ["tile yes"]
    shot = shoot(program, **how)
    tile = component(shot, shot.tasks[program.host_pid], TILE)
    assert tile[:1024] == b"".join(bytes([row + 1]) * 64 for row in range(16))


@pytest.mark.needs("pku")
@pytest.mark.parametrize("how", [PTRACE, BPF, RUNNING], ids=["ptrace", "bpf", "running"])
def test_protection_keys(target: Callable[..., Target], how: dict[str, Any]) -> None:
    program = target("pkeys")
    until(lambda: witness.state(program.host_pid) == "S", "the program to sleep")
    shot = shoot(program, **how)
    task = shot.tasks[program.host_pid]
    assert int.from_bytes(component(shot, task, PKRU)[:4], "little") == said(program, "pkru")


@pytest.mark.parametrize("how", [PTRACE, BPF], ids=["ptrace", "bpf"])
def test_a_32_bit_process_with_a_tls_descriptor(target: Callable[..., Target], how: dict[str, Any]) -> None:
    compat = target("compat32")
    shot = shoot_at(compat, said(compat, "rip"), how)
    task, entry = shot.tasks[compat.host_pid], said(compat, "entry")
    regs = task.regs
    assert isinstance(regs, X86Regs)
    assert (regs.ax, regs.bx, regs.cx, regs.dx) == (0x11111111, 0x22222222, 0x33333333, 0x44444444)
    assert (regs.si, regs.di, regs.bp, regs.orig_ax) == (0x55555555, 0x66666666, 0x77777777, 0xFFFFFFFF)
    assert (regs.cs, regs.ss, regs.ds, regs.es, regs.fs, regs.gs) == (5, 4, 4, 4, 0, entry - 12 + 1)
    assert regs.debugreg == (0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0)
    descriptor = task.task.tls[entry - 12]
    assert descriptor & 0xFFFF == 0xFFF  # limit
    assert (descriptor >> 16 & 0xFFFFFF) | descriptor >> 56 << 24 == 0x12345000  # base
    assert descriptor >> 54 & 1  # 32 bits
    assert [word for index, word in enumerate(task.task.tls) if index != entry - 12] == [0, 0]
    assert task.fxsave
    assert bytes(task.fxsave[160:176]) == b"\xa5" * 16
    assert shot.data[shot.data.index(regs_head()) + 116 :][:4] == bytes(4)  # the tail of the record is not anybody's stack


def regs_head() -> bytes:
    """The head of an X86_REGS record: 120 bytes, in one piece, type 1025, content VOID."""
    return (120).to_bytes(8, "little") + (120).to_bytes(4, "little") + (1025).to_bytes(2, "little") + bytes(2)


@pytest.mark.parametrize("how", [PTRACE, BPF, RUNNING], ids=["ptrace", "bpf", "running"])
def test_hardware_breakpoints(target: Callable[..., Target], how: dict[str, Any]) -> None:
    debugger = target("debugger", "breakpoint")
    child = next(pid for pid in debugger.members() if pid != debugger.host_pid)
    until(lambda: witness.state(child) == "S", "the child to sleep")
    shot = shoot(debugger, **how)
    regs = shot.tasks[child].regs
    assert isinstance(regs, X86_64Regs)
    assert regs.debugreg[:4] == (0x400123, 0, 0, 0x7FF000)
    assert regs.debugreg[7] & ~0x400 == 0x1 | 0x40 | 0x9 << 28
    assert shot.tasks[debugger.host_pid].regs.debugreg[:4] == (0, 0, 0, 0)  # type: ignore[union-attr]


def test_what_another_tracer_holds_has_the_registers_of_kernel_memory(target: Callable[..., Target]) -> None:
    debugger = target("debugger", "watched")
    child = next(pid for pid in debugger.members() if pid != debugger.host_pid)
    until(lambda: witness.state(child) == "S", "the child to sleep")
    shot = shoot(debugger)
    assert [(one.host_pid, one.pid) for one in shot.summary.partial] == [(child, shot.get(child, "pid"))]
    assert f"host pid {debugger.host_pid}" in shot.summary.partial[0].why
    task = shot.tasks[child]
    assert isinstance(task.regs, X86_64Regs)
    assert (task.regs.orig_rax, task.regs.rax) == (34, ENOSYS)
    assert task.regs.debugreg[:4] == (0x400123, 0, 0, 0x7FF000)
    assert task.fxsave
    assert task.source("regs") == f"kernel:B, not stopped: {shot.summary.partial[0].why}"
    assert witness.state(child) == "S"


@pytest.mark.parametrize("name", ["specimen", "marked", "compat32", "ldt", "avx512", "amx", "pkeys", "burner", "threads"])
def test_the_kernels_view_equals_ptraces(target: Callable[..., Target], name: str) -> None:
    program = target(name, *([8] if name in ("burner", "threads") else []), init=True)
    settled(program) if name == "specimen" else None
    shot = shoot(program)
    assert_whole(shot)
    alive = [task for task in shot.image.tasks if not task.task.state & 0x30]
    assert len(alive) >= 2
    for task in alive:
        assert task.source("regs") == "ptrace"
        for view in ("kregs", "kfxsave", "kxsave") if shot.image.meta.xstate_size else ("kregs", "kfxsave"):
            assert task.source(view) == "kernel:B, equal", (task.task.pid, view)


def test_the_same_as_in_a_core_of_gdb(target: Callable[..., Target], tmp_path: Path) -> None:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import NoteSegment

    marked = target("marked", "blocked")
    shot = shoot_at(marked, said(marked, "rip"), PTRACE)
    task = shot.tasks[marked.host_pid]
    subprocess.run(["gcore", "-o", tmp_path / "core", str(marked.host_pid)], check=True, capture_output=True)
    with (tmp_path / f"core.{marked.host_pid}").open("rb") as stream:
        segments = (one for one in ELFFile(stream).iter_segments() if isinstance(one, NoteSegment))
        notes: dict[Any, bytes] = {note["n_type"]: note["n_descdata"] for segment in segments for note in segment.iter_notes()}
    status, regs = notes["NT_PRSTATUS"], task.regs
    words = [int.from_bytes(status[at : at + 8], "little") for at in range(112, 112 + 27 * 8, 8)]
    assert isinstance(regs, X86_64Regs)
    assert list(regs[regs._fields.index("r15") : regs._fields.index("rip") + 1]) == words[:17]
    assert words[17:21] == [0x33, regs.eflags, regs.rsp, 0x2B]
    assert words[21:] == [regs.fsbase, regs.gsbase, 0, 0, 0, 0]
    assert task.fxsave
    assert differing(notes["NT_FPREGSET"], task.fxsave) <= MXCSR_MASK
    if shot.image.meta.xstate_size:
        assert task.xsave
        # As far as gdb knows the components, and with features and header of gdb's own making. Before gdb 14 it takes what is
        # behind AVX for laid out as on Intel's processors, whatever this one says; the area has another length then.
        theirs, end = notes[NT_X86_XSTATE], END_OF_AVX
        if len(theirs) <= len(task.xsave):
            end = len(theirs)
        assert differing(theirs[:end], task.xsave[:end]) <= MXCSR_MASK | set(range(464, 576))


def differing(one: bytes, other: bytes | memoryview) -> set[int]:
    """Where two areas differ."""
    assert len(one) == len(other)
    return {at for at, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]}
