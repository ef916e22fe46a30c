"""The image writer: tasks in, one file out."""

import os
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from types import TracebackType
from typing import BinaryIO

from cptbpf.image.encode import Encoder
from cptbpf.image.model import CERTIFICATE_NONE, CertificateEntry, Head, Image, Meta, RawObject, TaskImage, Trailer
from cptbpf.image.output import FileOutput, Output, StreamOutput

_FLUSH_SIZE = 1 << 20


class ImageWriter:
    """Write an image task by task.

    ``target`` is a path or a binary stream (for ``-``). A path appears only in :meth:`finish`, whole and of mode 0600; without
    ``force`` it never replaces a file. As a context manager it leaves nothing behind unless :meth:`finish` was reached.
    Every failure to write is a :class:`~cptbpf.errors.TargetError`.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        head: Head,
        meta: Meta,
        *,
        force: bool = False,
        unknown: Sequence[RawObject] = (),
    ) -> None:
        self._encoder = Encoder()
        self._digest = sha256()
        self._pending: list[bytes] = []
        self._flush_at = _FLUSH_SIZE
        started = self._encoder.start(head, meta, unknown)
        if isinstance(target, str | os.PathLike):
            self._output: Output = FileOutput(os.fspath(target), force)
        else:
            self._output = StreamOutput(target)
        self._pending += started

    @property
    def size(self) -> int:
        """Bytes of the image so far, those not yet handed to the kernel included."""
        return self._encoder.offset

    def write_task(self, task: TaskImage) -> None:
        """Append one task. The caller sees to the order: a leader before its threads, a parent before its children."""
        self._pending += self._encoder.task(task)
        if self._encoder.offset >= self._flush_at:
            self._flush()

    def finish(self, flags: int = CERTIFICATE_NONE, entries: Sequence[CertificateEntry] = ()) -> int:
        """Write the TRAILER with the consistency certificate, bring the file to the disk and give it its name.

        Returns the size of the image in bytes.
        """
        return self.finish_with(Trailer(self._encoder.tasks, flags, tuple(entries)))

    def finish_with(self, trailer: Trailer) -> int:
        """As :meth:`finish`, with a TRAILER that was read from an image; its digest is made anew."""
        self._pending.append(self._encoder.trailer(trailer))
        self._flush()
        digest = self._digest.digest()
        self._output.write(digest)
        self._output.commit()
        return self._encoder.offset + len(digest)

    def abort(self) -> None:
        """Give up: nothing of the image stays."""
        self._pending.clear()
        self._output.abort()

    def __enter__(self) -> "ImageWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.abort()

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._flush_at = self._encoder.offset + _FLUSH_SIZE
        self._digest.update(data)
        self._output.write(data)


def write_image(image: Image, target: str | os.PathLike[str] | BinaryIO, *, force: bool = False) -> int:
    """Write a whole image; returns its size in bytes."""
    with ImageWriter(target, image.head, image.meta, force=force, unknown=image.unknown) as writer:
        for task in image.tasks:
            writer.write_task(task)
        return writer.finish_with(image.trailer)


def encode_image(image: Image) -> bytes:
    """The bytes of a whole image."""
    stream = BytesIO()
    write_image(image, stream)
    return stream.getvalue()
