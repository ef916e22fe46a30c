"""Plots of a run: bars of the ratios, and cost against the number of tasks."""

from pathlib import Path

import click

from tools.benchmarks.measure import Row


def draw(found: list[Row], folder: str) -> None:
    """Writes ratios.svg and growth.svg into a folder."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise click.ClickException("plots need matplotlib: .venv/bin/pip install -e '.[bench]'") from None
    mpl.use("svg")
    from matplotlib import pyplot

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    ratios = [row for row in found if row.ratio is not None and row.tasks]
    figure, axes = pyplot.subplots(figsize=(10, 0.35 * len(ratios) + 1))
    axes.barh([f"{row.what}\n{row.group}, {row.tasks:,}" for row in ratios], [row.ratio for row in ratios])
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.tick_params(labelsize=6)
    axes.set_xlabel("ratio to the base of its group")
    figure.tight_layout()
    figure.savefig(place / "ratios.svg")
    figure, axes = pyplot.subplots()
    for what in ("frozen", "wall"):
        points = [(row.tasks, row.seconds * 1e3) for row in found if row.group.startswith("growth") and row.what == what]
        axes.loglog(*zip(*points, strict=True), marker="o", label=what)
    axes.set_xlabel("tasks")
    axes.set_ylabel("ms")
    axes.legend()
    figure.savefig(place / "growth.svg")
