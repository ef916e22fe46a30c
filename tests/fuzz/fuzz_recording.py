"""Fuzz the reader of recordings with atheris, as fuzz_reader.py does that of images.

    mkdir -p /tmp/fuzz/recordings
    /tmp/fuzz/bin/python tests/fuzz/fuzz_recording.py -max_total_time=600 -max_len=8192 /tmp/fuzz/recordings

Each group's checksums go on from the ones before: all of them are made right first, or no mutation would come further. What
the reader takes must then be the same on every way to it, and come out again after it was written once more.
"""

import sys
from io import BytesIO
from pathlib import Path
from zlib import crc32

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.target import fuzz, repair_meta

with atheris.instrument_imports(include=["cptbpf"]):
    from cptbpf.cli.text import comm
    from cptbpf.errors import ImageError
    from cptbpf.export.perfetto import trace
    from cptbpf.image import layout
    from cptbpf.image.encode import META_CRC_OFFSET
    from cptbpf.image.model import Meta, RecordedEvent
    from cptbpf.image.recording import CLEAN, CUT, DAMAGED, Recording
    from cptbpf.image.recording_writer import Clocks, RecordingWriter
    from cptbpf.image.tojson import to_json

from tests.image.recordings import groups_of, put, read, resealed, small, told


def repaired(data: bytes) -> bytes:
    """The file with the checksums of META and of every group made right, as far as there are groups."""
    body = bytearray(data)
    at = repair_meta(body, META_CRC_OFFSET)
    if not at:
        return data
    chain = crc32(body[:at])
    while at + layout.SAMPLE.size + layout.CHECK.size <= len(body):
        values = layout.SAMPLE.unpack_from(body, at)
        end = at + values[4]
        if values[2] != layout.CPT_OBJ_SAMPLE or not at + layout.SAMPLE.size + layout.CHECK.size <= end <= len(body):
            break
        head = at + layout.SAMPLE.size - 4
        body[head : head + 4] = crc32(body[at:head], chain).to_bytes(4, "little")
        chain = crc32(body[at : end - layout.CHECK.size], chain)
        size = layout.CHECK.size
        body[end - size : end] = layout.CHECK.pack(size, size, layout.CPT_OBJ_CHECK, layout.CPT_CONTENT_VOID, chain)
        at = end
    return bytes(body)


def check(data: bytes) -> None:
    """One input, as it is and repaired."""
    for candidate in (data, repaired(data)):
        try:
            _read_every_way(candidate)
        except ImageError:
            continue


def _read_every_way(data: bytes) -> None:
    with Recording(BytesIO(data)) as recording:
        events = list(recording.events())
        assert recording.ending is not None and recording.ending.how in (CLEAN, CUT, DAMAGED)
        whole = recording.ending.how
        for _ in trace(recording.meta, events, comm):
            pass
        first, last = recording.span()
        assert (
            list(recording.between(first.time, last.until))
            == [event for event in events if first.time < event.time <= last.until]
            or whole != CLEAN
        )
        recording.monotonic(last.realtime)
        for time in (first.time, (first.time + last.until) // 2, last.until):
            to_json(recording.at(time))
    _write_again(recording.meta, events)


def _write_again(meta: Meta, events: list[RecordedEvent]) -> None:
    """What was read can be written, and is the same when it is read again; but for times that no clock has."""
    if not all(0 <= time < 1 << 62 for time in (meta.realtime, meta.monotonic, *(event.time for event in events))):
        return
    stream = BytesIO()
    with RecordingWriter(stream, meta) as writer:
        for event in told(events):
            put(writer, event)
        writer.finish(Clocks(meta.realtime, meta.monotonic, meta.boottime))
    again = told(read(stream.getvalue()).events)
    assert [event[:3] for event in again] == [event[:3] for event in told(events)]  # flags that nobody writes are not kept


def main() -> None:
    """Recordings of every kind of event, ended and cut short."""
    data = small(2)
    start, groups, _ = groups_of(data)
    fuzz(check, [data, small(5), start, resealed(start, groups[:1]), resealed(start, groups)])


if __name__ == "__main__":
    main()
