"""The registers of programs that say what they have put into them."""

from collections.abc import Callable

import pytest

from cptbpf.trace import ptrace, registers
from cptbpf.xsave import xstate_bv
from tests.harness import Target, until
from tests.trace.freezing import Frozen, freeze

pytestmark = pytest.mark.ptrace

GENERAL = {"rbx": 2, "rdx": 4, "rsi": 5, "rdi": 6, "rbp": 7} | {f"r{n}": n for n in (8, 9, 10, 12, 13, 14, 15)}
PI_80 = bytes.fromhex("35c26821a2da0fc90040")


def said(target: Target, key: str) -> int:
    return int(next(line.split()[1] for line in target.lines if line.startswith(key)), 0)


def read_at(target: Target, rip: int) -> Frozen:
    """Freeze the target at the instruction where all its registers are set: it says ready just before."""

    def there() -> Frozen | None:
        frozen = freeze(lambda: [target.host_pid])
        data = frozen.freezer.regs(target.host_pid)
        assert data
        # A stopped system call that is to be restarted stands at the instruction itself or behind it.
        return frozen if registers.parse(data).rip == rip else None

    frozen = until(there, f"rip {rip:#x}")
    assert frozen
    return frozen


@pytest.mark.parametrize("how", ["spin", "blocked"])
def test_every_general_register(target: Callable[..., Target], how: str) -> None:
    marked = target("marked", how)
    frozen = read_at(marked, said(marked, "rip"))
    data = frozen.freezer.regs(marked.host_pid)
    assert data and len(data) == registers.SIZE
    regs = registers.parse(data)
    for name, k in GENERAL.items():
        assert getattr(regs, name) == 0x0101010101010101 * k, name
    assert regs.rsp == said(marked, "rsp")
    assert regs.gs_base == said(marked, "gs_base")
    assert regs.fs_base != 0
    assert (regs.cs, regs.ss) == (0x33, 0x2B)
    assert not regs.is_compat
    assert regs.eflags & 1
    if how == "spin":
        assert regs.rax == 0x0101010101010101
        assert regs.rcx == 0x0303030303030303
        assert regs.r11 == 0x0B0B0B0B0B0B0B0B
        assert regs.orig_rax == 2**64 - 1
    else:
        assert regs.orig_rax == 34
        assert regs.rax == 2**64 - 514  # ERESTARTNOHAND: pause(2) is to be told of the interruption
        assert regs.rcx == regs.rip


@pytest.mark.parametrize("how", ["spin", "blocked"])
def test_every_vector_register(target: Callable[..., Target], how: str) -> None:
    marked = target("marked", how)
    frozen = read_at(marked, said(marked, "rip"))
    fxsave = frozen.freezer.fxsave(marked.host_pid)
    assert fxsave and len(fxsave) == 512
    assert fxsave[160:416] == bytes(range(256))
    assert int.from_bytes(fxsave[0:2], "little") == 0x027F
    assert int.from_bytes(fxsave[24:28], "little") == 0x1FC0
    assert fxsave[32:42] == PI_80
    layout = frozen.freezer.layout
    whole = frozen.freezer.xstate(marked.host_pid)
    if not layout.head:
        assert whole is None
        return
    assert whole and len(whole) == layout.size
    assert whole[160:416] == bytes(range(256))
    if said(marked, "ymm"):
        upper = next(component for component in layout.components if component.number == 2)
        assert xstate_bv(whole) & 0b111 == 0b111
        assert whole[upper.offset : upper.offset + upper.size] == bytes(255 - n for n in range(256))


@pytest.mark.parametrize("name", ["marked", "compat32"])
def test_what_was_read_is_what_the_kernel_shows_in_other_ways(target: Callable[..., Target], name: str) -> None:
    marked = target(name)
    direct: dict[str, bytes] = {}

    def ask(frozen: Frozen) -> None:
        tid = marked.host_pid
        if name == "compat32":
            direct["fxsave"] = ptrace.regset(tid, ptrace.NT_PRXFPREG) if has_xmm_note(tid) else b""
        else:
            direct["fxsave"] = ptrace.floating_point(tid)
        if frozen.freezer.layout.head:
            direct["xstate"] = ptrace.regset(tid, ptrace.NT_X86_XSTATE)

    frozen = freeze(lambda: [marked.host_pid], ask)
    assert frozen.freezer.xstate(marked.host_pid) == direct.get("xstate")
    # the software's bytes are not part of the record: some kernels leave there what they show at this place of the xstate
    assert frozen.freezer.fxsave(marked.host_pid) == direct["fxsave"][:416] + bytes(96)


def has_xmm_note(tid: int) -> bool:
    """GETREGSET goes by the task's own view: 32-bit tasks have NT_PRXFPREG."""
    return len(ptrace.regset(tid, ptrace.NT_PRXFPREG)) == 512


def test_compat_task_with_a_tls_descriptor(target: Callable[..., Target]) -> None:
    compat = target("compat32")
    areas: list[tuple[int, int, int, int]] = []

    def ask(frozen: Frozen) -> None:
        areas[:] = [ptrace.thread_area(compat.host_pid, entry) for entry in ptrace.TLS_ENTRIES]

    rip = said(compat, "rip")
    read_at(compat, rip)
    frozen = freeze(lambda: [compat.host_pid], ask)
    data = frozen.freezer.regs(compat.host_pid)
    assert data
    regs = registers.parse(data)
    assert regs.is_compat
    assert [regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp] == [0x11111111 * n for n in range(1, 8)]
    assert regs.rip == rip
    entry = said(compat, "entry")
    assert regs.gs == entry * 8 + 3
    fxsave = frozen.freezer.fxsave(compat.host_pid)
    assert fxsave and fxsave[160:176] == b"\xa5" * 16
    used = {area[0]: area for area in areas}
    assert used[entry] == (entry, 0x12345000, 0xFFF, 0x41)  # seg_32bit, useable
    assert all(area[3] == 0x28 for number, area in used.items() if number != entry)


def test_debug_registers_set_by_another_tracer(target: Callable[..., Target]) -> None:
    debugger = target("debugger", "breakpoint")
    child = next(pid for pid in debugger.members() if pid != debugger.host_pid)
    found: list[tuple[int, ...]] = []
    freeze(lambda: [child], lambda _: found.append(tuple(ptrace.debug_register(child, number) for number in range(8))))
    ((dr0, dr1, dr2, dr3, _, _, dr6, dr7),) = found
    assert (dr0, dr1, dr2, dr3) == (0x400123, 0, 0, 0x7FF000)
    assert dr6 in (0, 0xFFFF0FF0)
    assert dr7 & 0xF00000FF == 0x90000041


def test_a_task_that_was_not_read_has_no_registers(target: Callable[..., Target]) -> None:
    frozen = freeze(list)
    assert frozen.freezer.regs(1) is None
    assert frozen.freezer.xstate(1) is None
    assert frozen.freezer.fxsave(1) is None
    assert frozen.freezer.frozen_ns == 0


def test_tile_data_come_with_the_task_that_has_some(target: Callable[..., Target]) -> None:
    amx = target("amx")
    plain = target("threads", 1)
    tids = [amx.host_pid, plain.host_pid]
    frozen = freeze(lambda: tids)
    tile = next((component for component in frozen.freezer.layout.components if component.number == 18), None)
    if amx.lines == ["tile no"]:
        assert tile is None or not any((frozen.freezer.xstate(amx.host_pid) or b"")[tile.offset :])
        return
    assert tile
    with_tile, without = (frozen.freezer.xstate(tid) for tid in tids)
    assert with_tile and without
    assert len(with_tile) == len(without) == frozen.freezer.layout.size
    assert with_tile[tile.offset : tile.offset + 1024] == b"".join(bytes([row]) * 64 for row in range(1, 17))
    assert not any(without[tile.offset : tile.offset + tile.size])
