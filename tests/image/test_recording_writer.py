"""The files that recordings go to: there from the first byte, never anybody else's, whole groups only, one after another."""

import os
import stat
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from cptbpf.errors import TargetError
from cptbpf.image.append import AppendOutput
from cptbpf.image.model import EVENT_SAMPLE
from cptbpf.image.recording import CLEAN, CUT, Recording
from cptbpf.image.recording_writer import BEAT, RecordingWriter, Rotation
from cptbpf.image.rows import INDEX
from tests.image.recordings import META, SAID, START, change, clocks, read, row


def test_a_file_is_private_and_readable_from_its_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    before = os.umask(0)
    try:
        writer = RecordingWriter(path, META)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Recording(path) as recording:
        assert recording.meta.pid_ns == META.pid_ns
        assert list(recording.events()) == []
        assert recording.ending and recording.ending.how == CUT
    writer.add(EVENT_SAMPLE, START, row(1), SAID)
    writer.flush(clocks(START))
    assert len(read(path.read_bytes()).events) == 1
    writer.finish(clocks(START))
    assert read(path.read_bytes()).ending.how == CLEAN


def test_a_file_that_exists_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    path.write_bytes(b"precious")
    with pytest.raises(TargetError, match="exists"):
        RecordingWriter(path, META)
    assert path.read_bytes() == b"precious"
    path.chmod(0o644)
    with RecordingWriter(path, META, force=True) as writer:
        writer.finish(clocks(START))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path.read_bytes()).ending.how == CLEAN
    assert os.listdir(tmp_path) == ["a.cpt"]


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_through_a_link_or_to_a_device(tmp_path: Path, force: bool) -> None:
    dangling, link, elsewhere = tmp_path / "dangling", tmp_path / "link", tmp_path / "elsewhere"
    dangling.symlink_to(tmp_path / "nothing")
    elsewhere.write_bytes(b"precious")
    link.symlink_to(elsewhere)
    for path in (dangling, link):  # as an image does, a recording takes the place of the link itself
        if not force:
            with pytest.raises(TargetError, match="exists already"):
                RecordingWriter(path, META)
            continue
        with RecordingWriter(path, META, force=True) as writer:
            writer.finish(clocks(START))
        assert path.lstat().st_mode == stat.S_IFREG | 0o600
    assert not (tmp_path / "nothing").exists()
    assert elsewhere.read_bytes() == b"precious"
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "null", tmp_path):
        with pytest.raises(TargetError, match="not a regular file"):
            RecordingWriter(path, META, force=force)
    assert (tmp_path / "null").is_symlink()
    with pytest.raises(TargetError, match="cannot create"):
        RecordingWriter(tmp_path / "no" / "such", META, force=force)


_FULL = """
import resource, sys
from pathlib import Path
from cptbpf.errors import TargetError
from cptbpf.image.recording_writer import RecordingWriter
from tests.image.recordings import META, SAID, START, change, clocks, row
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
writer, state = RecordingWriter(sys.argv[1], META), row(1)
try:
    for turn in range(100000):
        state = change(state, utime=turn * 1000003)
        writer.add(0, START + turn, state, SAID)
        if turn % 7 == 0:
            writer.flush(clocks(START + turn))
except TargetError as error:
    print(turn, error, error.remedy, sep="|")
"""


def test_a_full_disk_ends_it_and_what_there_is_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    done = subprocess.run([sys.executable, "-c", _FULL, path], capture_output=True, text=True, check=True)
    turns, message, remedy = done.stdout.strip().split("|")
    assert "cannot write" in message and "too large" in message
    assert f"at byte {path.stat().st_size}" in remedy
    found = read(path.read_bytes())
    assert found.ending.how == CUT and found.ending.offset == path.stat().st_size
    assert int(turns) - 7 <= len(found.events) <= int(turns)
    last = found.events[-1].row
    assert last and last[INDEX["utime"]] == (len(found.events) - 1) * 1000003


def test_a_killed_writer_leaves_what_it_had_flushed(tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    script = _FULL.replace("resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))", "").replace(
        "writer.flush(clocks(START + turn))", "writer.flush(clocks(START + turn)); print(turn, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(50)]
        process.kill()
    found = read(path.read_bytes())
    assert found.ending.how == CUT
    assert len(found.events) > int(lines[-1])


@pytest.mark.parametrize("rotation", [Rotation(size=12000), Rotation(time=700_000_000)])
def test_each_rotated_file_is_whole_by_itself(tmp_path: Path, rotation: Rotation) -> None:
    states = {pid: row(pid, nvcsw=pid) for pid in range(1, 11)}
    sampled = []
    with RecordingWriter(tmp_path / "a.cpt", META, rotation=rotation) as writer:
        for turn in range(30):
            now = START + turn * 100_000_000
            for pid in list(states) if turn == 0 else [1 + turn % 9]:
                states[pid] = change(states[pid], utime=turn * 1009)
                writer.add(EVENT_SAMPLE, now, states[pid], SAID)
                sampled.append((now, states[pid]))
            for _ in range(20):
                states[1] = change(states[1], nvcsw=states[1][INDEX["nvcsw"]] * 7 % 999999937)
                writer.add(EVENT_SAMPLE, now, states[1], SAID)
                sampled.append((now, states[1]))
            writer.flush(clocks(now))
        writer.finish(clocks(now + 1))
        names = writer.files
    assert len(names) > 2
    assert names == [str(tmp_path / f"a-{number:04d}.cpt") for number in range(1, len(names) + 1)]
    assert sorted(os.listdir(tmp_path)) == [os.path.basename(name) for name in names]
    told = []
    for number, name in enumerate(names):
        found = read(Path(name).read_bytes())
        assert found.ending.how == CLEAN
        restated = 10 if number else 0
        assert {event.row and event.row[INDEX["pid"]] for event in found.events[: restated or 10]} == set(states)
        told += [(event.time, event.row) for event in found.events[restated:]]
    assert told == sampled
    with Recording(names[-1]) as recording:
        last = recording.span()[1]
        assert [from_.task.utime for from_ in recording.at(last.until).tasks] == [
            states[pid][INDEX["utime"]] for pid in sorted(states)
        ]


def test_an_idle_recording_says_how_far_it_reaches_and_costs_next_to_nothing() -> None:
    stream = BytesIO()
    with RecordingWriter(stream, META) as writer:
        for pid in range(1, 501):
            writer.add(EVENT_SAMPLE, START, row(pid), SAID)
        writer.flush(clocks(START))
        size = len(stream.getvalue())
        for tenth in range(601):
            writer.flush(clocks(START + tenth * BEAT // 10))
        with Recording(BytesIO(stream.getvalue())) as recording:
            assert recording.span()[1].until == START + 60 * BEAT
    assert len(stream.getvalue()) - size < 10_000


def test_few_bytes_for_each_task_and_sample_where_most_sleep() -> None:
    stream, states = (
        BytesIO(),
        {pid: row(pid, host_pid=pid + 5000, cap_bset=2**41 - 1, rchar=pid * 999) for pid in range(1, 1001)},
    )
    with RecordingWriter(stream, META) as writer:
        for state in states.values():
            writer.add(EVENT_SAMPLE, START, state, SAID)
        for turn in range(1, 101):
            now = START + turn * 100_000_000
            for pid in range(1, 51):
                values = {
                    name: states[pid][INDEX[name]] + 10**7 + pid for name in ("utime", "stime", "sum_exec_runtime", "run_delay")
                }
                values |= {
                    name: states[pid][INDEX[name]] + pid for name in ("nvcsw", "nivcsw", "run_count", "min_flt", "rchar")
                }
                states[pid] = change(states[pid], **values)
                writer.add(EVENT_SAMPLE, now - pid, states[pid], SAID)
            writer.flush(clocks(now))
        writer.finish(clocks(now))
    assert len(stream.getvalue()) / (len(states) * 101) < 10  # of 40 that it may take
    assert (len(stream.getvalue()) - 1000 * 850) / (50 * 100) < 50  # but for the tasks when they were first seen


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as target, RecordingWriter(target, META) as writer:
        writer.add(EVENT_SAMPLE, START, row(1), SAID)
        writer.finish(clocks(START))
    with os.fdopen(reading, "rb") as source, Recording(source) as recording:
        assert len(list(recording.events())) == 1
        assert recording.ending and recording.ending.how == CLEAN


def test_a_recording_that_still_grows_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    with RecordingWriter(path, META) as writer:
        writer.add(EVENT_SAMPLE, START, row(1), SAID)
        writer.flush(clocks(START))
        with Recording(path) as recording:
            groups = recording.groups()
            assert len(next(groups)[1]) == 1
            writer.add(EVENT_SAMPLE, START + 1, row(1, utime=5), SAID)
            writer.finish(clocks(START + 1))
            assert [len(events) for _, events, _ in groups] == [1]
            assert recording.ending and recording.ending.how == CLEAN


def test_a_directory_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="No such file") as caught:
        AppendOutput(str(tmp_path / "missing" / "a.cpt"))
    assert caught.value.remedy == "give a name in a directory that exists"
