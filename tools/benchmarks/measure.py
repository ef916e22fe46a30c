"""Timing: several ways to do the same work, in turn, so that a machine that changes its speed changes it for all of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the results.

    ``seconds`` is the median of the rounds; ``ratio`` the median of this over the group's base, round by round; ``goal`` what
    the ratio, or the figure in ``unit``, is to be.
    """

    group: str
    what: str
    tasks: int
    seconds: float
    ratio: float | None = None
    base: str = ""
    goal: str = ""
    note: str = ""


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A way that is timed from outside."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def rounds(ways: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Seconds of each way, ``count`` times in turn after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(count + 1):
        for name, way in ways.items():
            seconds = way()
            if turn:
                taken[name].append(seconds)
    return taken


def rows(
    group: str, tasks: int, taken: Mapping[str, Sequence[float]], base: str, goals: Mapping[str, str], upward: bool = False
) -> list[Row]:
    """A row for each way. ``upward``: the ratio says how many times faster than the base, else how many times as long."""
    made = []
    for name, seconds in taken.items():
        ratio = None
        if name != base:
            pairs = zip(taken[base], seconds, strict=True)
            ratio = statistics.median(b / s if upward else s / b for b, s in pairs)
        made.append(Row(group, name, tasks, statistics.median(seconds), ratio, base, goals.get(name, "")))
    return made


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """The exponent of the power law that fits (tasks, seconds) best; 1 is linear."""
    xs, ys = [math.log(n) for n, _ in points], [math.log(s) for _, s in points]
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
