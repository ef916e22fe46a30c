"""What the sampler costs: the switches of those who are followed and of others, and its own process beside psutil."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from cptbpf.conductors.sample import Sampler
from tests.harness import Target, build
from tools.benchmarks.measure import Row

_SWITCHES = "context switches of two processes over a pipe, pinned"
_CROWD = "sampler of many tasks"
_PSUTIL_FIELDS = ["pid", "ppid", "name", "status", "uids", "cpu_times", "num_ctx_switches", "num_threads"]


def run(quick: bool) -> Iterator[Row]:
    """Switches, a crowd, and the start."""
    yield from _switches(5_000 if quick else 50_000, 3 if quick else 7)
    yield from _crowd(*((450, 50) if quick else (4900, 100)), 2 if quick else 10)


def _started(*argv: object) -> Target:
    return Target([str(build(str(argv[0]))), *map(str, argv[1:])], 1, False, True, ())


def _switches(trips: int, turns: int) -> Iterator[Row]:
    cpu = max(os.sched_getaffinity(0))
    players, others = _started("pingpong", cpu), _started("pingpong", cpu)

    def play() -> float:
        players.say(str(trips))
        return int(players.read_line(300).split()[1]) / 1e9

    def sampled(target: Target) -> tuple[float, float]:
        """Seconds of a game while the target is followed, and net ns per switch of another game."""
        with Sampler(pidns=target.ns_inode, interval=3600) as sampler:
            sampler.poll()
            seconds = play()
            window = sampler.measure()
            play()
            return seconds, window.finish().ns_per_switch

    try:
        play()
        bare, followed, foreign = [], [], []
        for _ in range(turns):
            bare.append(play())
            followed.append(sampled(players))
            foreign.append(sampled(others))
    finally:
        players.close()
        others.close()
    yield Row(_SWITCHES, "not sampled", 2 * trips, statistics.median(bare))
    for what, runs, goal in (
        ("followed, not due", followed, "<= 80 ns"),
        ("another namespace is followed", foreign, "<= 40 ns"),
    ):
        ratio = statistics.median(run[0] / base for run, base in zip(runs, bare, strict=True))
        net = statistics.median(run[1] for run in runs)
        note = f"{net:.0f} ns net per switch, by bpf_stats"
        yield Row(_SWITCHES, what, 2 * trips, statistics.median(run[0] for run in runs), ratio, "not sampled", goal, note)


def _crowd(sleepers: int, runners: int, seconds: float) -> Iterator[Row]:
    crowd = _started("crowd", sleepers, runners)
    tasks = sleepers + runners + 1
    try:
        with tempfile.NamedTemporaryFile() as out:
            command = [os.path.join(os.path.dirname(sys.executable), "cptbpf"), "sample", "--pidns", str(crowd.ns_inode)]
            command += ["--interval", "100ms", "--format", "jsonl"]
            began = time.perf_counter()
            with subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL) as sampler:
                while not os.fstat(out.fileno()).st_size and sampler.poll() is None:
                    time.sleep(0.001)
                start = time.perf_counter() - began
                time.sleep(1)
                share = _share(lambda: _used(sampler.pid), seconds)
                with open(f"/proc/{sampler.pid}/status", encoding="ascii", errors="replace") as stream:
                    memory = int(stream.read().partition("VmHWM:")[2].split()[0]) / 1024
                sampler.terminate()
        yield Row(_CROWD, "start to first sample", tasks, start, goal="< 300 ms")
        yield Row(_CROWD, "peak memory", tasks, 0, goal="< 60 MB", note=f"{memory:.0f} MB")
        rate = f"{runners} of them run, 10 samples/s"
        yield Row(_CROWD, "cptbpf sample, cpu per second", tasks, share, goal="< 30 ms", note=rate)
        yield from _psutil(crowd, tasks, share)
    finally:
        crowd.close()


def _used(pid: int) -> float:
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as stream:
        return int(stream.read().split()[0]) / 1e9


def _share(used: Callable[[], float], seconds: float) -> float:
    """CPU seconds per second."""
    began, before = time.perf_counter(), used()
    time.sleep(seconds)
    return (used() - before) / (time.perf_counter() - began)


def _psutil(crowd: Target, tasks: int, share: float) -> Iterator[Row]:
    try:
        import psutil
    except ImportError:
        yield Row(_CROWD, "psutil, 8 fields", tasks, 0, note="skipped: psutil is not installed")
        return
    pids = crowd.members()
    before = time.process_time()
    for pid in pids:
        psutil.Process(pid).as_dict(_PSUTIL_FIELDS)
    each = time.process_time() - before
    note = "cpu of one loop, ten times"
    yield Row(_CROWD, "psutil, 8 fields, cpu per second", tasks, each * 10, each * 10 / share, "the sampler", ">= 50", note)
