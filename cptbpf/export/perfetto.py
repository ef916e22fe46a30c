"""A recording as a trace that ui.perfetto.dev and chrome://tracing open: the Chrome trace event format, in JSON.

Each thread has a line with the states that it was reported in, each until the next report; its births, execs, ends and changes
of credentials stand on it as marks. What a process uses is drawn above its threads: CPU in percent of one, run delay, switches
and faults per second, between one report of a thread and its next. Times are µs of CLOCK_MONOTONIC.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from cptbpf.image.model import (
    EVENT_CRED,
    EVENT_DROP,
    EVENT_EXEC,
    EVENT_EXIT,
    EVENT_FORK,
    EVENT_GONE,
    EVENT_NAMES,
    Meta,
    RecordedEvent,
    drop_reason,
)
from cptbpf.image.rows import INDEX, Row
from cptbpf.sched import state_letter

_PID, _TGID, _COMM, _STATE, _ON_CPU, _CPU = (INDEX[name] for name in ("pid", "tgid", "comm", "state", "on_cpu", "cpu"))
_MARKS = {EVENT_FORK, EVENT_EXEC, EVENT_EXIT, EVENT_CRED}
_STATES = {
    "S": "sleeping",
    "D": "uninterruptible sleep",
    "I": "idle",
    "P": "parked",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
    "X": "dead",
}


class _Rate(NamedTuple):
    """A counter track: its name, the fields whose sum rises, and what one of them a ns is worth."""

    name: str
    fields: tuple[int, ...]
    factor: float


def _rate(name: str, fields: str, factor: float) -> _Rate:
    return _Rate(name, tuple(INDEX[field] for field in fields.split()), factor)


_RATES = (
    _rate("cpu %", "utime stime", 100.0),
    _rate("run delay %", "run_delay", 100.0),
    _rate("switches/s", "nvcsw nivcsw", 1e9),
    _rate("faults/s", "min_flt maj_flt", 1e9),
)


class _Known(NamedTuple):
    """A thread's last report."""

    time: int
    row: Row


def trace(meta: Meta, events: Iterable[RecordedEvent], escape: Callable[[bytes], str]) -> Iterator[str]:
    """Pieces of the JSON document; ``escape`` makes a command's name harmless."""
    strings = {key: text.encode("utf-8", "backslashreplace").decode() for key, text in meta.strings.items()}
    yield '{"displayTimeUnit": "ms", "otherData": ' + json.dumps({"pid_ns": meta.pid_ns, **strings}) + ',\n"traceEvents": ['
    separator = "\n"
    for made in _Tracer(escape).events(events):
        yield separator + json.dumps(made)
        separator = ",\n"
    yield "\n]}\n"


class _Tracer:
    def __init__(self, escape: Callable[[bytes], str]) -> None:
        self._escape = escape
        self._known: dict[int, _Known] = {}
        self._names: dict[int, bytes] = {}
        self._processes: dict[int, bytes] = {}
        self._last = 0

    def events(self, events: Iterable[RecordedEvent]) -> Iterator[dict[str, Any]]:
        for event in events:
            self._last = max(self._last, event.time)
            if event.kind == EVENT_DROP:
                name = f"lost {event.lost}: {drop_reason(event.flags)}"
                yield {"ph": "i", "s": "g", "name": name, "ts": _us(event.time), "pid": 0, "tid": 0}
            elif event.row is not None:
                yield from self._task(event, event.row)
        for pid, known in list(self._known.items()):
            yield from self._state(pid, known, self._last)

    def _task(self, event: RecordedEvent, row: Row) -> Iterator[dict[str, Any]]:
        pid, tgid = row[_PID], row[_TGID]
        if event.old_pid and event.kind == EVENT_EXEC:
            yield from self._end(event.old_pid, event.time)
        yield from self._named(pid, tgid, row[_COMM])
        before = self._known.get(pid)
        if before is not None:
            yield from self._state(pid, before, event.time)
            yield from self._rates(pid, tgid, before, event.time, row)
        if event.kind in _MARKS:
            arguments = {"exit_code": row[INDEX["exit_code"]]} if event.kind == EVENT_EXIT else {}
            name = EVENT_NAMES[event.kind]
            yield {"ph": "i", "s": "t", "name": name, "ts": _us(event.time), "pid": tgid, "tid": pid, "args": arguments}
        if event.kind in (EVENT_EXIT, EVENT_GONE):
            self._known.pop(pid, None)
            self._names.pop(pid, None)
        else:
            self._known[pid] = _Known(event.time, row)

    def _end(self, pid: int, time: int) -> Iterator[dict[str, Any]]:
        known = self._known.pop(pid, None)
        if known is not None:
            yield from self._state(pid, known, time)

    def _named(self, pid: int, tgid: int, comm: bytes) -> Iterator[dict[str, Any]]:
        if self._names.get(pid) != comm:
            self._names[pid] = comm
            yield _metadata("thread_name", tgid, pid, self._escape(comm))
        if pid == tgid and self._processes.get(tgid) != comm:
            self._processes[tgid] = comm
            yield _metadata("process_name", tgid, pid, self._escape(comm))

    @staticmethod
    def _state(pid: int, known: _Known, until: int) -> Iterator[dict[str, Any]]:
        """The state of the last report, from then on."""
        if until > known.time:
            row = known.row
            name = _state(row)
            arguments = {"cpu": row[_CPU]} if name == "running" else {}
            start, length = _us(known.time), _us(until - known.time)
            yield {"ph": "X", "name": name, "ts": start, "dur": length, "pid": row[_TGID], "tid": pid, "args": arguments}

    @staticmethod
    def _rates(pid: int, tgid: int, before: _Known, time: int, row: Row) -> Iterator[dict[str, Any]]:
        """What the thread used since its last report, at the time of that."""
        passed = time - before.time
        if passed <= 0:
            return
        for name, fields, factor in _RATES:
            if None in (row[fields[0]], before.row[fields[0]]):
                continue
            used = sum(row[field] - before.row[field] for field in fields)
            value = round(max(used, 0) * factor / passed, 3)
            yield {
                "ph": "C",
                "name": name,
                "id": pid,
                "ts": _us(before.time),
                "pid": tgid,
                "tid": pid,
                "args": {str(pid): value},
            }


def _state(row: Row) -> str:
    letter = state_letter(row[_STATE])
    return _STATES.get(letter) or ("running" if row[_ON_CPU] else "runnable")


def _metadata(name: str, pid: int, tid: int, value: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": {"name": f"{value} [{tid}]"}}


def _us(nanoseconds: int) -> float:
    return nanoseconds / 1000
