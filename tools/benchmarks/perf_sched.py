"""What being followed costs a context switch: by cptbpf, by ``perf sched record``, by a psutil loop at cptbpf's rate."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec

from tests.harness import Target, build, until
from tools.benchmarks import commands
from tools.benchmarks.measure import Row, rounds, rows

_GROUP = "context switches of two pinned processes, each way a command of its own"
_BARE = "not followed"
_PERF = "perf sched record"
_PSUTIL = "psutil loop, 10 a second"
_LOOP = """
import sys, time, psutil
fields = ["pid", "ppid", "name", "status", "uids", "cpu_times", "num_ctx_switches", "num_threads"]
processes = [psutil.Process(int(pid)) for pid in sys.argv[1:]]
print("ready", flush=True)
while True:
    for process in processes:
        process.as_dict(fields)
    time.sleep(0.1)
"""


def run(quick: bool) -> Iterator[Row]:
    """Games of ping-pong, unobserved and observed."""
    trips, turns = (20_000, 2) if quick else (50_000, 5)
    cpu = str(max(os.sched_getaffinity(0)))
    program = str(build("pingpong"))
    players, others = (Target([program, cpu], 1, False, True, ()) for _ in range(2))
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _games(players, others, folder, trips, turns)
    finally:
        players.close()
        others.close()


def _games(players: Target, others: Target, folder: str, trips: int, turns: int) -> Iterator[Row]:
    file = f"{folder}/followed"

    def played(watcher: Callable[[], AbstractContextManager[None]]) -> float:
        with watcher():
            time.sleep(0.3)  # its own start is over
            players.say(str(trips))
            return int(players.read_line(300).split()[1]) / 1e9

    watchers: dict[str, Callable[[], AbstractContextManager[None]]] = {
        _BARE: nullcontext,
        "cptbpf sample, 10 a second": partial(_writing, _sample(players, file), file),
        "cptbpf sample of another namespace": partial(_writing, _sample(others, file), file),
    }
    skipped = {}
    perf = ["perf", "sched", "record", "-o", file]
    if why := _refused(perf):
        skipped[_PERF] = why
    else:
        watchers[_PERF] = partial(_writing, perf, file)
    if find_spec("psutil"):
        watchers[_PSUTIL] = partial(_saying, [sys.executable, "-c", _LOOP, *map(str, players.members())])
    else:
        skipped[_PSUTIL] = "psutil is not installed (pip install -e '.[bench]')"
    taken = rounds({name: partial(played, watcher) for name, watcher in watchers.items()}, turns)
    bare = min(taken[_BARE])
    for row in rows(_GROUP, 2 * trips, taken, _BARE, {}):
        note = "" if row.what == _BARE else f"{(row.seconds - bare) / row.tasks * 1e9:+.0f} ns a switch"
        yield row._replace(note=note)
    for name, why in skipped.items():
        yield Row(_GROUP, name, 2 * trips, 0, note=f"skipped: {why}")


def _sample(target: Target, file: str) -> list[str]:
    return [commands.CPTBPF, "sample", "--pidns", str(target.ns_inode), "--interval", "100ms", "-o", file]


def _refused(perf: list[str]) -> str:
    """Why perf does not work here, or ""."""
    if not shutil.which("perf"):
        return "perf is not installed"
    done = subprocess.run([*perf, "--", "true"], capture_output=True, text=True, check=False)
    said = (done.stderr.strip().splitlines() or ["no word of why"])[0]
    return f"perf does not work here: {said}" if done.returncode else ""


@contextmanager
def _started(words: list[str], **how: int) -> "Iterator[subprocess.Popen[bytes]]":
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def _writing(words: list[str], file: str) -> Iterator[None]:
    """A command that is at work once it has written into its file."""
    if os.path.exists(file):
        os.unlink(file)
    with _started(words, stdout=subprocess.DEVNULL) as process:
        until(lambda: process.poll() is not None or (os.path.exists(file) and os.path.getsize(file)), words[0], 30)
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(words)} ended with status {process.returncode}")
        yield


@contextmanager
def _saying(words: list[str]) -> Iterator[None]:
    """A command that is at work once it has said something."""
    with _started(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield
