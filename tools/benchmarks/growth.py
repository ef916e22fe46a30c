"""How the cost of a snapshot grows with the number of tasks."""

import tempfile
from collections.abc import Iterator

from tools.benchmarks import commands, crowd
from tools.benchmarks.measure import Row, exponent, line

GROUP = "growth of a snapshot"
WINDOW, WHOLE, PEAK = "frozen", "whole command", "peak memory"
_LARGEST = 50_000


def run(quick: bool) -> Iterator[Row]:
    """Snapshots of ever more threads: to three quarters of kernel.pid_max and kernel.threads-max, as others live here too."""
    room = min(_number("kernel/pid_max"), _number("kernel/threads-max")) * 3 // 4
    sizes = [10, 100, 1000] if quick else [10, 100, 1000, 10000]
    if not quick and room > 15000:
        sizes.append(min(room, _LARGEST))
    frozen, wall = [], []
    for count in sizes:
        with crowd.threads(count) as target, tempfile.TemporaryDirectory() as folder:
            words, file = ("--pidns", str(target.ns_inode)), f"{folder}/image"
            turns = [commands.snapshot(words, file) for _ in range(9 if count < 9999 else 5)][1:]
            peak = commands.peak(words, file)
        tasks, size = turns[0].tasks, turns[0].size
        frozen.append((tasks, min(turn.frozen for turn in turns)))
        wall.append((tasks, min(turn.wall for turn in turns)))
        goals = ("< 150 ms", "< 1500 ms", "< 150 MB") if count == 10000 else ("", "", "")
        yield Row(GROUP, WINDOW, tasks, frozen[-1][1], goal=goals[0])
        yield Row(GROUP, WHOLE, tasks, wall[-1][1], goal=goals[1], size=size)
        yield Row(GROUP, PEAK, tasks, 0, goal=goals[2], note=f"{peak:.0f} MB")
    for what, points in ((WINDOW, frozen), (WHOLE, wall)):
        fixed, each = line(points)
        fit = f"{fixed * 1e3:.1f} ms + {each * 1e6:.1f} µs a task; from 100 tasks on, as tasks to the power of"
        yield Row(GROUP, f"fit, {what}", 0, 0, note=f"{fit} {exponent(points[1:]):.2f}")


def _number(name: str) -> int:
    with open(f"/proc/sys/{name}", encoding="ascii") as stream:
        return int(stream.read())
