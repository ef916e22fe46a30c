"""Changes of credentials as they happen: bpf/cred_watch.bpf.c, in the structs of bpf/cred_record.h."""

import os
from types import TracebackType
from typing import NamedTuple

from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, programs
from cptbpf.kernel.cred_record import (
    CRED_CHANGE,
    CRED_OPTIONS,
    CRED_VALUES,
    CRED_WATCH,
    MAX_CRED_GROUPS,
    CredOptions,
    CredRecord,
    CredValues,
)
from cptbpf.kernel.record import TaskState
from cptbpf.kernel.ringbuf import RingBuffer
from cptbpf.kernel.tasks import TaskReader

_ZERO = bytes(4)  # the key of an array's first element


class Credentials(CredValues):
    """The ids, sets and groups of a struct cred, named as in the catalogue.

    ``groups``
        The first 32 supplementary groups, of ``ngroups``; None where only their number is known.
    """

    __slots__ = ()

    @classmethod
    def of(cls, state: TaskState) -> "Credentials":
        """Those of a task as a pass saw it."""
        return cls._make((*(getattr(state, name) for name in cls._fields[:-1]), None))

    def same(self, other: "Credentials") -> bool:
        """Whether all is equal that both know."""
        known = None in (self.groups, other.groups) or self.groups == other.groups
        return self[:-1] == other[:-1] and known


class CredChange(NamedTuple):
    """One change of one task's credentials.

    ``time_ns``
        CLOCK_MONOTONIC: when they were replaced; where switches or passes are followed, when that was seen.
    ``pid``, ``tgid``
        Of the task, which alone can change its credentials, in the asked namespace; ``host_*`` in cptbpf's own.
    ``hook``
        How it was seen: ``fentry``, ``kprobe``, ``sched_switch``, or ``pass``.
    """

    time_ns: int
    pid: int
    tgid: int
    host_pid: int
    host_tgid: int
    start_boottime: int
    comm: bytes
    old: Credentials
    new: Credentials
    hook: str


class CredWatch:
    """Follows the credentials of every task of the namespace that ``reader`` was asked for, from the moment that it is made.

    Use it as a context manager; one thread reads.

    ``root``
        Only the process tree below this process, by its id in cptbpf's own pid namespace. 0: the whole namespace.
    ``hook``
        ``fentry`` and ``kprobe`` see every change as it is made. ``sched_switch`` compares at the end of each turn of a task on
        a cpu: changes within one turn come as one, and what a task does that does not leave its cpu only a pass can see.
        Naming one tries no other.
    ``room``
        Bytes of the ring buffer, a power of two and whole pages; 0: as many as the source says.
    ``refused``
        (variant, reason) of those that the kernel did not take.

    Raises UnsupportedError with the reasons where the kernel takes no hook, PrivilegeError.
    """

    def __init__(self, reader: TaskReader, root: int = 0, hook: str = "", room: int = 0) -> None:
        self._loaded = programs.open_private("cred_watch", {"changes": room} if room else None, only=hook)
        descriptors = self._loaded.descriptors
        self._watched = descriptors["watched"]
        self.hook = self._loaded.variant.partition("-")[0]
        self.refused = self._loaded.refused
        self._programs = [at for name, at in self._loaded.programs.items() if name.startswith("on_")]
        try:
            self._ring = RingBuffer(descriptors["changes"])
            bpf.map_update(self._watched, _ZERO, CRED_WATCH.pack(reader.request(), CRED_OPTIONS.pack(root, 0, 0)))
            if "on_pass" in descriptors:
                self._begin_with(descriptors["on_pass"])
        except BaseException:
            self._loaded.close()
            raise

    def __enter__(self) -> "CredWatch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detaches the programs."""
        self._ring.close()
        self._loaded.close()

    @property
    def dropped(self) -> int:
        """Changes that found no room in the buffer so far, and those that the programs may have missed of all the machine's:
        one is not run while it (a kprobe: any of a kprobe, or bpf(2) on a map) is at work on that cpu already, for a task that
        lost the cpu in the midst of it. Not every kernel counts them."""
        missed = sum(bpf.program_stats(program).misses for program in self._programs)
        return self._options().dropped + missed

    @property
    def replaced(self) -> int:
        """How often a task had other credentials with equal values at the end of a turn, and had executed no program: where
        switches are followed, what they were in between was not seen."""
        return self._options().replaced

    def _options(self) -> CredOptions:
        value = bpf.map_lookup(self._watched, _ZERO, CRED_WATCH.size) or bytes(CRED_WATCH.size)
        _asked, options = CRED_WATCH.unpack(value)
        return CredOptions._make(CRED_OPTIONS.unpack(options))

    def wait(self, timeout: float) -> bool:
        """Whether there is a change to read, within ``timeout`` seconds; False at once after :meth:`interrupt`."""
        return self._ring.wait(timeout)

    def interrupt(self) -> None:
        """Ends a wait, or the next one. For another thread, or a signal handler."""
        self._ring.interrupt()

    def read(self) -> list[CredChange]:
        """The changes since the last call, oldest first."""
        changes = (self._change(record) for record in self._ring.read())
        return [change for change in changes if not _nothing(change)]

    def _begin_with(self, link: int) -> None:
        """Has the programs look at the tasks that are there already."""
        pass_ = bpf.iter_create(link)
        try:
            while os.read(pass_, 4096):
                pass
        finally:
            os.close(pass_)

    def _change(self, record: bytes) -> CredChange:
        if len(record) != CRED_CHANGE.size or int.from_bytes(record[:4], "little") != CRED_CHANGE.size:
            raise UnsupportedError("the loaded BPF programs write another record than this version of cptbpf reads")
        change = CredRecord._make(CRED_CHANGE.unpack(record))
        return CredChange(
            change.time,
            change.pid,
            change.tgid,
            change.host_pid,
            change.host_tgid,
            change.start_boottime,
            change.comm,
            _credentials(change.old),
            _credentials(change.new),
            self.hook,
        )


def _credentials(values: bytes) -> Credentials:
    numbers = CRED_VALUES.unpack(values)
    numbers, groups = numbers[:-MAX_CRED_GROUPS], numbers[-MAX_CRED_GROUPS:]
    found = Credentials._make((*numbers, groups))
    return found._replace(groups=groups[: found.ngroups])


def _nothing(change: CredChange) -> bool:
    """Whether the groups were set to what they were: to the kernel that is a new list. Of a long one the end is not known."""
    return change.old == change.new and change.new.ngroups <= MAX_CRED_GROUPS
