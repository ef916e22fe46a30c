"""The results for people: on a terminal, or as Markdown."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tools.benchmarks.measure import Row, met

_HEADINGS = ("way", "tasks", "time", "a task", "ratio", "goal", "", "bytes", "note")
_MARKS = {True: "met", False: "missed", None: ""}


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        f"{row.tasks:,}" if row.tasks else "",
        _time(row.seconds),
        _time(row.seconds / row.tasks) if row.tasks > 1 else "",
        _number(row.ratio) if row.ratio is not None else "",
        row.goal,
        _MARKS[met(row)],
        f"{row.size:,}" if row.size else "",
        row.note,
    )


def _time(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{_number(seconds * 1e3)} ms" if seconds >= 1e-3 else f"{_number(seconds * 1e6)} µs"


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def _columns(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells without the columns that nobody fills."""
    cells = [_cells(row) for row in rows]
    used = [index for index in range(len(_HEADINGS)) if any(line[index] for line in cells)]
    return [_HEADINGS[index] for index in used], [[line[index] for index in used] for line in cells]


def terminal(console: Console, rows: Iterable[Row]) -> None:
    """A table for each group."""
    for group, members in _groups(rows).items():
        headings, lines = _columns(members)
        table = Table(title=group, title_justify="left")
        for heading in headings:
            words = heading in ("way", "note", "goal", "")
            table.add_column(heading, justify="left" if words else "right", no_wrap=heading != "note" and heading != "way")
        for line in lines:
            table.add_row(*line)
        console.print(table)


def markdown(rows: Iterable[Row]) -> str:
    """The same for a page."""
    parts = []
    for group, members in _groups(rows).items():
        headings, lines = _columns(members)
        table = [headings, ["---" if heading in ("way", "note", "goal", "") else "--:" for heading in headings], *lines]
        parts.append("\n".join([f"### {group[:1].upper()}{group[1:]}", "", *(f"| {' | '.join(line)} |" for line in table)]))
    return "\n\n".join(parts) + "\n"
