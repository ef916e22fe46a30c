"""The outermost layer of a file: head, and objects one after the other."""

from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from cptbpf.errors import ImageError
from cptbpf.image import layout
from cptbpf.image.encode import SIGNATURE
from cptbpf.image.model import Head

MAJOR = 1


class Found(NamedTuple):
    """An object's place in the file and its header; ``key`` is ``content << 16 | type``."""

    offset: int
    length: int
    hdrlen: int
    key: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def damaged(what: str, offset: int) -> NoReturn:
    """Raise the error of a damaged image."""
    raise ImageError(f"damaged image: {what}", offset)


def check_zero(data: bytes, start: int, end: int) -> None:
    """Padding is zero, so that every byte of a file has a meaning."""
    if data.count(0, start, end) != end - start:
        damaged("padding is not zero", start)


def check_signature(start: bytes) -> None:
    """Raise :class:`~cptbpf.errors.ImageError` unless the first bytes are those of an image that this version reads."""
    if not start:
        raise ImageError("not an image: the file is empty", 0)
    if start[:4] != SIGNATURE[: len(start)]:
        raise ImageError("not an image: it does not begin with the signature of a cpt image", 0)
    if len(start) < layout.HEAD.size:
        damaged(f"truncated inside the head: {len(start)} of {layout.HEAD.size} bytes", len(start))
    hdrlen, major = layout.HEAD.unpack_from(start)[1:3]
    if major != MAJOR:
        raise ImageError(f"image format version {major}: this version of cptbpf reads version {MAJOR}", 8)
    if hdrlen < layout.HEAD.size:
        damaged(f"the head says that it has {hdrlen} bytes", 4)


def read_head(data: bytes) -> tuple[Head, int]:
    """Decode ``struct cpt_head``; returns it and the offset of the first object."""
    check_signature(data)
    _, hdrlen, major, minor, sublevel, extra, arch, time = layout.HEAD.unpack_from(data)
    first = hdrlen + -hdrlen % 8
    if first > len(data):
        damaged(f"truncated inside the head: {len(data)} of {first} bytes", len(data))
    if arch not in (0, 1):
        raise ImageError(f"image of an unknown architecture ({arch})", 16)
    check_zero(data, 18, 24)
    check_zero(data, hdrlen, first)
    return Head(time, arch, (major, minor, sublevel, extra), data[layout.HEAD.size : hdrlen]), first


def find_objects(data: bytes, first: int) -> Iterator[Found]:
    """Yield every object from ``first`` to the end of ``data``; each is whole and has a sound header."""
    offset, size = first, len(data)
    unpack = layout.OBJECT_HDR.unpack_from
    while offset < size:
        if size - offset < 16:
            damaged(f"truncated: {size - offset} bytes where an object begins", offset)
        length, hdrlen, number, content = unpack(data, offset)
        if length & 7 or length < hdrlen or hdrlen < 16:
            damaged(f"an object of {length} bytes with a fixed part of {hdrlen}", offset)
        if length > size - offset:
            damaged(f"truncated, or a wrong length: an object of {length} bytes where {size - offset} are left", offset)
        yield Found(offset, length, hdrlen, content << 16 | number)
        offset += length
