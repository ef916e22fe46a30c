"""Recordings of real namespaces: they tell what the sampler told, whoever reads them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from cptbpf.conductors.events import CREDENTIALS, Cred, Drop, Event, Exit, Fork
from cptbpf.conductors.record import Recorder, replayed, row_of, sources, state_of
from cptbpf.conductors.sample import Sampler
from cptbpf.conductors.tasks import tasks
from cptbpf.image.provenance import is_absent
from cptbpf.image.recording import CLEAN, CUT, Recording
from cptbpf.image.rows import INDEX, to_image
from tests.cli.command import PROGRAM
from tests.conductors.shots import value
from tests.harness import SLOWNESS, Target, until

pytestmark = pytest.mark.bpf
Start = Callable[..., Target]


def recorded(target: Target, seconds: float, during: Callable[[], object] = lambda: None) -> tuple[bytes, list[Event]]:
    """A recording of a target, and the events that went into it."""
    stream, told = BytesIO(), []
    with Sampler(pidns=f"/proc/{target.host_pid}/ns/pid", interval=0.05) as sampler:
        recorder = Recorder(sampler, stream)
        started = False
        for batch in sampler.batches(seconds):
            recorder.take(batch)
            told += batch
            if not started:
                started = True
                during()
        recorder.finish()
    return stream.getvalue(), told


def read(data: bytes) -> list[Event]:
    with Recording(BytesIO(data)) as recording:
        events = list(replayed(recording))
        assert recording.ending and recording.ending.how == CLEAN
    return events


def without_what_is_not_kept(event: Event) -> Event:
    if isinstance(event, Cred) and event.before is not None:
        event = event._replace(before=event.before._replace(vfork=0, valid=0))
    if isinstance(event, Drop):
        return event
    comm = event.task.comm.partition(b"\0")[0].ljust(16, b"\0")
    return event._replace(task=event.task._replace(vfork=0, valid=0, comm=comm))


def test_a_state_survives_being_a_row(target: Start) -> None:
    storm = target("threads", 3)
    for state in tasks(pidns=f"/proc/{storm.host_pid}/ns/pid"):
        again = state_of(row_of(state), sources(state.valid))
        comm = state.comm.partition(b"\0")[0].ljust(16, b"\0")
        assert again._replace(valid=0) == state._replace(vfork=0, valid=0, comm=comm)
        assert again.valid == state.valid & ~0x8  # signal handlers are not followed
        image = to_image(row_of(state), sources(state.valid))
        assert is_absent(image.source("signal", "sig_caught"))
        assert value(image, "pf_flags") == state.pf_flags


def test_a_recording_tells_what_the_sampler_told(target: Start) -> None:
    data, told = recorded(target("forkstorm", "mixed"), 1.5)
    found = read(data)
    assert sum(isinstance(event, Exit) for event in told) > 10
    assert [event.event for event in found] == [event.event for event in told]
    for ours, theirs in zip(found, told, strict=True):
        if isinstance(ours, Cred):  # before is the last state that the recording has
            assert isinstance(theirs, Cred) and ours.task.pid == theirs.task.pid
            continue
        left, right = without_what_is_not_kept(ours), without_what_is_not_kept(theirs)
        assert left._replace(time_ns=0) == right._replace(time_ns=0)
        assert abs(left.time_ns - right.time_ns) < 1_000_000  # the clocks were compared once more
    assert sum(isinstance(event, Fork) for event in found) > 10


def test_the_tasks_of_an_instant_are_those_that_lived(target: Start) -> None:
    parent = target("children", init=True)
    born: list[int] = []

    def give_birth() -> None:
        parent.say("fork")
        born.append(int(parent.read_line().split()[1]))

    data, _ = recorded(parent, 1.5, give_birth)
    with Recording(BytesIO(data)) as recording:
        first, last = recording.span()
        assert {task.task.pid for task in recording.at(first.time).tasks} <= {1, parent.pid}
        image = recording.at(last.until)
    assert {task.task.pid for task in image.tasks} == {1, parent.pid, *born}
    assert image.meta.pid_ns == parent.ns_inode
    now = {state.pid: state for state in tasks(pidns=f"/proc/{parent.host_pid}/ns/pid")}
    for task in image.tasks:
        assert value(task, "host_pid") == now[task.task.pid].host_pid
        assert all(value(task, name) == getattr(now[task.task.pid], name) for name in CREDENTIALS)


@contextmanager
def sampling(target: Target, path: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [PROGRAM, "sample", "--pidns", f"pid:[{target.ns_inode}]", "-o", path, "--interval", "50ms", *arguments]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_killed_sampler_leaves_a_recording(target: Start, tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    storm = target("forkstorm", "fork")
    with sampling(storm, path) as process:
        until(lambda: length(path) > 20_000, "the recording to grow", 30)
        process.kill()
    with Recording(path) as recording:
        events = list(replayed(recording))
        assert recording.ending and recording.ending.how == CUT
        assert sum(isinstance(event, Exit) for event in events) > 5
        assert recording.at(recording.span()[1].until).tasks


def test_usr1_brings_it_to_the_disk_and_a_signal_ends_it_in_order(target: Start, tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    burner = target("burner")
    with sampling(burner, path) as process:
        until(lambda: length(path) > 5000, "the recording to grow", 30)
        process.send_signal(signal.SIGUSR1)
        before = length(path)
        until(lambda: length(path) > before, "it goes on", 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(30 * SLOWNESS) == 0
    with Recording(path) as recording:
        rows = [event.row for event in recording.events() if event.row]
        assert recording.ending and recording.ending.how == CLEAN
    burning = max(row[INDEX["host_pid"]] for row in rows)  # the thread that its first one made
    times = [row[INDEX["sum_exec_runtime"]] for row in rows if row[INDEX["host_pid"]] == burning]
    assert len(times) > 3 and times == sorted(times) and times[0] < times[-1]


def test_rotated_while_it_runs(target: Start, tmp_path: Path) -> None:
    burner = target("burner")
    with sampling(burner, tmp_path / "a.cpt", "--rotate", "300ms", "--duration", "2s") as process:
        assert process.wait(60 * SLOWNESS) == 0
    names = sorted(os.listdir(tmp_path))
    assert len(names) > 2 and names[0] == "a-0001.cpt"
    for name in names:
        with Recording(tmp_path / name) as recording:
            assert burner.host_pid in [event.row[INDEX["host_pid"]] for event in recording.events() if event.row]
            assert recording.ending and recording.ending.how == CLEAN


def test_ends_with_its_namespace(target: Start, tmp_path: Path) -> None:
    path = tmp_path / "a.cpt"
    sleeper = target("sleeper")
    with sampling(sleeper, path) as process:
        until(lambda: length(path) > 500, "the recording to begin", 30)
        time.sleep(0.3)
        sleeper.close()
        assert process.wait(30 * SLOWNESS) == 0
    with Recording(path) as recording:
        assert recording.at(recording.span()[1].until).tasks == ()
        assert recording.ending is None or recording.ending.how == CLEAN


_FULL = """
mount -t tmpfs -o size=96k,mode=700 full "$1" || exit 99
"$2" sample --pidns "$3" -o "$1/a.cpt" --interval 1ms
echo "status $?" >&2
cp "$1/a.cpt" "$4"
"""


def test_a_full_disk_ends_it_with_a_message_and_what_there_is_can_be_read(target: Start, tmp_path: Path) -> None:
    """On a file system of its own, that only this command sees."""
    mounted, kept = tmp_path / "mounted", tmp_path / "kept.cpt"
    mounted.mkdir()
    storm = target("forkstorm", "fork")
    arguments = map(str, (mounted, PROGRAM, f"pid:[{storm.ns_inode}]", kept))
    command = ["unshare", "--mount", "sh", "-c", _FULL, "sh", *arguments]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120 * SLOWNESS, check=True).stderr
    message, remedy, status = said.splitlines()
    assert message == f"cptbpf: cannot write '{mounted}/a.cpt': No space left on device"
    assert remedy == f"it ends whole, at byte {length(kept)}, and can be read"
    assert status == "status 2"
    with Recording(kept) as recording:
        events = list(replayed(recording))
        assert recording.ending and (recording.ending.how, recording.ending.offset) == (CUT, length(kept))
        assert sum(isinstance(event, Exit) for event in events) > 5
        assert recording.at(recording.span()[1].until).tasks
    assert os.listdir(mounted) == []
