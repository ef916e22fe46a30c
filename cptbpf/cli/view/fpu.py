"""The FPU and vector registers of a task."""

from collections.abc import Iterator

from cptbpf.cli.text import escape
from cptbpf.image.model import Meta, TaskImage
from cptbpf.image.xstate import Xstate, read_fxsave, read_xsave
from cptbpf.xsave import EXTENDED, FXSAVE_SIZE


def vector_lines(meta: Meta, task: TaskImage) -> Iterator[str]:
    """The registers, the widest form of each that the task has."""
    state = _read(meta, task)
    key = "xsave" if task.xsave is not None else "fxsave"
    yield f"\nFPU and vector registers ({escape(task.source(key) or 'not in the image')})"
    if state is None:
        return
    yield (
        f"  fcw {state.fcw:04x}  fsw {state.fsw:04x}  ftw {state.ftw:02x}  fop {state.fop:04x}  fip {state.fip:x}"
        f"  fdp {state.fdp:x}  mxcsr {state.mxcsr:08x}  mxcsr_mask {state.mxcsr_mask:08x}"
    )
    if state.xcr0 is not None:
        in_use = f"{state.xstate_bv:x}"
        pkru = "" if state.pkru is None else f"  pkru {state.pkru:08x}"
        yield f"  xcr0 {state.xcr0:x}  xstate_bv {in_use}{pkru}"
    yield from _set("st", state.st, 20)
    if state.zmm is not None:
        yield from _set("zmm", state.zmm, 128)
    elif state.ymm is not None:
        yield from _set("ymm", state.ymm, 64)
    else:
        yield from _set("xmm", state.xmm, 32)
    if state.opmask is not None:
        yield from _set("k", state.opmask, 16)


def _read(meta: Meta, task: TaskImage) -> Xstate | None:
    if task.xsave is not None and len(task.xsave) >= EXTENDED:
        return read_xsave(task.xsave, meta.xstate)
    if task.fxsave is not None and len(task.fxsave) >= FXSAVE_SIZE:
        return read_fxsave(task.fxsave)
    return None


def _set(name: str, values: tuple[int, ...], digits: int) -> Iterator[str]:
    """One register a line; those that are 0 are named together."""
    zero = [number for number, found in enumerate(values) if not found]
    for number, found in enumerate(values):
        if found:
            yield f"  {name}{number:<2} {found:0{digits}x}"
    if zero:
        yield f"  {name} {_ranges(zero)}: 0"


def _ranges(numbers: list[int]) -> str:
    """``0-3 5 7-9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
