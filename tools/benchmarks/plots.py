"""Plots of a run: a bar for each ratio, and cost against the number of tasks."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from tools.benchmarks import growth
from tools.benchmarks.measure import Row

_OURS, _THEIRS, _GOAL = "#2f6db5", "#b8bec7", "#c0392b"
_PEERS = ("/proc", "psutil", "gcore", "criu", "perf", "bare", "python", "not ")
Points = list[tuple[int, float]]


def require() -> None:
    """Raises ClickException where there is no matplotlib, before anything is measured."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise click.ClickException("plots need matplotlib: .venv/bin/pip install -e '.[bench]'") from None


def draw(found: list[Row], folder: str) -> None:
    """Writes ratios, state and growth into a folder, as far as the run has them, each as PNG and as SVG."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "cptbpf"})
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, figure in _figures(found, pyplot):
        for form in ("png", "svg"):
            figure.savefig(place / f"{name}.{form}", dpi=150, bbox_inches="tight")
        pyplot.close(figure)


def _figures(found: list[Row], pyplot: Any) -> Iterator[tuple[str, Any]]:
    ratios = [row for row in found if row.ratio is not None and row.tasks]
    if ratios:
        yield "ratios", _bars(ratios, pyplot)
    state = [row for row in found if row.group.startswith("whole state") and row.seconds]
    if len({row.tasks for row in state}) > 1:
        ways = {name: _points(state, name) for name in dict.fromkeys(row.what for row in state)}
        yield "state", _lines(pyplot, "Reading the whole state of every thread", ways, ("CPU time, ms", 1e3))
    grown = [row for row in found if row.group == growth.GROUP]
    ways = {name: _points(grown, name) for name in (growth.WHOLE, growth.WINDOW)}
    if all(len(points) > 1 for points in ways.values()):
        yield "growth", _lines(pyplot, "A snapshot of ever more threads", ways, ("ms", 1e3))


def _points(rows: Iterable[Row], what: str) -> Points:
    return sorted((row.tasks, row.seconds) for row in rows if row.what == what and row.seconds)


def _bars(rows: list[Row], pyplot: Any) -> Any:
    """One panel a group and number of tasks, as they are compared with one base each."""
    from matplotlib import ticker

    panels: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row.group, row.tasks, row.base), []).append(row)
    heights = [len(members) + 1.6 for members in panels.values()]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(9, 0.27 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for ((group, tasks, base), members), axis in zip(panels.items(), axes[:, 0], strict=True):
        names = [row.what for row in members]
        values = [row.ratio or 0 for row in members]
        bars = axis.barh(names, values, color=[_THEIRS if name.startswith(_PEERS) else _OURS for name in names], height=0.7)
        axis.bar_label(bars, [f"{value:.3g}" for value in values], padding=3, fontsize=8)
        goals = [(index, *row.goal.split()) for index, row in enumerate(members) if len(row.goal.split()) == 2]
        for index, _, limit in goals:
            axis.plot([float(limit)] * 2, [index - 0.45, index + 0.45], color=_GOAL, linewidth=1.5)
        axis.set_xscale("log")
        reach = [1.0, *values, *(float(limit) for *_, limit in goals)]
        axis.set_xlim(min(reach) / 1.6, max(reach) * 2.2)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.invert_yaxis()
        axis.tick_params(axis="both", which="both", labelsize=8)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        wide = max(reach) / min(reach) > 30
        axis.xaxis.set_minor_locator(ticker.LogLocator(subs=range(2, 10) if wide else (0.5, 2, 5)))
        axis.xaxis.set_minor_formatter("" if wide else lambda value, _: f"{value:g}")
        about = group if f"{tasks:,}" in group else f"{group}, {tasks:,}"
        axis.set_title(f"{about[:1].upper()}{about[1:]}. 1 is {base}", fontsize=9, loc="left", fontweight="bold", x=-0.3)
    figure.suptitle("cptbpf (blue) beside others (grey), each as a ratio to its group's base; red: the goal", fontsize=10)
    return figure


def _lines(pyplot: Any, title: str, ways: dict[str, Points], unit: tuple[str, float]) -> Any:
    """Cost, and cost of one task, against the number of tasks, both on log axes."""
    figure, (whole, each) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    label, factor = unit
    scaled: tuple[tuple[Any, str, Callable[[int, float], float]], ...] = (
        (whole, label, lambda tasks, seconds: seconds * factor),
        (each, "µs a task", lambda tasks, seconds: seconds / tasks * 1e6),
    )
    for axis, text, value in scaled:
        for name, points in ways.items():
            style = "--" if name.startswith(_PEERS) else "-"
            axis.plot([n for n, _ in points], [value(n, s) for n, s in points], style, marker="o", markersize=4, label=name)
        axis.set_xscale("log")
        axis.set_yscale("log")
        for edge in (axis.xaxis, axis.yaxis):
            edge.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axis.set_xlabel("tasks")
        axis.set_ylabel(text)
        axis.grid(True, which="major", linewidth=0.4, alpha=0.6)
    ends = [points[-1] for points in ways.values()]
    most, least = ends[0][0], min(points[0][0] for points in ways.values())
    slope = [(n, max(s for _, s in ends) * factor * n / most) for n in (least, most)]
    whole.plot(*zip(*slope, strict=True), ":", color="grey", linewidth=1, label="linear")
    figure.suptitle(title, fontsize=11)
    figure.legend(*whole.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    return figure
