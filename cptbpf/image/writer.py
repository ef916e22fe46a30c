"""The image writer: tasks in, one file out."""

import os
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from typing import BinaryIO

from cptbpf.image.encode import Encoder
from cptbpf.image.model import CERTIFICATE_NONE, CertificateEntry, Head, Image, Meta, RawObject, TaskImage, Trailer
from cptbpf.image.output import Output, opened

_FLUSH_SIZE = 1 << 20


class ImageWriter:
    """Write an image task by task.

    :meth:`finish` commits the ``output``, which the caller opens and where need be aborts: a file gets its name only then.
    Every failure to write is a :class:`~cptbpf.errors.TargetError`.
    """

    def __init__(self, output: Output, head: Head, meta: Meta, unknown: Sequence[RawObject] = ()) -> None:
        self._encoder = Encoder()
        self._digest = sha256()
        self._pending: list[bytes] = []
        self._flush_at = _FLUSH_SIZE
        self._pending += self._encoder.start(head, meta, unknown)
        self._output = output

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

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._flush_at = self._encoder.offset + _FLUSH_SIZE
        self._digest.update(data)
        self._output.write(data)


def write_image(image: Image, target: str | os.PathLike[str] | BinaryIO, *, force: bool = False) -> int:
    """Write a whole image; returns its size in bytes."""
    with opened(target, force) as output:
        writer = ImageWriter(output, image.head, image.meta, image.unknown)
        for task in image.tasks:
            writer.write_task(task)
        return writer.finish_with(image.trailer)


def encode_image(image: Image) -> bytes:
    """The bytes of a whole image."""
    stream = BytesIO()
    write_image(image, stream)
    return stream.getvalue()
