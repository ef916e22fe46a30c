"""Recordings: what is put in comes out, wherever the file ends, and nothing that is damaged passes for whole."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cptbpf.errors import ImageError, TargetError
from cptbpf.image import groups as grouping
from cptbpf.image import layout
from cptbpf.image.model import (
    EVENT_CRED,
    EVENT_DISPLACED,
    EVENT_DROP,
    EVENT_EXEC,
    EVENT_EXIT,
    EVENT_FORK,
    EVENT_GONE,
    EVENT_SAMPLE,
    RecordedEvent,
)
from cptbpf.image.reader import load
from cptbpf.image.recording import CLEAN, CUT, DAMAGED, Recording
from cptbpf.image.recording_writer import RecordingWriter
from cptbpf.image.rows import FIELDS, INDEX, NAMES, from_image, to_image
from tests.image.recordings import (
    AHEAD,
    META,
    OTHER,
    SAID,
    START,
    change,
    clocks,
    groups_of,
    put,
    read,
    resealed,
    row,
    saved,
    small,
    told,
)
from tests.image.strategies import small_image, small_task

_LIMITS = {"u32": (0, 2**32 - 1), "u64": (0, 2**64 - 1), "s32": (-(2**31), 2**31 - 1)}
_CHANGING = [name for name in NAMES if name not in ("utimescaled", "stimescaled", "pid", "real_start_time", "tls")]


def _value(name: str) -> st.SearchStrategy[Any]:
    ctype = FIELDS[INDEX[name]].ctype
    if ctype == "char[16]":
        return st.binary(min_size=16, max_size=16)
    low, high = _LIMITS[ctype]
    return st.one_of(st.integers(low, high), st.sampled_from([low, high]), st.integers(0, 300))


_values = st.sampled_from(_CHANGING).flatmap(lambda name: st.tuples(st.just(name), _value(name)))
_steps = st.lists(
    st.tuples(
        st.sampled_from([EVENT_SAMPLE, EVENT_FORK, EVENT_EXEC, EVENT_EXIT, EVENT_CRED, EVENT_DROP, "flush"]),
        st.integers(1, 4),  # pid
        st.integers(0, 3),  # start
        st.integers(-1000, 3_000_000_000),  # ns since the last one
        st.lists(_values, max_size=5),
        st.sampled_from([SAID, OTHER, {}]),
        st.integers(0, 4),  # old_pid
    ),
    max_size=30,
)


def _played(steps: Any, key_least: int) -> tuple[bytes, list[RecordedEvent]]:
    """A recording made of steps, and the events that went into it."""
    stream, events, now = BytesIO(), [], START
    states: dict[int, Any] = {}
    before, grouping.KEY_LEAST = grouping.KEY_LEAST, key_least
    try:
        with RecordingWriter(stream, META) as writer:
            for kind, pid, start, passed, values, said, old_pid in steps:
                now += passed
                if kind == "flush":
                    writer.flush(clocks(now))
                    continue
                if kind == EVENT_DROP:
                    event = RecordedEvent(kind, now, None, {}, 0, pid % 3, start, pid - 2)
                else:
                    states[pid] = change(states.get(pid, row(pid)), real_start_time=start, **dict(values))
                    flags = EVENT_DISPLACED if kind == EVENT_EXIT and old_pid else 0
                    changed = old_pid if kind in (EVENT_EXEC, EVENT_EXIT) else 0
                    event = RecordedEvent(kind, now, states[pid], said, changed, flags)
                put(writer, event)
                events.append(event)
            writer.finish(clocks(now))
    finally:
        grouping.KEY_LEAST = before
    return stream.getvalue(), events


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(_steps, st.sampled_from([0, 1 << 18]))
def test_what_goes_in_comes_out(steps: Any, key_least: int) -> None:
    data, events = _played(steps, key_least)
    found = read(data)
    assert found.ending.how == CLEAN
    assert told(found.events) == events


def test_every_field_and_every_width_survives() -> None:
    stream, old, events = BytesIO(), row(1), []
    with RecordingWriter(stream, META) as writer:
        for name in [*_CHANGING, "tls"]:
            ctype = FIELDS[INDEX[name]].ctype
            if ctype == "u64[3]":
                values: list[Any] = [(1, 2**64 - 1, 3), (0, 0, 0)]
            elif ctype == "char[16]":
                values = [bytes(range(16)), bytes(16)]
            else:
                low, high = _LIMITS[ctype]
                values = [high, low, 127, 0, 128, 2**15 - 1, 2**15, 0, 2**31 - 1, 0, low, high, 1]
            for value in values:
                old = change(old, **{name: value})
                events.append(RecordedEvent(EVENT_SAMPLE, START, old, SAID))
                put(writer, events[-1])
        writer.finish(clocks(START))
    assert told(read(stream.getvalue()).events) == events


def test_a_row_is_a_task_and_back() -> None:
    task = small_task(3)
    again = to_image(from_image(task), task.provenance)
    assert again.task == task.task
    assert all(again.ext[name] == values for name, values in task.ext.items() if name in again.ext)
    older = task._replace(ext={"cred": task.ext["cred"][:3]})
    assert to_image(from_image(older), {}).ext == older.ext


@pytest.mark.parametrize("groups", [1, 3])
def test_cut_short_anywhere_it_is_read_up_to_its_last_whole_group(groups: int) -> None:
    data = small(groups)
    start, parts, _ = groups_of(data)
    whole = read(data)
    assert whole.ending.how == CLEAN
    ends = [len(start)]
    for part in parts:
        ends.append(ends[-1] + len(part))
    for length in range(len(data)):
        if length < len(start):
            with pytest.raises(ImageError):
                read(data[:length])
            continue
        found = read(data[:length])
        assert found.ending.how == CUT
        assert found.ending.offset == max(end for end in ends if end <= length)
        assert found.events == whole.events[: len(found.events)]
        if length >= ends[-1]:
            assert found.events == whole.events


def test_no_flipped_bit_passes() -> None:
    data = small(2)
    whole = read(data)
    for at in range(len(data)):
        for bit in (at % 8, (at * 5 + 3) % 8):
            altered = bytearray(data)
            altered[at] ^= 1 << bit
            try:
                found = read(bytes(altered))
            except ImageError:
                continue
            assert found.ending.how != CLEAN, f"byte {at}, bit {bit}"
            assert found.events == whole.events[: len(found.events)]


def test_what_follows_damage_is_not_read_and_what_precedes_it_is() -> None:
    data = small(4)
    start, parts, _ = groups_of(data)
    altered = bytearray(data)
    altered[len(start) + len(parts[0]) + layout.SAMPLE.size + 3] ^= 1
    found = read(bytes(altered))
    assert found.ending.how == DAMAGED
    assert found.ending.offset == len(start) + len(parts[0])
    assert found.events == read(start + parts[0]).events != []


def test_groups_that_were_left_out_or_exchanged_are_noticed() -> None:
    start, parts, trailer = groups_of(small(4))
    for some in ([parts[0], *parts[2:]], [parts[0], parts[2], parts[1], *parts[3:]], [*parts, parts[-1]]):
        assert read(start + b"".join(some) + trailer).ending.how == DAMAGED
    assert read(start + b"".join(parts[:-1]) + trailer).ending.how == DAMAGED


def test_zeros_that_a_crash_left_are_an_end() -> None:
    start, parts, _ = groups_of(small())
    found = read(start + parts[0] + bytes(5000))
    assert (found.ending.how, found.ending.offset) == (CUT, len(start + parts[0]))
    assert read(start + parts[0] + bytes(5000) + b"x").ending.how == DAMAGED


def test_something_behind_the_trailer_is_damage() -> None:
    assert read(small() + bytes(8)).ending.how == DAMAGED


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_forged_groups_with_right_checksums_do_no_harm(draw: st.DataObject) -> None:
    start, parts, _ = groups_of(small(3))
    forged = []
    for part in parts:
        altered = bytearray(part)
        for _ in range(draw.draw(st.integers(0, 3))):
            at = draw.draw(st.integers(16, len(altered) - 25))
            altered[at] = draw.draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])))
        forged.append(bytes(altered))
    try:
        found = read(resealed(start, forged))
    except ImageError:
        return
    assert found.ending.how in (CUT, DAMAGED)
    for event in found.events:
        if event.row is not None:
            to_image(event.row, event.said)


def test_the_tasks_at_an_instant_are_those_that_were_told_by_then() -> None:
    steps = [(START + turn * 300_000_000, turn) for turn in range(60)]
    stream, one = BytesIO(), row(1)
    before, grouping.KEY_LEAST = grouping.KEY_LEAST, 0
    try:
        with RecordingWriter(stream, META) as writer:
            for now, turn in steps:
                one = change(one, utime=turn)
                writer.add(EVENT_SAMPLE, now, one, SAID)
                if turn % 3 == 1:
                    writer.add(EVENT_FORK, now + 1, row(10 + turn, rppid=1), SAID)
                if turn % 3 == 2:
                    writer.add(EVENT_EXIT, now + 1, row(9 + turn, rppid=1), SAID)
                writer.flush(clocks(now + 2))
            writer.finish(clocks(now + 2))
    finally:
        grouping.KEY_LEAST = before
    data = stream.getvalue()
    assert sum(layout.SAMPLE.unpack_from(part)[8] == grouping.GROUP_KEY for part in groups_of(data)[1]) > 2
    with Recording(BytesIO(data)) as recording:
        first, last = recording.span()
        assert (first.time, last.until) == (START, now + 2)
        for now, turn in steps:
            image = recording.at(now + 1)
            pids = [task.task.pid for task in image.tasks]
            assert pids == ([1, 10 + turn] if turn % 3 == 1 else [1]), turn
            assert image.tasks[0].task.utime == turn
            assert image.meta.realtime == now + 1 + AHEAD
            assert recording.at(now).tasks[0].task.utime == turn
            assert recording.monotonic(now + AHEAD) == now


def test_an_id_that_another_task_gets_ends_the_first() -> None:
    stream = BytesIO()
    with RecordingWriter(stream, META) as writer:
        writer.add(EVENT_SAMPLE, START, row(5), SAID)
        writer.add(EVENT_SAMPLE, START + 1, row(5, real_start_time=9), SAID)
        assert writer.alive == 1
        writer.finish(clocks(START + 2))
    kinds = [(event.kind, event.row and event.row[INDEX["real_start_time"]]) for event in read(stream.getvalue()).events]
    assert kinds == [(EVENT_SAMPLE, 105), (EVENT_GONE, 105), (EVENT_SAMPLE, 9)]


@pytest.mark.parametrize("order", ["exec first", "exit first"])
def test_exec_by_a_thread_hands_the_id_over(order: str) -> None:
    """The thread 7 takes its leader's id 5; the leader ends with the id 7."""
    stream = BytesIO()
    with RecordingWriter(stream, META) as writer:
        leader, thread = row(5, nvcsw=50), row(7, tgid=5, nvcsw=70)
        for state in (leader, thread):
            writer.add(EVENT_SAMPLE, START, state, SAID)
        executes = (EVENT_EXEC, START + 2, change(thread, pid=5, real_start_time=105, exec_id=1), SAID, 7)
        ends = (EVENT_EXIT, START + 1, change(leader, pid=7, exit_code=1), SAID, 5, EVENT_DISPLACED)
        for event in (executes, ends) if order == "exec first" else (ends, executes):
            writer.add(*event)
        assert writer.alive == 1
        writer.finish(clocks(START + 3))
    found = read(stream.getvalue())
    assert EVENT_GONE not in [event.kind for event in found.events]
    with Recording(BytesIO(stream.getvalue())) as recording:
        (task,) = recording.at(START + 3).tasks
    assert (task.task.pid, task.task.nvcsw) == (5, 70)


def test_images_and_recordings_are_not_mistaken_for_one_another(tmp_path: Path) -> None:
    from cptbpf.image.writer import write_image

    path = saved(tmp_path / "a.cpt", small())
    with pytest.raises(ImageError, match="recording, not an image"):
        load(path)
    write_image(small_image(), tmp_path / "b.cpt")
    with pytest.raises(ImageError, match="image, not a recording"):
        Recording(tmp_path / "b.cpt")
    with pytest.raises(TargetError, match="no such file"):
        Recording(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"\x79\x1c\x01", b"x" * 500, bytes(500)])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ImageError):
        Recording(saved(tmp_path / "a", content))
