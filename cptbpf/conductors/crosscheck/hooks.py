"""Brackets of microseconds: stat and status of a task with the kernel's own values at the moment that each was rendered."""

import os
from collections.abc import Iterable, Mapping

from cptbpf import procfs
from cptbpf.errors import PrivilegeError, UnsupportedError
from cptbpf.kernel.proc_witness import ProcWitness, Witnessed
from cptbpf.kernel.record import TaskState
from cptbpf.kernel.tasks import TaskReader
from cptbpf.proc import witness

#: The task when the kernel began and when it had ended to render a file, by the file's name.
Rendered = Mapping[str, tuple[TaskState, TaskState]]

NOT_HOOKED: Rendered = {}
HOOKED = ("stat", "status")


class Hooks:
    """The functions that render /proc, hooked where the kernel takes that.

    ``name``
        ``fentry`` or ``kprobe``; ``passes`` where it takes neither, and the passes around a reading are the bracket.
    """

    def __init__(self, reader: TaskReader) -> None:
        self._witness: ProcWitness | None = None
        self.name = "passes"
        try:
            self._witness = ProcWitness(reader)
            self.name = self._witness.hook
        except (UnsupportedError, PrivilegeError):  # the bracket is wider then, and as true
            return

    def close(self) -> None:
        """Detaches the programs."""
        if self._witness is not None:
            self._witness.close()

    def plain(self, files: Iterable[str]) -> tuple[str, ...]:
        """Those of the files that are not read through a hook."""
        return tuple(name for name in files if self._witness is None or name not in HOOKED)

    def read(self, shown: witness.Shown, files: Iterable[str]) -> Rendered:
        """Reads what of ``files`` is hooked, into ``shown``."""
        rendered = {}
        for name in files:
            if self._witness is None or name not in HOOKED:
                continue
            try:
                seen = self._read(self._witness, f"{shown.tgid}/task/{shown.tid}/{name}")
            except OSError as error:
                if error.errno == procfs.COVERED:
                    self._read_plainly(shown, name)
                else:
                    shown.raw[name] = witness.unread(name, error)
                continue
            except UnsupportedError:  # not what the kernel renders, where openat2(2) could not tell
                self._read_plainly(shown, name)
                continue
            shown.raw[name] = seen.text
            if seen.before.pid:  # else it is another task by now, outside the namespace
                rendered[name] = seen.before, seen.after
        return rendered

    @staticmethod
    def _read(hooked: ProcWitness, path: str) -> Witnessed:
        descriptor = procfs.open_file(path)
        try:
            return hooked.read(descriptor)
        finally:
            os.close(descriptor)

    @staticmethod
    def _read_plainly(shown: witness.Shown, name: str) -> None:
        """Something is mounted over it: what it says there is compared with the passes."""
        plain = witness.read(shown.tid, shown.tgid, (name,))
        if isinstance(plain, witness.Shown):
            shown.raw |= plain.raw
