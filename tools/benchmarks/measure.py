"""Timing: several ways to do the same work, in turn, the best round of each; and what the figures say together."""

import math
import random
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the results.

    ``seconds`` is the time of the best round, 0 where it is not about time; ``ratio`` compares it with the row ``base`` of the
    group; ``goal`` is what the ratio, or the time, is to be; ``size`` counts bytes written.
    """

    group: str
    what: str
    tasks: int
    seconds: float
    ratio: float | None = None
    base: str = ""
    goal: str = ""
    note: str = ""
    size: int = 0


def met(row: Row) -> bool | None:
    """Whether the goal was met; None where there is none, or it is about what only the note says."""
    parts = re.fullmatch(r"(<=|>=|<|>) ([\d.]+)(?: (ms|s))?", row.goal)
    if parts is None:
        return None
    value = row.seconds * {"ms": 1e3, "s": 1}[parts[3]] if parts[3] else row.ratio
    if value is None:
        return None
    limit = float(parts[2])
    return {"<=": value <= limit, ">=": value >= limit, "<": value < limit, ">": value > limit}[parts[1]]


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """A way that is timed from outside."""

    def run() -> float:
        start = clock()
        work()
        return clock() - start

    return run


def computing(work: Callable[[], object]) -> Callable[[], float]:
    """A way that does all in its own thread and waits for nobody, in CPU seconds: others on the machine count for less."""
    return timed(work, time.thread_time)


def rounds(ways: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Seconds of each way, ``count`` times in turn after one round that does not count.

    Every round has an order of its own: who follows one that went through all of /proc finds the caches full of that.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names, generator = list(ways), random.Random(count)
    for turn in range(count + 1):
        generator.shuffle(names)
        for name in names:
            seconds = ways[name]()
            if turn:
                taken[name].append(seconds)
    return taken


def rows(
    group: str, tasks: int, taken: Mapping[str, Sequence[float]], base: str, goals: Mapping[str, str], upward: bool = False
) -> list[Row]:
    """A row for each way, of its best round: what else runs on the machine only ever adds.

    ``upward``: the ratio says how many times faster than the base, else how many times as long.
    """
    best = {name: min(seconds) for name, seconds in taken.items()}
    made = []
    for name, seconds in best.items():
        ratio = None
        if name != base and base in best:
            ratio = best[base] / seconds if upward else seconds / best[base]
        made.append(Row(group, name, tasks, seconds, ratio, base, goals.get(name, "")))
    return made


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """The exponent of the power law that fits (tasks, seconds) best; 1 is linear."""
    xs, ys = [math.log(n) for n, _ in points], [math.log(s) for _, s in points]
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The straight line through (tasks, seconds) with the least relative error: seconds at no task, and for each."""
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    x = sum(w * n for w, (n, _) in zip(weights, points, strict=True)) / total
    y = sum(w * s for w, (_, s) in zip(weights, points, strict=True)) / total
    spread = sum(w * (n - x) ** 2 for w, (n, _) in zip(weights, points, strict=True))
    slope = sum(w * (n - x) * (s - y) for w, (n, s) in zip(weights, points, strict=True)) / spread
    return y - slope * x, slope
