"""The reader of recordings: group after group, up to the last whole and correct one, in memory for one group and the tasks."""

import os
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, NoReturn
from zlib import crc32

from cptbpf.errors import ImageError, TargetError
from cptbpf.image import layout
from cptbpf.image.decode import META_KEY, TRAILER_KEY, read_meta, read_trailer
from cptbpf.image.encode import DIGEST_SIZE
from cptbpf.image.groups import GROUP_KEY
from cptbpf.image.model import KIND_IMAGE, KIND_RECORDING, Head, Image, Meta, RecordedEvent, TaskImage, Trailer
from cptbpf.image.rows import to_image
from cptbpf.image.ungroup import SAMPLE_KEY, GroupDecoder, Sample
from cptbpf.image.walk import Found, damaged, read_head

CLEAN, CUT, DAMAGED = "clean", "cut", "damaged"
_MAX_GROUP = 1 << 30
_MAX_META = 1 << 24
_CHUNK = 1 << 20


class Ending(NamedTuple):
    """How a recording ends: CLEAN with its TRAILER, CUT where it just stops, DAMAGED; ``why``, and at which byte."""

    how: str
    offset: int
    why: str


class _End(Exception):  # noqa: N818 - no error by itself
    """There is no further group: the arguments are those of an :class:`Ending`."""


class Place(NamedTuple):
    """Where a group stands: its offset, the checksum that it goes on from, and its SAMPLE."""

    offset: int
    chain: int
    sample: Sample


class Recording:
    """A recording from a path or a binary stream. Use it as a context manager.

    ``ending`` is how it ends, once :meth:`groups` or :meth:`places` has come there. What cannot be read at all is an
    :class:`~cptbpf.errors.ImageError`, a path that is none a :class:`~cptbpf.errors.TargetError`.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self._stream = _opened(source)
        try:
            self._fd = self._stream.fileno()
            self._size = os.fstat(self._fd).st_size
            self.head, self.meta, start = self._start()
        except BaseException:
            self._stream.close()
            raise
        self._first = len(start)
        self._start_chain = crc32(start)
        self._start_bytes = start
        self.ending: Ending | None = None

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def events(self) -> Iterator[RecordedEvent]:
        """Every event, oldest first; the tasks that the recording begins with (a rotated file's) are samples of its start."""
        for _, events, _ in self.groups():
            yield from events

    def groups(self) -> Iterator[tuple[Sample, list[RecordedEvent], GroupDecoder]]:
        """Every group in turn: its SAMPLE, its events, and the decoder, which holds all tasks as they are after it."""
        decoder = GroupDecoder()
        digest = sha256(self._start_bytes)
        try:
            for place in self._walk(digest=digest):
                data = self._group(place)
                events = self._decoded(decoder, data, place)
                digest.update(data)
                yield place.sample, events, decoder
        except _End as end:
            self.ending = Ending(*end.args)

    def places(self) -> Iterator[Place]:
        """Every group's place and SAMPLE, without what is in it."""
        return self._walk()

    def span(self) -> tuple[Sample, Sample]:
        """The SAMPLEs of the first and of the last group. Raises ImageError where there is none."""
        first = last = None
        for place in self._walk():
            first = first or place.sample
            last = place.sample
        if first is None or last is None:
            why = self.ending.why if self.ending else "nothing was recorded"
            raise ImageError(f"the recording holds no whole group: {why}", self._first)
        return first, last

    def at(self, time: int) -> Image:
        """The tasks as they were at a CLOCK_MONOTONIC, in ns, as an image. Raises ImageError where that cannot be read."""
        key = None
        for place in self._walk():
            if place.sample.time > time and key is not None:
                break
            if place.sample.kind == GROUP_KEY:
                key = place
        if key is None:
            raise ImageError("the recording holds no whole group", self._first)
        decoder = GroupDecoder()
        ahead = key.sample.realtime - key.sample.until
        try:
            for place in self._walk(start=key):
                if place.sample.time > time:
                    break
                self._decoded(decoder, self._group(place), place, time)
                if decoder.stopped:
                    break
                ahead = place.sample.realtime - place.sample.until
        except _End as end:
            self.ending = Ending(*end.args)
        if self.ending is not None and self.ending.how == DAMAGED:
            raise ImageError(self.ending.why, self.ending.offset)
        return self._image(decoder, time, ahead)

    def between(self, start: int, end: int) -> Iterator[RecordedEvent]:
        """The events after ``start`` and up to ``end``, both CLOCK_MONOTONIC in ns."""
        key = None
        for place in self._walk():
            if place.sample.time > start and key is not None:
                break
            if place.sample.kind == GROUP_KEY:
                key = place
        if key is None:
            return
        decoder = GroupDecoder()
        try:
            for place in self._walk(start=key):
                if place.sample.time > end:
                    break
                for event in self._decoded(decoder, self._group(place), place):
                    if start < event.time <= end:
                        yield event
        except _End as stop:
            self.ending = Ending(*stop.args)

    def monotonic(self, realtime: int) -> int:
        """The CLOCK_MONOTONIC at a CLOCK_REALTIME, both in ns."""
        ahead = self.meta.realtime - self.meta.monotonic
        for place in self._walk():
            ahead = place.sample.realtime - place.sample.until
            if place.sample.realtime >= realtime:
                break
        return realtime - ahead

    def _image(self, decoder: GroupDecoder, time: int, ahead: int) -> Image:
        tasks = tuple(to_image(row, said) for row, said in decoder.tasks())
        boottime = self.meta.boottime + time - self.meta.monotonic
        meta = self.meta._replace(kind=KIND_IMAGE, realtime=time + ahead, monotonic=time, boottime=max(boottime, 0))
        return Image(self.head, meta, _in_order(tasks), Trailer(len(tasks)))

    def _start(self) -> tuple[Head, Meta, bytes]:
        """Head and META, and the bytes of both."""
        data = self._read(0, min(self._size, _CHUNK))
        head, first = read_head(data)
        if len(data) < first + 16:
            damaged("truncated before META", len(data))
        length, hdrlen, number, content = layout.OBJECT_HDR.unpack_from(data, first)
        if length > _MAX_META or content << 16 | number != META_KEY or hdrlen < 16 or length < hdrlen or length & 7:
            damaged("no META behind the head", first)
        data = self._read(0, first + length)
        if len(data) < first + length:
            damaged("truncated inside META", len(data))
        meta = read_meta(data, Found(first, length, hdrlen, META_KEY))
        if meta.kind == KIND_IMAGE:
            raise ImageError("this is an image, not a recording", first + 16, "look at it with cptbpf show")
        if meta.kind != KIND_RECORDING:
            raise ImageError(f"not a recording: a file of unknown kind {meta.kind}", first + 16)
        return head, meta, data

    def _read(self, offset: int, size: int) -> bytes:
        parts = []
        while size > 0:
            try:
                part = os.pread(self._fd, min(size, _CHUNK), offset)
            except OSError as error:
                raise ImageError(f"cannot read the recording: {error.strerror or error}", offset) from error
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def _walk(self, start: Place | None = None, digest: Any = None) -> Iterator[Place]:
        """The groups from ``start`` on, each with a SAMPLE that is right; sets ``ending`` where there is no further one."""
        self.ending = None
        offset, chain = (self._first, self._start_chain) if start is None else (start.offset, start.chain)
        count = 0
        while True:
            try:
                sample = self._sample(offset, chain, count if start is None else None, digest)
            except _End as end:
                self.ending = Ending(*end.args)
                return
            yield Place(offset, chain, sample)
            offset += sample.size
            chain = int.from_bytes(self._read(offset - 8, 4), "little")
            count += 1

    def _sample(self, offset: int, chain: int, count: int | None, digest: Any) -> Sample:
        size = layout.SAMPLE.size
        data = self._read(offset, min(self._left(offset, size), size))
        if not data:
            raise _End(CUT, offset, "it ends without a TRAILER: it is still being written, or its writer was killed")
        if len(data) >= 16:
            length, hdrlen, number, content = layout.OBJECT_HDR.unpack_from(data)
            if content << 16 | number == TRAILER_KEY:
                self._trailer(Found(0, length, hdrlen, TRAILER_KEY), offset, count, digest)
        if not data.strip(b"\0") and self._zeros(offset):
            raise _End(CUT, offset, "it ends in zeros: the machine went down before all of it was on the disk")
        if len(data) < size:
            raise _End(CUT, offset, "it ends within a group")
        sample = Sample._make(layout.SAMPLE.unpack_from(data)[4:])
        if content << 16 | number != SAMPLE_KEY or hdrlen < size or crc32(data[:-4], chain) != sample.crc32:
            raise _End(DAMAGED, offset, "it is damaged: the head of a group is not what was written")
        if not length + layout.CHECK.size <= sample.size <= _MAX_GROUP or sample.size & 7 or length & 7 or length < hdrlen:
            raise _End(DAMAGED, offset, f"it is damaged: a group of {sample.size} bytes")
        if sample.size > self._left(offset, sample.size):
            raise _End(CUT, offset, "it ends within a group")
        return sample

    def _left(self, offset: int, wanted: int) -> int:
        """How many bytes there are from there on: a file that is being written grows."""
        if self._size - offset < wanted:
            self._size = max(self._size, os.fstat(self._fd).st_size)
        return self._size - offset

    def _zeros(self, offset: int) -> bool:
        while data := self._read(offset, _CHUNK):
            if data.strip(b"\0"):
                return False
            offset += len(data)
        return True

    def _trailer(self, found: Found, offset: int, count: int | None, digest: Any) -> NoReturn:
        """The TRAILER: what it says must be true where all before it was read."""
        left = self._left(offset, found.length)
        if (
            found.length & 7
            or not found.hdrlen + DIGEST_SIZE <= found.length <= _MAX_META
            or found.hdrlen < layout.TRAILER.size
        ):
            raise _End(DAMAGED, offset, "it is damaged: a TRAILER that cannot be one") from None
        if found.length > left:
            raise _End(CUT, offset, "it ends within its TRAILER")
        data = self._read(offset, found.length)
        try:
            trailer = read_trailer(data, found)
        except ImageError:
            raise _End(DAMAGED, offset, "it is damaged: a TRAILER that cannot be one") from None
        if found.length != left:
            raise _End(DAMAGED, offset + found.length, "it is damaged: something stands behind its TRAILER")
        if count is not None and count & 0xFFFFFFFF != trailer.tasks:
            raise _End(DAMAGED, offset, f"it is damaged: {count} groups where the TRAILER counts {trailer.tasks}")
        if digest is not None:
            whole = digest.copy()
            whole.update(data[:-DIGEST_SIZE])
            if whole.digest() != trailer.digest:
                raise _End(DAMAGED, offset, "it is damaged: the digest does not match")
        raise _End(CLEAN, offset + found.length, "it was ended in order")

    def _group(self, place: Place) -> bytes:
        """The bytes of a group whose checksum is right."""
        data = self._read(place.offset, place.sample.size)
        size = layout.CHECK.size
        body = memoryview(data)[:-size]
        check = layout.CHECK.pack(size, size, layout.CPT_OBJ_CHECK, layout.CPT_CONTENT_VOID, crc32(body, place.chain))
        if data[-size:] != check:
            raise _End(DAMAGED, place.offset, "it is damaged: the checksum of a group does not match")
        return data

    @staticmethod
    def _decoded(decoder: GroupDecoder, data: bytes, place: Place, limit: int | None = None) -> list[RecordedEvent]:
        try:
            return decoder.decode(data[: -layout.CHECK.size], place.offset, place.sample, limit)
        except (ImageError, TypeError, UnicodeError) as error:  # TypeError: a difference from what is not known
            raise _End(DAMAGED, place.offset, f"it was not written by cptbpf: {error}") from error


def _opened(source: str | os.PathLike[str] | BinaryIO) -> BinaryIO:
    """A file that can be read at any place: a pipe is first copied into a nameless one."""
    try:
        stream: BinaryIO = open(source, "rb", 0) if isinstance(source, str | os.PathLike) else source  # noqa: SIM115
        if stream.seekable() and not isinstance(stream, BytesIO):
            return stream
        from shutil import copyfileobj
        from tempfile import TemporaryFile

        copy = TemporaryFile(buffering=0)  # noqa: SIM115
        copyfileobj(stream, copy, _CHUNK)
        return copy
    except FileNotFoundError as error:
        raise TargetError(f"no such file: {str(error.filename)!a}") from error
    except OSError as error:
        raise ImageError(f"cannot read the recording: {error.strerror or error}") from error


def _in_order(tasks: tuple[TaskImage, ...]) -> tuple[TaskImage, ...]:
    """By pid: leaders before their threads, mostly parents before their children."""
    return tuple(sorted(tasks, key=lambda task: (task.task.tgid, task.task.pid != task.task.tgid, task.task.pid)))
