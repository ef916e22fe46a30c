"""Recordings made by hand, and taken apart: what was put in, what comes out, and forged files whose checksums are right."""

from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from cptbpf.image import layout
from cptbpf.image.model import EVENT_DROP, EVENT_GONE, EVENT_SAMPLE, Meta, RecordedEvent
from cptbpf.image.recording import Recording
from cptbpf.image.recording_writer import Clocks, RecordingWriter
from cptbpf.image.rows import INDEX, WIDTH, Row

START = 5_000_000_000_000
AHEAD = 1_700_000_000_000_000_000 - START
SAID = {"task": "kernel:sample", "cred": "kernel:sample"}
OTHER = {**SAID, "mm": "absent: the task is dead"}
META = Meta(1, 42, 1, 7, START + AHEAD, START, START + 1, 250, 100, 4096, strings={"request": "pidns 42"})


def clocks(time: int) -> Clocks:
    return Clocks(time + AHEAD, time, time + 1)


def row(pid: int, **values: Any) -> Row:
    """A task's state: fields by name, the rest 0."""
    known: dict[str, Any] = {
        "pid": pid,
        "tgid": pid,
        "real_start_time": 100 + pid,
        "comm": b"prog".ljust(16, b"\0"),
        "tls": (0, 0, 0),
    }
    known |= values
    for copy, of in (("utimescaled", "utime"), ("stimescaled", "stime")):
        known.setdefault(copy, known.get(of, 0))
    made: list[Any] = [0] * WIDTH
    for name, value in known.items():
        made[INDEX[name]] = value
    return tuple(made)


def change(old: Row, **values: Any) -> Row:
    """The state a while later."""
    made = list(old)
    for name, value in values.items():
        made[INDEX[name]] = value
    for copy, of in (("utimescaled", "utime"), ("stimescaled", "stime")):
        if of in values:
            made[INDEX[copy]] = values[of]
    return tuple(made)


class Read(NamedTuple):
    """What a reader got of a file."""

    events: list[RecordedEvent]
    ending: Any


def read(data: bytes) -> Read:
    """Every event of a recording that is in memory, and how it ended."""
    with Recording(BytesIO(data)) as recording:
        events = list(recording.events())
        return Read(events, recording.ending)


def put(writer: RecordingWriter, event: RecordedEvent) -> None:
    """Give a writer an event as a reader would give it back."""
    if event.kind == EVENT_DROP:
        writer.drop(event.time, event.lost, event.cpu, event.flags)
    else:
        assert event.row is not None
        writer.add(event.kind, event.time, event.row, event.said, event.old_pid, event.flags)


def told(events: list[RecordedEvent]) -> list[RecordedEvent]:
    """Without what the writer itself concludes."""
    return [event for event in events if event.kind != EVENT_GONE]


def small(groups: int = 3) -> bytes:
    """A recording of two tasks, that ends in order: one event of each kind, spread over some groups."""
    stream = BytesIO()
    with RecordingWriter(stream, META) as writer:
        one, two = row(1), row(2, tgid=1, rppid=1, leader=1)
        writer.add(EVENT_SAMPLE, START, one, SAID)
        writer.add(1, START + 10, two, SAID)
        for turn in range(groups):
            now = START + (turn + 1) * 100_000_000
            one = change(one, utime=turn * 10_000, nvcsw=turn, comm=b"name%d".ljust(16, b"\0") % turn)
            writer.add(EVENT_SAMPLE, now - 5, one, SAID)
            writer.drop(now - 4, 3, 1, 0)
            writer.flush(clocks(now))
        writer.add(4, now + 1, change(two, euid=1000, cap_effective=2**64 - 1), SAID)
        writer.add(2, now + 2, change(one, exec_id=7), SAID)
        writer.add(3, now + 3, change(two, exit_code=9, state=0x80), OTHER)
        writer.finish(clocks(now + 4))
    return stream.getvalue()


def groups_of(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Head and META, the groups, the TRAILER."""
    at = 32 + layout.OBJECT_HDR.unpack_from(data, 32)[0]
    start, groups = data[:at], []
    while layout.OBJECT_HDR.unpack_from(data, at)[2] == layout.CPT_OBJ_SAMPLE:
        size = layout.SAMPLE.unpack_from(data, at)[4]
        groups.append(data[at : at + size])
        at += size
    return start, groups, data[at:]


def resealed(start: bytes, groups: list[bytes]) -> bytes:
    """A recording of these groups with checksums that are right; it just stops."""
    chain, parts = crc32(start), [start]
    for group in groups:
        body = bytearray(group[: -layout.CHECK.size])
        end = layout.SAMPLE.size
        body[end - 4 : end] = crc32(body[: end - 4], chain).to_bytes(4, "little")
        chain = crc32(body, chain)
        parts += [bytes(body), layout.CHECK.pack(24, 24, layout.CPT_OBJ_CHECK, 0, chain)]
    return b"".join(parts)


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
