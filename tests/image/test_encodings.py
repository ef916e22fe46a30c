"""Segments, flags and times as the patch encodes them; registers inside the FPU areas."""

from struct import pack_into

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cptbpf.image.flags import encode_task_flags, task_flag_names, timespec_export, timespec_import
from cptbpf.image.model import XstateComponent
from cptbpf.image.segments import encode_segment, segment_name
from cptbpf.image.xstate import read_fxsave, read_xsave


@pytest.mark.parametrize(
    ("selector", "encoded", "valid"),
    [
        (0, 0, True),
        (0x63, 1, True),
        (0x6B, 2, True),
        (0x73, 3, True),
        (0x2B, 4, True),
        (0x23, 5, True),
        (0x33, 7, True),
        (0x7, 256, True),
        (0xF, 257, True),
        (0xFFFF, 256 + 8191, True),
        (0x10, 0, False),  # the kernel's own code segment: privilege level 0
        (0x2A, 0, False),
        (0x3, 0, False),  # the null descriptor with privilege level 3
        (0x7B, 0, False),
        (0x5B, 0, False),  # the descriptors beside the TLS ones
        (0x10033, 7, True),  # only 16 bits are a selector
    ],
)
def test_segments(selector: int, encoded: int, valid: bool) -> None:
    assert encode_segment(selector) == (encoded, valid)


def test_segment_names() -> None:
    names = [segment_name(encode_segment(selector)[0]) for selector in (0, 0x63, 0x2B, 0x23, 0x33, 0x1F)]
    assert names == ["zero", "tls1", "user32_ds", "user32_cs", "user64_cs", "ldt[3]"]
    assert segment_name(99) == "0x63"


def test_flags() -> None:
    assert [encode_task_flags(pf) for pf in (0x4, 0x40, 0x100, 0x200, 0x400, 0x2000)] == [1, 2, 4, 8, 16, 32]
    assert encode_task_flags(0x00200000 | 0x1) == 0
    assert encode_task_flags(0xFFFFFFFF) == 0x3F
    assert task_flag_names(0x5) == ("EXITING", "SUPERPRIV")


@given(st.integers(0, (1 << 32) * 1_000_000_000 - 1))
def test_times(nanoseconds: int) -> None:
    exported = timespec_export(nanoseconds)
    assert exported < 1 << 64
    assert exported & 0xFFFFFFFF < 1_000_000_000
    assert timespec_import(exported) == nanoseconds


def test_time_of_the_patch() -> None:
    assert timespec_export(3_000_000_007) == (3 << 32) + 7


def area() -> bytearray:
    """An XSAVE area with marked registers: legacy, ymm at 576, opmask, zmm and pkru behind."""
    data = bytearray(3000)
    pack_into("<HHBxHQQII", data, 0, 0x037F, 1, 0xFF, 2, 3, 4, 0x1F80, 0xFFFF)
    for at in range(8):
        data[32 + 16 * at] = 0x10 + at
    for at in range(16):
        data[160 + 16 * at] = 0x20 + at
        data[576 + 16 * at] = 0x40 + at
        data[1100 + 32 * at] = 0x60 + at
        data[1700 + 64 * at] = 0x80 + at
    pack_into("<8Q", data, 900, *range(8))
    pack_into("<I", data, 2900, 0x55)
    pack_into("<QQ", data, 464, 0x2E7, 0)
    pack_into("<Q", data, 512, 0x7)
    return data


TABLE = [
    XstateComponent(2, 576, 256, 0),
    XstateComponent(5, 900, 64, 0),
    XstateComponent(6, 1100, 512, 0),
    XstateComponent(7, 1700, 1024, 0),
    XstateComponent(9, 2900, 8, 0),
]


def test_fxsave_registers() -> None:
    state = read_fxsave(bytes(area()[:512]))
    assert (state.fcw, state.fsw, state.ftw, state.mxcsr, state.mxcsr_mask) == (0x037F, 1, 0xFF, 0x1F80, 0xFFFF)
    assert state.st[7] == 0x17
    assert state.xmm[15] == 0x2F
    assert state.ymm is None
    assert state.xstate_bv is None


def test_xsave_registers() -> None:
    state = read_xsave(memoryview(bytes(area())), TABLE)
    assert (state.xcr0, state.xstate_bv, state.pkru) == (0x2E7, 7, 0x55)
    assert state.opmask == tuple(range(8))
    assert state.ymm is not None
    assert state.zmm is not None
    assert state.ymm[3] == 0x43 << 128 | 0x23
    assert state.zmm[3] == 0x63 << 256 | state.ymm[3]
    assert state.zmm[18] == 0x82
    assert len(state.zmm) == 32


def test_a_component_outside_the_area_is_left_out() -> None:
    state = read_xsave(bytes(area()[:900]), [*TABLE, XstateComponent(9, 1 << 31, 8, 0)])
    assert state.ymm is not None
    assert (state.zmm, state.opmask, state.pkru) == (None, None, None)
