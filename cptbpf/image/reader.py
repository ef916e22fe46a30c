"""The image reader: strict, and bounded by the size of the file."""

import os
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO, NoReturn

from cptbpf.errors import ImageError, TargetError
from cptbpf.image.decode import META_KEY, TASK_KEY, TRAILER_KEY, TaskDecoder, raw_object, read_meta, read_trailer
from cptbpf.image.encode import DIGEST_SIZE
from cptbpf.image.model import KIND_IMAGE, KIND_RECORDING, Image, Meta, RawObject, TaskImage
from cptbpf.image.walk import Found, check_signature, damaged, find_objects, read_head

_FIRST_READ = 1 << 16


def load(source: str | os.PathLike[str] | BinaryIO) -> Image:
    """Read an image from a path or a binary stream.

    The areas of the FPU are views of the file's bytes, not copies. Raises :class:`~cptbpf.errors.ImageError` for a file that
    is no image, is a recording, is truncated, or differs in any bit from what was written, and
    :class:`~cptbpf.errors.TargetError` where there is no such file.
    """
    return parse(_read(source))


def parse(data: bytes) -> Image:
    """Decode an image that is in memory; see :func:`load`."""
    head, first = read_head(data)
    objects = find_objects(data, first)
    meta = _read_meta(data, next(objects, None), first)
    if sha256(memoryview(data)[:-DIGEST_SIZE]).digest() != data[-DIGEST_SIZE:]:
        _explain(data, first)
    unknown, tasks, end = _read_tasks(data, objects)
    if end is None:
        _no_trailer(data)
    if end.length < end.hdrlen + DIGEST_SIZE:
        damaged("a TRAILER without room for its digest", end.offset)
    trailer = read_trailer(data, end)
    if len(tasks) != trailer.tasks:
        damaged(f"{len(tasks)} tasks where the TRAILER counts {trailer.tasks}", end.offset)
    return Image(head, meta, tasks, trailer, unknown)


def _explain(data: bytes, first: int) -> NoReturn:
    """Say where a file whose digest is wrong goes wrong."""
    last = deque(find_objects(data, first), maxlen=1)
    if last[0].key != TRAILER_KEY:
        _no_trailer(data)
    damaged("the digest does not match, something before it was altered", len(data) - DIGEST_SIZE)


def _no_trailer(data: bytes) -> NoReturn:
    raise ImageError("damaged image: it ends without a TRAILER", len(data), "it was cut short: take another one")


def walk(source: str | os.PathLike[str] | BinaryIO) -> Iterator[tuple[int, RawObject]]:
    """Yield every object of an image or a recording with its offset, whatever its type; digests are not verified."""
    data = _read(source)
    _, first = read_head(data)
    for found in find_objects(data, first):
        yield found.offset, raw_object(data, found)


def _read(source: str | os.PathLike[str] | BinaryIO) -> bytes:
    """The bytes of a file; what has not the signature is not read any further."""
    try:
        if not isinstance(source, str | os.PathLike):
            return _read_stream(source)
        with open(source, "rb") as stream:
            return _read_stream(stream)
    except FileNotFoundError as error:
        raise TargetError(f"no such file: {str(error.filename)!a}") from error
    except (MemoryError, OverflowError) as error:
        raise ImageError("the image does not fit in memory") from error
    except OSError as error:
        name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", "the stream")
        raise ImageError(f"cannot read {str(name)!a}: {error.strerror or error}") from error


def _read_stream(stream: BinaryIO) -> bytes:
    start = b""
    while len(start) < _FIRST_READ:
        part = stream.read(_FIRST_READ - len(start))
        if not part:
            break
        start += part
    check_signature(start)
    if len(start) < _FIRST_READ:
        return start
    if stream.seekable():  # read once more as one piece: a join would hold the file twice
        stream.seek(-len(start), os.SEEK_CUR)
        return stream.read()
    parts = [start]
    while part := stream.read():
        parts.append(part)
    return b"".join(parts)


def _read_meta(data: bytes, found: Found | None, offset: int) -> Meta:
    if found is None or found.key != META_KEY:
        damaged("no META behind the head", offset)
    meta = read_meta(data, found)
    if meta.kind == KIND_RECORDING:
        raise ImageError(
            "this is a recording, not an image",
            found.offset + 16,
            "look at it with cptbpf replay, cptbpf export, or cptbpf show --at TIME",
        )
    if meta.kind != KIND_IMAGE:
        raise ImageError(f"not an image: a file of unknown kind {meta.kind}", found.offset + 16)
    return meta


def _read_tasks(data: bytes, objects: Iterator[Found]) -> tuple[tuple[RawObject, ...], tuple[TaskImage, ...], Found | None]:
    """Decode all behind META: what stands before the first task, the tasks; and find the TRAILER."""
    before: list[RawObject] = []
    tasks: list[TaskImage] = []
    current: list[Found] = []
    decoder = TaskDecoder(data)
    end = None
    for found in objects:
        if end is not None:
            damaged("an object behind the TRAILER", found.offset)
        if found.key == TRAILER_KEY:
            end = found
        elif found.key == TASK_KEY:
            if current:
                tasks.append(decoder.task(current))
            current = [found]
        elif found.key == META_KEY or found.key & 0xFFFF == 0:
            damaged("a second META, or a TASK of an unknown content", found.offset)
        elif current:
            current.append(found)
        else:
            before.append(raw_object(data, found))
    if current:
        tasks.append(decoder.task(current))
    return tuple(before), tuple(tasks), end
