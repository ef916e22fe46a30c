"""The sampler's programs (bpf/sched_sample.bpf.c), attached for as long as a :class:`Follower` is open.

Nothing is pinned: the descriptors of this process alone hold the programs, so that its end, however it ends, detaches them.
"""

import contextlib
import os
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple

from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, programs
from cptbpf.kernel.loader import unlimited_memlock
from cptbpf.kernel.record import READER_REQUEST, TASK_RECORD, TaskState
from cptbpf.kernel.ringbuf import RingBuffer
from cptbpf.kernel.sample_record import (
    SAMPLE_HEAD,
    SAMPLE_ON_CPU,
    SAMPLE_OPTIONS,
    SAMPLE_OVERDUE,
    SAMPLE_SEEDED,
    SAMPLE_STATS,
    SAMPLE_TREE,
    SampleHead,
    SampleStats,
)

RING_BYTES = 4 << 20  # some 7,000 reports
_REPORT = SAMPLE_HEAD.size + TASK_RECORD.size
_ONLY = bytes(4)  # the key of an array's one element
_READ = 1 << 20


class Report(NamedTuple):
    """One report: what happened when and where, and the task at that instant (``record``: a struct task_record)."""

    head: SampleHead
    record: bytes

    @property
    def task(self) -> TaskState:
        """The task, decoded anew each time."""
        return TaskState._make(TASK_RECORD.unpack(self.record))


class Follower:
    """Follows every task of a pid namespace, or the process trees that :meth:`seed` names. Use it as a context manager.

    ``inode``, ``level``
        The pid namespace, and its level counted from the initial one.
    ``own_level``
        Level of cptbpf's own pid namespace.
    ``interval``
        ns from one report of a task's state to its next; 0 for one at every switch.
    ``ring``
        Bytes of the ring buffer, a power of two and at least a page.
    ``seeds``
        How many tasks may be seeded; 0 where the whole namespace is followed.

    ``variant`` is the way that the kernel took the programs in: ``storage``, ``hash`` or ``raw``.

    Raises UnsupportedError and PrivilegeError as :func:`cptbpf.kernel.programs.open_private` does.
    """

    def __init__(self, inode: int, level: int, own_level: int, interval: int, ring: int = RING_BYTES, seeds: int = 0) -> None:
        loaded = programs.open_private("sample", {"samples": ring, "seeds": max(seeds, 1)})
        self.variant, self._loaded = loaded.variant, loaded
        self._fds = loaded.descriptors
        self._interval, self._base = interval, SAMPLE_TREE if seeds else 0
        self._cpus = _possible_cpus()
        # a cpu wakes user space by itself when its share of a quarter of the ring may be full; else the reader's wait ends
        share = max(ring // (_REPORT + 8) // 4 // self._cpus, 1)
        self._wake_mask = (1 << share.bit_length() - 1) - 1
        try:
            self._ring = RingBuffer(self._fds["samples"])
            request = READER_REQUEST.pack(inode, level, own_level, 0)
            self._set(0)
            bpf.map_update(self._fds["samplers"], _ONLY, request.ljust(bpf.map_value_size(self._fds["samplers"]), b"\0"))
        except BaseException:
            self._loaded.close()
            raise

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detaches the programs. What the ring still holds is lost: :meth:`read` it first."""
        self._ring.close()
        self._loaded.close()

    def detach(self) -> None:
        """Ends the reports; those that were made can still be read."""
        for name in [name for name in self._fds if name.startswith("on_") and name != "on_pass"]:
            os.close(self._fds.pop(name))

    def seed(self, tasks: Mapping[int, int]) -> None:
        """Has the next pass follow these tasks: start_boottime by the id in cptbpf's own pid namespace.

        Raises OSError (E2BIG) for more of them than there is room for.
        """
        for pid, started in tasks.items():
            bpf.map_update(self._fds["seeds"], struct.pack("=I", pid), struct.pack("=Q", started))

    def everyone(self) -> list[Report]:
        """A pass over every task: its state now. From then on each of them is followed."""
        return self._pass(0)

    def overdue(self) -> list[Report]:
        """A pass over the tasks whose last report is older than the interval and older than what they did since."""
        return self._pass(SAMPLE_OVERDUE | (0 if self.ticks else SAMPLE_ON_CPU))

    @property
    def ticks(self) -> bool:
        """Whether a task that stays on a cpu is reported by the tick; without, only a pass sees what it did."""
        return self.variant == "storage"

    def _pass(self, flags: int) -> list[Report]:
        self._set(flags)
        descriptor = bpf.iter_create(self._fds["on_pass"])
        try:
            data = b"".join(iter(lambda: os.read(descriptor, _READ), b""))
        finally:
            os.close(descriptor)
        self._base |= SAMPLE_SEEDED
        self._set(0)
        return [_report(data, at) for at in range(0, len(data), _REPORT)]

    def _set(self, flags: int) -> None:
        bpf.map_update(self._fds["settings"], _ONLY, SAMPLE_OPTIONS.pack(self._interval, self._wake_mask, self._base | flags))

    def wait(self, timeout: float) -> bool:
        """Waits until the ring is getting full, or ``timeout`` seconds; False at once after :meth:`interrupt`."""
        return self._ring.wait(timeout)

    def interrupt(self) -> None:
        """Ends a wait, or else the next one. For another thread, or a signal handler."""
        self._ring.interrupt()

    def read(self) -> list[Report]:
        """The reports since the last call, in the order in which they found room."""
        return [_report(record, 0) for record in self._ring.read()]

    def stats(self) -> list[SampleStats]:
        """What each cpu counted."""
        raw = bpf.map_lookup(self._fds["stats"], _ONLY, SAMPLE_STATS.size * self._cpus)
        return [SampleStats._make(values) for values in SAMPLE_STATS.iter_unpack(raw or b"")]

    def measure(self) -> "CostWindow":
        """Begins to measure what the programs cost. Raises PrivilegeError without CAP_SYS_ADMIN."""
        return CostWindow({name: program for name, program in self._loaded.programs.items() if name.startswith("on_")})


class Cost(NamedTuple):
    """What the programs cost the machine: runs on switches, ns for each of these net of what measuring costs, ns of all."""

    switches: int
    ns_per_switch: float
    ns: int


class CostWindow:
    """A measurement: statistics are on, for the whole machine, from its making to :meth:`finish`. Keep it short, it costs.

    Beside the programs runs one that does nothing, which shows what measuring itself takes.
    """

    def __init__(self, programs: Mapping[str, int]) -> None:
        with contextlib.ExitStack() as stack:
            with unlimited_memlock():
                nothing = bpf.prog_load(bpf.PROG_RAW_TRACEPOINT, bpf.RETURN_0, "nothing")
            stack.callback(os.close, nothing)
            stack.callback(os.close, bpf.raw_tracepoint_open(nothing, "sched_switch"))
            stack.callback(os.close, bpf.enable_stats())
            self._programs = {**programs, "": nothing}
            self._before = self._read()
            self._stack = stack.pop_all()

    def _read(self) -> dict[str, bpf.ProgramStats]:
        return {name: bpf.program_stats(program) for name, program in self._programs.items()}

    def finish(self) -> Cost:
        """Ends the measurement."""
        after = self._read()
        self._stack.close()
        run = {name: after[name].runs - before.runs for name, before in self._before.items()}
        spent = {name: after[name].run_ns - before.run_ns for name, before in self._before.items()}
        measuring = spent[""] / run[""] if run[""] else 0.0
        net = {name: max(spent[name] - run[name] * measuring, 0.0) for name in run if name}
        switches = run["on_switch"]
        return Cost(switches, round(net["on_switch"] / switches, 1) if switches else 0.0, round(sum(net.values())))


def _report(data: bytes, at: int) -> Report:
    if int.from_bytes(data[at : at + 4], "little") != SAMPLE_HEAD.size or len(data) < at + _REPORT:
        raise UnsupportedError("the loaded BPF programs write another record than this version of cptbpf reads")
    return Report(SampleHead._make(SAMPLE_HEAD.unpack_from(data, at)), data[at + SAMPLE_HEAD.size : at + _REPORT])


def _possible_cpus() -> int:
    """How many values a per-cpu map has."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as stream:
        return int(stream.read().strip().split(",")[-1].split("-")[-1]) + 1
