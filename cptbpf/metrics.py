"""A sampler's counters for Prometheus.

Of the namespace: sums over all tasks, those that have ended included, and counts of events. Of processes: at most
:data:`PROCESSES` of them at a time, so that no fork storm makes series without end. A process that is shown stays until it
ends; places that are free go to those that used most CPU time; how many are left out is a metric itself. Series of a process
are named by its pid in the namespace and its command.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from cptbpf.conductors.events import Drop, Event, Exit
from cptbpf.errors import TargetError, UnsupportedError
from cptbpf.kernel.record import TaskState
from cptbpf.sched import state_letter

if TYPE_CHECKING:
    from prometheus_client.core import Metric

#: Processes that have series of their own, at most.
PROCESSES = 100

_NS = 1e-9


class _Measure(NamedTuple):
    """A counter of tasks: the field that it sums, its name, its labels, what it is, and what a unit of the field is worth."""

    field: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str
    factor: float = 1.0


_CPU = "CPU time by the kernel's own account of each task."
_SWITCHES = "Context switches."
_FAULTS = "Page faults."
MEASURES = (
    _Measure("utime", "cpu_seconds", (("mode", "user"),), _CPU, _NS),
    _Measure("stime", "cpu_seconds", (("mode", "system"),), _CPU, _NS),
    _Measure("run_delay", "run_delay_seconds", (), "Time that tasks were runnable and waited for a CPU.", _NS),
    _Measure("nvcsw", "context_switches", (("kind", "voluntary"),), _SWITCHES),
    _Measure("nivcsw", "context_switches", (("kind", "involuntary"),), _SWITCHES),
    _Measure("min_flt", "page_faults", (("kind", "minor"),), _FAULTS),
    _Measure("maj_flt", "page_faults", (("kind", "major"),), _FAULTS),
)
_values: Callable[[TaskState], tuple[int, ...]] = itemgetter(*(TaskState._fields.index(measure.field) for measure in MEASURES))
_CPU_PLACES = (0, 1)  # of MEASURES
_STATES = {
    "Z": "zombie",
    "X": "dead",
    "T": "stopped",
    "t": "stopped",
    "D": "uninterruptible",
    "S": "sleeping",
    "I": "sleeping",  # as P, a kernel thread that waits for work
    "P": "sleeping",
    "R": "running",
}


class _Process:
    """What a process's tasks counted: those that have ended, by then."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.ended = [0] * len(MEASURES)
        self.threads: dict[int, TaskState] = {}

    def sums(self) -> list[int]:
        """The sum of each measure."""
        totals = list(self.ended)
        for state in self.threads.values():
            totals = [total + value for total, value in zip(totals, _values(state), strict=True)]
        return totals


class Metrics:
    """Counts what a sampler tells; :meth:`collect` is what prometheus-client asks for, from a thread of its own."""

    def __init__(self, pid_ns: int, processes: int = PROCESSES) -> None:
        self._namespace = str(pid_ns)
        self._limit = processes
        self._lock = threading.Lock()
        self._processes: dict[int, _Process] = {}  # by tgid
        self._gone = [0] * len(MEASURES)
        self._events: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._shown: set[int] = set()  # tgids

    def take(self, events: Iterable[Event]) -> None:
        """Count a batch of events."""
        with self._lock:
            for event in events:
                self._events[event.event] += 1
                if isinstance(event, Drop):
                    self._lost[event.why] += event.lost
                elif isinstance(event, Exit):
                    self._end(event.task, event.old_pid)
                else:
                    self._keep(event.task, getattr(event, "old_pid", 0))

    def _keep(self, task: TaskState, old_pid: int = 0) -> None:
        process = self._process(task)
        if old_pid:
            process.threads.pop(old_pid, None)
        process.threads[task.pid] = task

    def _process(self, task: TaskState) -> _Process:
        process = self._processes.get(task.tgid)
        leader = task.pid == task.tgid
        if process is not None and leader and process.start not in (0, task.start_boottime):
            self._retire(task.tgid, process)  # its end was lost
            process = None
        if process is None:
            process = self._processes[task.tgid] = _Process(0)
        if leader:
            process.start = task.start_boottime
        return process

    def _end(self, task: TaskState, old_pid: int) -> None:
        process = self._processes.get(task.tgid)
        if process is None:
            process = self._processes[task.tgid] = _Process(0)
        known = process.threads.get(task.pid)
        if known is None or known.start_boottime == task.start_boottime or not old_pid:
            process.threads.pop(task.pid, None)
        process.ended = [total + value for total, value in zip(process.ended, _values(task), strict=True)]
        if not process.threads:
            self._retire(task.tgid, process)

    def _retire(self, tgid: int, process: _Process) -> None:
        for at, value in enumerate(process.sums()):
            self._gone[at] += value
        del self._processes[tgid]
        self._shown.discard(tgid)

    def collect(self) -> "Iterator[Metric]":
        """The metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        with self._lock:
            sums = {tgid: process.sums() for tgid, process in self._processes.items()}
            chosen = self._choose(sums)
            names = {tgid: self._name(tgid) for tgid in chosen}
            living = [state for process in self._processes.values() for state in process.threads.values()]
            tasks = Counter(_STATES[state_letter(state.state)] for state in living)
            totals = [gone + sum(values[at] for values in sums.values()) for at, gone in enumerate(self._gone)]
            events, lost = Counter(self._events), Counter(self._lost)
        where = ["pid_ns"]
        yield from _counters("cptbpf_namespace_", where, [((self._namespace,), totals)], CounterMetricFamily)
        who = ["pid_ns", "pid", "comm"]
        rows = [((self._namespace, str(tgid), names[tgid]), sums[tgid]) for tgid in chosen]
        yield from _counters("cptbpf_process_", who, rows, CounterMetricFamily)
        gauge = GaugeMetricFamily("cptbpf_namespace_tasks", "Tasks that live, by state.", labels=[*where, "state"])
        for name in dict.fromkeys(_STATES.values()):
            gauge.add_metric((self._namespace, name), tasks[name])
        yield gauge
        left = GaugeMetricFamily("cptbpf_processes_not_shown", "Processes without series of their own.", labels=where)
        left.add_metric((self._namespace,), len(sums) - len(chosen))
        yield left
        for name, text, label, counts in (
            ("cptbpf_events", "Events that the sampler told.", "event", events),
            ("cptbpf_lost_reports", "Reports that were lost.", "why", lost),
        ):
            family = CounterMetricFamily(name, text, labels=[*where, label])
            for key, count in sorted(counts.items()):
                family.add_metric((self._namespace, key), count)
            yield family

    def _choose(self, sums: dict[int, list[int]]) -> list[int]:
        """Which processes are shown: those that were, then the busiest."""
        chosen = [tgid for tgid in sums if tgid in self._shown]
        room = self._limit - len(chosen)
        if room > 0:
            rest = [tgid for tgid in sums if tgid not in self._shown]
            rest.sort(key=lambda tgid: -sum(sums[tgid][at] for at in _CPU_PLACES))
            chosen += rest[:room]
        self._shown = set(chosen)
        return chosen

    def _name(self, tgid: int) -> str:
        threads = self._processes[tgid].threads
        state = threads.get(tgid) or next(iter(threads.values()))
        name = state.comm.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def _counters(
    prefix: str, labels: list[str], rows: Sequence[tuple[tuple[str, ...], list[int]]], family: Any
) -> "Iterator[Metric]":
    made: dict[str, Any] = {}
    for at, (_, name, own, text, factor) in enumerate(MEASURES):
        metric = made.get(name)
        if metric is None:
            metric = made[name] = family(prefix + name, text, labels=[*labels, *(label for label, _ in own)])
        for values, sums in rows:
            metric.add_metric((*values, *(value for _, value in own)), sums[at] * factor)
    yield from made.values()


class Server:
    """Answers Prometheus at ``ADDR:PORT``; without an address, on loopback alone. Use it as a context manager.

    Raises UnsupportedError where prometheus-client is not installed, TargetError where the address cannot be used.
    """

    def __init__(self, where: str, metrics: Metrics) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            remedy = "install it: pip install 'cptbpf[metrics]', or python3-prometheus-client of the distribution"
            raise UnsupportedError("--prometheus needs the package prometheus-client", remedy) from None
        address, port = parse_address(where)
        registry = CollectorRegistry()
        registry.register(metrics)
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise TargetError(
                f"cannot listen at {address} port {port}: {why}", "name another one: --prometheus ADDR:PORT"
            ) from error
        self.port = self._server.server_port

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parse_address(where: str) -> tuple[str, int]:
    """``ADDR:PORT``, ``[ADDR]:PORT``, ``:PORT`` or ``PORT``. Raises TargetError."""
    address, _, port = where.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise TargetError(f"{where!a} is no ADDR:PORT", "for example --prometheus 127.0.0.1:9400")
    return address.strip("[]") or "127.0.0.1", int(port)
