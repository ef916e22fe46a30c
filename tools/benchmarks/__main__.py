"""tools/bench: runs the benchmarks and shows their results."""

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator

import click
from rich.console import Console

from cptbpf.errors import CptbpfError
from tools.benchmarks import files, growth, peers, perf_sched, recordings, sampling, show, state, window
from tools.benchmarks.measure import Row, met

_GROUPS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "state": state.run,
    "window": window.run,
    "peers": peers.run,
    "growth": growth.run,
    "files": files.run,
    "sampling": sampling.run,
    "perf": perf_sched.run,
    "recordings": recordings.run,
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option("--quick", is_flag=True, help="Fewer tasks and rounds: a smoke test, not a measurement.")
@click.option("--only", type=click.Choice(list(_GROUPS)), multiple=True, help="Only this group; may be given again.")
@click.option(
    "--plots", type=click.Path(file_okay=False), help="Write plots as PNG and SVG into this folder (needs matplotlib)."
)
def main(as_json: bool, as_markdown: bool, quick: bool, only: tuple[str, ...], plots: str | None) -> None:
    """Compare cptbpf with its peers on this machine, as ratios within one run.

    All ways take turns, and each counts by its best round. Needs root; what a peer needs and has not is skipped and said.
    """
    if plots:
        from tools.benchmarks import plots as drawing

        drawing.require()
    console = Console(stderr=as_json or as_markdown)
    found: list[Row] = []
    began, load = time.monotonic(), os.getloadavg()[0]
    for name in only or _GROUPS:
        with console.status(f"measuring: {name}"):
            rows = list(_GROUPS[name](quick))
        found += rows
        if not (as_json or as_markdown):
            show.terminal(console, rows)
    machine = {
        "kernel": platform.release(),
        "processor": _processor(),
        "python": platform.python_version(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "seconds": round(time.monotonic() - began),
    }
    said = (
        f"Linux {machine['kernel']}, {machine['processor']}, Python {machine['python']}; load {load:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after; {machine['seconds']} s"
    )
    if as_json:
        print(json.dumps({"machine": machine, "rows": [{**row._asdict(), "met": met(row)} for row in found]}, indent=1))
    elif as_markdown:
        print(f"{said}.\n\n{show.markdown(found)}", end="")
    else:
        console.print(said, highlight=False)
    if plots:
        drawing.draw(found, plots)


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        names = [line.partition(":")[2].strip() for line in stream if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else ""


def _end(number: int, frame: object) -> None:
    """As Ctrl-C does: so that what was started ends on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    try:
        main(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("tools/bench: interrupted")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CptbpfError as error:
        sys.exit(f"tools/bench: {error}" + (f"\n{error.remedy}" if error.remedy else ""))
