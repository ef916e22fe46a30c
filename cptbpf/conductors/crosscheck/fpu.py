"""The fxsave area and the extended state of one task from two sides, component by component."""

import zlib
from collections.abc import Iterable, Iterator, Sequence

from cptbpf.rules import AGREE, DISAGREE, EXPLAINED
from cptbpf.xsave import COMPONENTS, CONTROL, FP, HEADER, MXCSR, SOFTWARE, SSE, ST, UNDEFINED, XMM, xstate_bv


def compare_fpu(
    kfxsave: bytes | None,
    kxsave: bytes | None,
    fxsave: bytes | None,
    xsave: bytes | None,
    components: Sequence[tuple[int, int, int, int]],
) -> Iterator[tuple[str, str, str, str, str]]:
    """The kernel's areas against ptrace's: field, both values, verdict and rule of each comparison.

    ``components`` are those of the machine that the areas are from: number, offset, size, flags.
    """
    if kfxsave is not None and fxsave is not None:
        same = kfxsave[: SOFTWARE.start] == fxsave[: SOFTWARE.start]
        why = "" if kfxsave == fxsave else ": software bytes"
        verdict = DISAGREE if not same else EXPLAINED if why else AGREE
        yield "fxsave", *_values(kfxsave, fxsave), verdict, "software" + why * same
    if kxsave is not None and xsave is not None:
        for name, pieces in _components(components, kxsave, xsave):
            ours, theirs = (b"".join(area[piece] for piece in pieces) for area in (kxsave, xsave))
            yield "xsave", *_values(ours, theirs), AGREE if ours == theirs else DISAGREE, f"xstate: {name}"


def _components(components: Sequence[tuple[int, int, int, int]], *areas: bytes) -> Iterator[tuple[str, Iterable[slice]]]:
    """The parts of two xstates that mean something: header, each component that is not in its initial state, the rest."""
    present = 0
    for area in areas:
        present |= xstate_bv(area)
    yield "header", (HEADER,)
    rest: list[slice] = []
    for number, name, pieces in _places(components):
        if present >> number & 1:
            yield name, pieces
        else:
            rest += pieces
    yield "components in their initial state", (*rest, UNDEFINED)


def _places(components: Sequence[tuple[int, int, int, int]]) -> Iterator[tuple[int, str, tuple[slice, ...]]]:
    yield FP, COMPONENTS[FP], (CONTROL, ST)
    yield SSE, COMPONENTS[SSE], (MXCSR, XMM)
    for number, offset, size, _ in components:
        yield number, COMPONENTS.get(number, f"component {number}"), (slice(offset, offset + size),)


def _values(ours: bytes, theirs: bytes) -> tuple[str, str]:
    """Two areas as JSON has them: small ones whole; of large ones a checksum where they are equal, else where they differ."""
    if len(ours) == len(theirs) <= 16:
        return ours.hex(), theirs.hex()
    if ours == theirs:
        text = f"{len(ours)} bytes, crc32 {zlib.crc32(ours):#010x}"
        return text, text
    at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), min(len(ours), len(theirs)))
    return f"byte {at}: {ours[at : at + 16].hex()}", f"byte {at}: {theirs[at : at + 16].hex()}"
