"""The FPU area: offsets and numbers are the kernel's own."""

import pytest

from cptbpf import xsave
from cptbpf.kernel.btf import Btf, Kind

PLACES = [
    ("fxregs_state", "cwd", xsave.CONTROL.start),
    ("fxregs_state", "mxcsr", xsave.CONTROL.stop),
    ("fxregs_state", "mxcsr", xsave.MXCSR.start),
    ("fxregs_state", "st_space", xsave.ST.start),
    ("fxregs_state", "xmm_space", xsave.XMM.start),
    ("fxregs_state", "padding", xsave.UNDEFINED.start),
    ("fxregs_state", "sw_reserved", xsave.SOFTWARE.start),
    ("xregs_state", "header", xsave.HEADER.start),
    ("xregs_state", "extended_state_area", xsave.EXTENDED),
    ("xstate_header", "xfeatures", 0),
]


@pytest.mark.bpf
def test_offsets_are_those_of_the_kernels_structs() -> None:
    kernel = Btf()
    for name, member, offset in PLACES:
        struct = kernel.find(name, Kind.STRUCT)
        assert struct, name
        assert {one.name: one.offset for one in kernel.members(struct)}[member] == offset, f"{name}.{member}"
    struct = kernel.find("fxregs_state", Kind.STRUCT)
    assert struct and struct.size == xsave.FXSAVE_SIZE


@pytest.mark.bpf
def test_components_have_the_numbers_that_the_kernel_gives_them() -> None:
    kernel = Btf()
    enum = kernel.find("xfeature", Kind.ENUM)
    if enum is None:
        pytest.skip("the kernel's BTF has no enum xfeature")
    theirs = {name.upper(): number for name, number in kernel.enumerators(enum)}
    numbers = {name: value for name, value in vars(xsave).items() if isinstance(value, int) and value in xsave.COMPONENTS}
    ours = {f"XFEATURE_{name}": number for name, number in numbers.items()}
    assert len(ours) == len(xsave.COMPONENTS)
    assert ours.keys() & theirs.keys() >= {"XFEATURE_FP", "XFEATURE_ZMM_HI256", "XFEATURE_PKRU"}
    for name in ours.keys() & theirs.keys():  # a kernel before 5.16 knows no tiles
        assert theirs[name] == ours[name], name


def test_the_parts_of_the_fpu_area_lie_side_by_side() -> None:
    parts = (xsave.CONTROL, xsave.MXCSR, xsave.ST, xsave.XMM, xsave.UNDEFINED, xsave.HEADER)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert xsave.SOFTWARE.stop == xsave.UNDEFINED.stop == xsave.FXSAVE_SIZE
    assert xsave.HEADER.stop == xsave.EXTENDED


@pytest.mark.parametrize("size", [512, 600])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_fxsave_has_no_software_bytes(size: int, kind: type) -> None:
    assert xsave.fxsave_of(kind(b"\xff" * size)) == b"\xff" * 416 + bytes(96)


def test_xstate_bv_is_the_first_word_of_the_header() -> None:
    assert xsave.xstate_bv(bytes(512) + (2**63 | 7).to_bytes(8, "little") + b"\xff" * 56) == 2**63 | 7
