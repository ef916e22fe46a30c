"""Recordings: what a task and sample take, and how fast they are read back."""

import os
import tempfile
import time
from collections.abc import Iterator

from cptbpf.conductors.record import Recorder
from cptbpf.conductors.sample import Sampler
from cptbpf.image.recording import Recording
from tests.harness import Target, build
from tools.benchmarks.measure import Row, rounds

_GROUP = "recordings"
_INTERVAL = 0.1


def run(quick: bool) -> Iterator[Row]:
    """A process of many sleeping threads and a few that run now and then, ten samples a second."""
    crowd = Target([str(build("crowd")), *(("450", "50") if quick else ("4900", "100"))], 1, False, True, ())
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/recording"
            yield from _written(crowd, file, 2 if quick else 20)
            yield from _read(file)
    finally:
        crowd.close()


def _written(crowd: Target, file: str, seconds: int) -> Iterator[Row]:
    with Sampler(pidns=crowd.ns_inode, interval=_INTERVAL) as sampler:
        recorder = Recorder(sampler, file)
        left = len(crowd.members())
        while left > 0:  # everyone, once
            batch = sampler.poll()
            recorder.take(batch)
            left -= len(batch)
        started, used = time.monotonic(), time.process_time()
        for batch in sampler.batches(seconds):
            recorder.take(batch)
        share = (time.process_time() - used) / (time.monotonic() - started)
        tasks, size = len(sampler.tasks()), recorder.finish()
    each = size / (tasks * seconds / _INTERVAL)
    yield Row(_GROUP, "written", tasks, 0, note=f"{each:.2f} bytes a task and sample", goal="<= 40 bytes")
    yield Row(_GROUP, "sampler and recorder, cpu per second", tasks, share, goal="< 30 ms")


def _read(file: str) -> Iterator[Row]:
    count = 0

    def read() -> float:
        nonlocal count
        started = time.process_time()
        with Recording(file) as recording:
            count = sum(len(events) + sample.tasks for sample, events, _ in recording.groups())
        return time.process_time() - started

    seconds = sorted(rounds({"read": read}, 5)["read"])[2]
    note = f"{count / seconds:,.0f} task records/s, {os.path.getsize(file) / seconds / 1e6:.0f} MB/s"
    yield Row(_GROUP, "read back", count, seconds, note=note, goal=">= 200,000/s")

    def at() -> float:
        with Recording(file) as recording:
            last = recording.span()[1].until
            started = time.process_time()
            recording.at(last)
        return time.process_time() - started

    seconds = sorted(rounds({"at": at}, 5)["at"])[2]
    yield Row(_GROUP, "the tasks at an instant", count, seconds)
