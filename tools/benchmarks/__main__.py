"""tools/bench: runs the benchmarks and shows their results."""

import json
import platform
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.table import Table

from tools.benchmarks import commands, files, growth, recordings, sampling, state, window
from tools.benchmarks.measure import Row

_GROUPS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "state": state.run,
    "window": window.run,
    "command": commands.run,
    "growth": growth.run,
    "files": files.run,
    "sampling": sampling.run,
    "recordings": recordings.run,
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--quick", is_flag=True, help="Fewer tasks and rounds: a smoke test, not a measurement.")
@click.option("--only", type=click.Choice(list(_GROUPS)), multiple=True, help="Only this group; may be given again.")
@click.option("--plots", type=click.Path(file_okay=False), help="Write plots as SVG into this folder (needs matplotlib).")
def main(as_json: bool, quick: bool, only: tuple[str, ...], plots: str | None) -> None:
    """Compare cptbpf with its peers on this machine. Ratios are medians over rounds in which all ways took turns."""
    console = Console(stderr=as_json)
    found: list[Row] = []
    for name in only or _GROUPS:
        with console.status(f"measuring: {name}"):
            found += _GROUPS[name](quick)
    if as_json:
        machine = {"kernel": platform.release(), "processor": _processor(), "python": platform.python_version()}
        print(json.dumps({"machine": machine, "rows": [row._asdict() for row in found]}, indent=1))
    else:
        _show(console, found)
    if plots:
        from tools.benchmarks.plots import draw

        draw(found, plots)


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        names = [line.partition(":")[2].strip() for line in stream if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else ""


def _show(console: Console, found: list[Row]) -> None:
    console.print(f"Linux {platform.release()}, {_processor()}, python {platform.python_version()}", highlight=False)
    for group in dict.fromkeys(row.group for row in found):
        table = Table("way", "tasks", "time", "per task", "ratio", "goal", "note", title=group, title_justify="left")
        for row in (row for row in found if row.group == group):
            per = f"{row.seconds / row.tasks * 1e6:.2f} µs" if row.tasks and row.seconds else ""
            ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
            time = f"{row.seconds * 1e3:.2f} ms" if row.seconds else ""
            table.add_row(row.what, f"{row.tasks:,}", time, per, ratio, row.goal, row.note)
        console.print(table)


if __name__ == "__main__":
    main()
