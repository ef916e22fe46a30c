"""``cptbpf snapshot``: one image of a pid namespace, or of a process tree."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO, TextIO

import click

from cptbpf.cli import options
from cptbpf.cli.output import binary_stdout, dumps

if TYPE_CHECKING:
    from cptbpf.conductors.assemble import Omission
    from cptbpf.conductors.snapshot import Summary

_LISTED = 10  # tasks or differences that the summary names; --json and the image have them all

_TIMEOUT_MAX = 3600

_EPILOG = """\b
Examples:
  cptbpf snapshot --pidns pid:[4026532198]           as 'cptbpf list' shows it
  cptbpf snapshot --pidns 4711 -o web.cpt            the namespace that process 4711 is in
  cptbpf snapshot --pid 4711 --no-freeze             process 4711 and all below it, without stopping anybody
  cptbpf snapshot --pidns 4711 -o - | ssh host 'cat > web.cpt'

Exit status 1 with the image written: some tasks could not be stopped (partial), or something moved while they were."""


@click.command(epilog=_EPILOG)
@options.target
@click.option(
    "-o", "--output", metavar="FILE", help="Write to FILE, or - for standard output. Default: ./cptbpf-INODE-TIME.cpt"
)
@click.option("--no-freeze", is_flag=True, help="Stop nobody: tasks on a cpu then have no registers.")
@click.option(
    "--registers",
    type=click.Choice(["ptrace", "bpf"]),
    default="ptrace",
    show_default=True,
    help="Who reads the registers of stopped tasks; bpf is quicker.",
)
@click.option(
    "--timeout",
    metavar="S",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds to wait, at most, for tasks to stop.",
)
@options.force
@options.json
@click.pass_context
def command(
    ctx: click.Context,
    pidns: str | None,
    pid: int | None,
    output: str | None,
    no_freeze: bool,
    registers: str,
    timeout: float,
    force: bool,
    as_json: bool,
) -> int:
    """Take an image of every task of a pid namespace, or of a process tree.

    All tasks are stopped for some milliseconds, read, and let go at once; what comes out is one consistent state. Name the
    target by exactly one of --pidns and --pid.
    """
    if not 0 <= timeout <= _TIMEOUT_MAX:
        raise click.UsageError(f"--timeout is 0 to {_TIMEOUT_MAX} seconds, not {timeout}", ctx)
    target: str | BinaryIO | None = binary_stdout() if output == "-" else output
    from cptbpf.conductors.snapshot import snapshot

    progress = _progress()
    try:
        summary = snapshot(
            pidns=pidns,
            pid=pid,
            output=target,
            freeze=not no_freeze,
            registers=registers,
            timeout=timeout,
            force=force,
            progress=progress,
        )
    finally:
        if progress is not None:
            progress.close()
    stream = sys.stderr if output == "-" else sys.stdout
    if stream is not None:
        _print(stream, [dumps(_shown(summary))] if as_json else _lines(summary))
    return 1 if summary.partial or summary.consistent is False else 0


def _progress() -> "Bar | None":
    """A bar where somebody may look at it."""
    return Bar() if sys.stderr is not None and sys.stderr.isatty() else None


class Bar:
    """A progress bar on standard error, drawn by rich, which is imported only for a target that takes a while."""

    _FEW = 2000  # tasks that are written before a bar could be seen

    def __init__(self) -> None:
        self._draw: Callable[[int], None] | None = None
        self._end: Callable[[], None] | None = None

    def __call__(self, count: int, total: int) -> None:
        if self._draw is None:
            if total < self._FEW:
                return
            self._start(total)
        if self._draw is not None:
            self._draw(count)

    def close(self) -> None:
        """Takes the bar away."""
        if self._end is not None:
            self._end()

    def _start(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        task = bar.add_task(f"write {total} tasks", total=total)
        bar.start()
        self._draw = lambda count: bar.update(task, completed=count)
        self._end = bar.stop


def _print(stream: TextIO, lines: Iterable[str]) -> None:
    for line in lines:
        stream.write(line + "\n")


def _shown(summary: "Summary") -> dict[str, object]:
    """The summary as JSON; its keys are a contract."""
    return {
        "file": summary.file,
        "tasks": summary.tasks,
        "frozen_ms": summary.frozen_ms,
        "wall_ms": summary.wall_ms,
        "consistent": summary.consistent,
        "partial": [omission._asdict() for omission in summary.partial],
        "no_registers": [omission._asdict() for omission in summary.no_registers],
    }


def _lines(summary: "Summary") -> Iterable[str]:
    from cptbpf.cli.text import escape, plural, size

    name = "standard output" if summary.file == "-" else escape(summary.file, quote=False)
    frozen = "nobody was stopped" if summary.consistent is None else f"frozen {summary.frozen_ms:.1f} ms"
    yield f"{name}: {plural(summary.tasks, 'task')}, {size(summary.size)}, {frozen}, {summary.wall_ms:.0f} ms in all"
    if summary.consistent is False:
        yield f"not consistent: {plural(len(summary.moved), 'value')} moved while the tasks were stopped"
        yield from _some([f"  pid {e.pid}: {escape(e.field)} {escape(e.before)} -> {escape(e.after)}" for e in summary.moved])
    elif summary.consistent:
        yield (
            "consistent: nothing moved while the tasks were stopped" if summary.frozen_ms else "nobody was there to be stopped"
        )
    if summary.partial:
        yield f"partial: {plural(len(summary.partial), 'task')} could not be stopped"
        yield from _some(_omissions(summary.partial))
    if summary.no_registers:
        yield f"no user registers: {plural(len(summary.no_registers), 'task')}"
        yield from _some(_omissions(summary.no_registers))


def _omissions(omissions: "Sequence[Omission]") -> list[str]:
    return [f"  pid {omission.pid} (here {omission.host_pid}): {omission.why}" for omission in omissions]


def _some(lines: list[str]) -> list[str]:
    rest = len(lines) - _LISTED
    return lines if rest <= 1 else [*lines[:_LISTED], f"  and {rest} more"]
