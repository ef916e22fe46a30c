"""The standard format of XSAVE, against ptrace's NT_X86_XSTATE of real processes and against buffers made by hand."""

import struct
from collections.abc import Callable
from typing import Any

import pytest

from cptbpf.cpu import Component, Layout, layout
from cptbpf.kernel.xstate import standard
from tests.conductors.shots import shoot
from tests.features import IN_VM
from tests.harness import Target

AREA = Layout(
    size=576 + 64 + 16 + 48 + 8,
    features=0b1000100111 | 1 << 5,
    components=(
        Component(2, 576, 64, 0),
        Component(5, 640, 16, 0),
        Component(9, 704, 8, 0),
        Component(11, 0, 24, 1),  # a supervisor's: in the kernel's compacted buffer, never in what a user sees
        Component(18, 656, 48, 2),  # aligned where compacted, and not enabled for users here
    ),
)
LEGACY = bytes(range(1, 251)) * 3


def buffer(present: int, compaction: int, parts: dict[int, tuple[int, bytes]]) -> bytes:
    """A kernel buffer: a legacy area full of marks, the header, and components at given places."""
    raw = bytearray(2048)
    raw[:416] = LEGACY[:416]
    struct.pack_into("=QQ", raw, 512, present, compaction)
    for offset, content in parts.values():
        raw[offset : offset + len(content)] = content
    return bytes(raw)


def test_a_compacted_buffer_is_spread_out() -> None:
    parts = {2: (576, b"Y" * 64), 9: (640, b"P" * 8), 11: (648, b"S" * 24), 18: (704, b"T" * 48)}
    compaction = 1 << 63 | 1 << 2 | 1 << 9 | 1 << 11 | 1 << 18 | 3
    out = standard(buffer(7 | 1 << 9 | 1 << 11, compaction, parts), 2**64 - 1, AREA)
    assert len(out) == AREA.size
    assert out[:416] == LEGACY[:416]
    assert out[576:640] == b"Y" * 64
    assert out[704:712] == b"P" * 8
    assert b"S" not in out[416:]
    assert b"T" not in out[416:]
    assert struct.unpack_from("=QQ", out, 512) == (7 | 1 << 9, 0)
    assert struct.unpack_from("=Q", out, 464) == (AREA.features,)


def test_a_standard_buffer_stays_where_it_is() -> None:
    parts = {2: (576, b"Y" * 64), 5: (640, b"M" * 16), 9: (704, b"P" * 8)}
    out = standard(buffer(7 | 1 << 5 | 1 << 9, 0, parts), 2**64 - 1, AREA)
    assert out[576:640] == b"Y" * 64
    assert out[640:656] == b"M" * 16
    assert out[704:712] == b"P" * 8


def test_pkru_is_the_one_that_the_thread_has() -> None:
    compaction = 1 << 63 | 1 << 9 | 3
    out = standard(buffer(3 | 1 << 9, compaction, {9: (576, b"stale..." * 1)}), 0x55555554, AREA)
    assert out[704:708] == struct.pack("=I", 0x55555554)


@pytest.mark.parametrize("absent", [1, 2, 4, 7])
def test_what_is_not_present_has_its_initial_value_and_not_what_is_stale(absent: int) -> None:
    present = 7 & ~absent
    out = standard(buffer(present, 1 << 63 | 7, {2: (576, b"Y" * 64)}), 2**64 - 1, AREA)
    if absent & 1:
        assert out[:2] == struct.pack("=H", 0x37F)
        assert not any(out[2:24])
        assert not any(out[32:160])
    else:
        assert out[:24] == LEGACY[:24]
        assert out[32:160] == LEGACY[32:160]
    assert out[160:416] == (bytes(256) if absent & 2 else LEGACY[160:416])
    assert out[576:640] == (bytes(64) if absent & 4 else b"Y" * 64)
    # MXCSR belongs to SSE and AVX
    assert out[24:28] == (LEGACY[24:28] if present & 6 else struct.pack("=I", 0x1F80))


@pytest.mark.bpf
@pytest.mark.ptrace
@pytest.mark.needs("xsave")
def test_many_processes_as_ptrace_shows_them(target: Callable[..., Target], spawn: Callable[..., Target]) -> None:
    commands = ["sleep 1000", "sh -c 'sleep 1000; :'", "python3 -c 'import time; time.sleep(1000)'"]
    script = "".join(f"{command} & " for command in commands * 3) + "echo ready; wait"
    crowd = spawn(["bash", "-c", script], ready=True)
    for program in (crowd, target("fresh", init=True), target("marked", init=True)):
        for _ in range(3):
            shot = shoot(program)
            stopped = [task for task in shot.image.tasks if task.source("regs") == "ptrace"]  # not dying, not in vfork
            assert len(stopped) > 1
            for task in stopped:
                assert task.source("kxsave") == task.source("kfxsave") == "kernel:B, equal", task.task


@pytest.mark.bpf
@pytest.mark.ptrace
@pytest.mark.parametrize("how", [{}, {"registers": "bpf"}, {"freeze": False}], ids=["ptrace", "bpf", "running"])
def test_a_process_that_never_used_its_fpu(target: Callable[..., Target], how: dict[str, Any]) -> None:
    program = target("fresh")
    shot = shoot(program, **how)
    task = shot.tasks[program.host_pid]
    assert task.fxsave
    area = bytes(task.fxsave)
    assert area[:2] == struct.pack("=H", 0x37F)
    assert area[24:28] == struct.pack("=I", 0x1F80)
    assert not any(area[2:24])
    assert not any(area[32:])
    if (here := layout()) is None:
        assert task.source("xsave").startswith("absent: ")
        return
    assert task.xsave
    whole = bytes(task.xsave)
    assert len(whole) == here.size
    assert whole[:464] == area[:464]
    assert struct.unpack_from("=Q", whole, 464) == (here.features,)
    # neither AVX nor AVX-512 is in use, which QEMU's emulation does not keep track of
    assert IN_VM or not struct.unpack_from("=Q", whole, 512)[0] & 0xE4
    pkru = next((entry.offset for entry in here.components if entry.number == 9), here.size)
    assert not any(whole[576:pkru])
