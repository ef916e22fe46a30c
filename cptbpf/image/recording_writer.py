"""The writer of recordings: events in, one file or a row of files out, each readable up to wherever it ends."""

import os
from collections.abc import Mapping
from hashlib import sha256
from types import TracebackType
from typing import BinaryIO, NamedTuple
from zlib import crc32

from cptbpf.image.append import AppendOutput
from cptbpf.image.encode import Encoder
from cptbpf.image.flags import timespec_export
from cptbpf.image.groups import GroupEncoder
from cptbpf.image.model import CERTIFICATE_NONE, KIND_RECORDING, Head, Meta, Trailer
from cptbpf.image.output import StreamOutput
from cptbpf.image.rows import Row

#: A group is written every so often, even an empty one, so that a recording says how far it reaches; ns.
BEAT = 1_000_000_000
#: A file is brought to the disk this often, ns: what a power failure may cost.
SYNC = 5_000_000_000
_GROUP_BYTES = 1 << 22


class Rotation(NamedTuple):
    """When the next file begins: at a size in bytes, or after a time in ns; 0 for never."""

    size: int = 0
    time: int = 0


class Clocks(NamedTuple):
    """Three clocks at one instant, in ns."""

    realtime: int
    monotonic: int
    boottime: int


class RecordingWriter:
    """Write a recording.

    ``target`` is a path or a binary stream. With ``rotation``, a path ``a.cpt`` becomes ``a-0001.cpt``, ``a-0002.cpt`` and so
    on; each of them is a whole recording. Every failure to write is a :class:`~cptbpf.errors.TargetError`, and what had been
    written by then stays. As a context manager it ends the file without a TRAILER unless :meth:`finish` was reached.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        meta: Meta,
        *,
        force: bool = False,
        rotation: Rotation = Rotation(),  # noqa: B008
    ) -> None:
        self._target, self._force = target, force
        self._rotation = rotation if isinstance(target, str | os.PathLike) else Rotation()
        self._number = 0
        self._open(meta._replace(kind=KIND_RECORDING))
        self._written = self._synced = self._began = meta.monotonic
        self._ahead = meta.realtime - meta.monotonic
        self.files = [self.name]

    @property
    def name(self) -> str:
        """The file that is being written, or ``-``."""
        return self._output.path if isinstance(self._output, AppendOutput) else "-"

    @property
    def alive(self) -> int:
        """Tasks that are followed."""
        return self._groups.alive

    def pids(self) -> list[int]:
        """The ids of the tasks that are followed."""
        return self._groups.pids()

    def add(self, kind: int, time: int, row: Row, said: Mapping[str, str], old_pid: int = 0, flags: int = 0) -> None:
        """One event (EVENT_*, ns of CLOCK_MONOTONIC) with the task's state and where its values are from.

        Tasks with the same sources share one mapping: it is told apart by what it is, not by what it holds.
        """
        self._room(time)
        self._groups.add(kind, time, row, said, old_pid, flags)

    def drop(self, time: int, lost: int, cpu: int = -1, why: int = 0) -> None:
        """Reports were lost here: how many, on which cpu (-1: unknown), and why, an index in DROP_REASONS."""
        self._room(time)
        self._groups.drop(time, lost, cpu, why)

    def gone(self, time: int, pid: int) -> None:
        """A task is no longer there, and nobody saw its end."""
        self._room(time)
        self._groups.gone(time, pid)

    def flush(self, clocks: Clocks) -> None:
        """Write what there is: everything up to now has been added. To be called at least every second."""
        self._ahead = clocks.realtime - clocks.monotonic
        if self._groups.begun or clocks.monotonic - self._written >= BEAT:
            self._room(clocks.monotonic)
            self._write_group(clocks.monotonic)
        if isinstance(self._output, AppendOutput) and clocks.monotonic - self._synced >= SYNC:
            self._output.sync_soon()
            self._synced = clocks.monotonic
        limit, age = self._rotation
        if (limit and self._size >= limit) or (age and clocks.monotonic - self._began >= age):
            self._rotate(clocks)

    def sync(self, clocks: Clocks) -> None:
        """Write what there is, and bring it to the disk."""
        self.flush(clocks)
        if isinstance(self._output, AppendOutput):
            self._output.sync()

    def finish(self, clocks: Clocks) -> int:
        """Write what there is and the TRAILER, bring the file to the disk and close it. Returns the size of this file."""
        self._room(clocks.monotonic)
        self._write_group(clocks.monotonic)
        return self._end()

    def close(self) -> None:
        """Leave the recording as it is, without a TRAILER."""
        if isinstance(self._output, AppendOutput):
            self._output.close()

    def __enter__(self) -> "RecordingWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _open(self, meta: Meta) -> None:
        """Begins a file. What it is to hold in all is known only later: the head and META come first, at once."""
        self._meta = meta
        self._number += 1
        if isinstance(self._target, str | os.PathLike):
            path = os.fspath(self._target)
            rotated = self._rotation != Rotation()
            self._output: AppendOutput | StreamOutput = AppendOutput(
                _numbered(path, self._number) if rotated else path, self._force
            )
        else:
            self._output = StreamOutput(self._target)
        start = b"".join(Encoder().start(Head(timespec_export(meta.realtime)), meta))
        self._digest = sha256()
        self._size = self._group_count = 0
        self._write(start)
        if self._number == 1:
            self._groups = GroupEncoder(len(start), crc32(start))
        else:
            self._groups.move(len(start), crc32(start))

    def _room(self, time: int) -> None:
        """Sees to it that a group has begun in which an event of this time can stand."""
        if self._groups.begun and (not self._groups.holds(time) or self._groups.size > _GROUP_BYTES):
            self._write_group(max(time, self._written))
        if not self._groups.begun:
            self._groups.begin(time)

    def _write_group(self, until: int) -> None:
        self._write(self._groups.finish(until, until + self._ahead))
        self._group_count += 1
        self._written = until

    def _write(self, data: bytes) -> None:
        self._output.write(data)
        self._digest.update(data)
        self._size += len(data)

    def _end(self) -> int:
        self._write(Encoder().trailer(Trailer(self._group_count & 0xFFFFFFFF, CERTIFICATE_NONE)))
        self._write(self._digest.digest())
        if isinstance(self._output, AppendOutput):
            self._output.sync()
            self._output.close()
        else:
            self._output.commit()
        return self._size

    def _rotate(self, clocks: Clocks) -> None:
        self._end()
        self._open(self._meta._replace(**clocks._asdict()))
        self._began = clocks.monotonic
        self.files.append(self.name)


def _numbered(path: str, number: int) -> str:
    stem, extension = os.path.splitext(path)
    return f"{stem}-{number:04d}{extension}"
