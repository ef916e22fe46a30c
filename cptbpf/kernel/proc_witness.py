"""The kernel's values at the moment that /proc read them: bpf/proc_witness.bpf.c around the functions that render the files.

Where the kernel takes neither fentry nor kprobes, a pass before and one after the reading have to do instead.
"""

import os
import struct
from types import TracebackType
from typing import NamedTuple

from cptbpf import procfs
from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, programs
from cptbpf.kernel.record import TASK_RECORD, TaskState
from cptbpf.kernel.tasks import TaskReader
from cptbpf.kernel.witness_record import READING, READING_RETURNED, Reading

_TRIES = 10  # a kretprobe is lost where too many readers of /proc sleep in the function at once


class Witnessed(NamedTuple):
    """One file of a task, and the task as the kernel had it when it began and when it had ended to render that.

    A number that only rises is exact where both agree. Anything else is where the task did not run in between besides: one
    that wakes and sleeps again may have changed a bit of its flags there and back.

    ``bracket_ns``
        Time from before the first value of ``before`` to after the last one of ``after``.
    """

    text: bytes
    before: TaskState
    after: TaskState
    bracket_ns: int


class ProcWitness:
    """Reads /proc with the kernel's own values beside. Use it as a context manager; any thread may read.

    The ids of the records are those of the namespace that ``reader`` was asked for, 0 for a task that is not in it.

    ``hook``
        What the programs hang on: ``fentry`` or ``kprobe``.
    ``refused``
        (hook, reason) of those that the kernel did not take.

    ``hook=`` names the only one to try. Raises UnsupportedError with the reasons where the kernel takes none, PrivilegeError.
    """

    def __init__(self, reader: TaskReader, hook: str = "") -> None:
        self._reader = reader
        self._loaded = programs.open_private("proc_witness", only=hook)
        self._readings = self._loaded.descriptors["readings"]
        self.hook = self._loaded.variant
        self.refused = self._loaded.refused
        if bpf.map_value_size(self._readings) != READING.size:
            self.close()
            raise UnsupportedError("the BPF programs write another record than this version of cptbpf reads")

    def __enter__(self) -> "ProcWitness":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detaches the programs."""
        self._loaded.close()

    def read(self, descriptor: int) -> Witnessed:
        """An open stat or status file of a process or a thread.

        Raises OSError where the task is gone, UnsupportedError where the programs were not called: no such file, then.
        """
        key = struct.pack("=Q", self._reader.identity()[0])
        entry = self._reader.request().ljust(READING.size, b"\0")
        try:
            for _ in range(_TRIES):
                bpf.map_update(self._readings, key, entry)
                text = _content(descriptor)
                reading = Reading._make(READING.unpack(bpf.map_lookup(self._readings, key, READING.size) or entry))
                if reading.stage == READING_RETURNED:
                    before, after = (TaskState._make(TASK_RECORD.unpack(one)) for one in (reading.before, reading.after))
                    return Witnessed(text, before, after, reading.end - reading.begin)
        finally:
            bpf.map_delete(self._readings, key)
        raise UnsupportedError("the BPF programs were not called when the file was read")


def _content(descriptor: int) -> bytes:
    """The file, which is rendered anew, whole, at a read from its beginning."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return procfs.read_whole(descriptor)
