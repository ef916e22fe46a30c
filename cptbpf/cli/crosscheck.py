"""``cptbpf crosscheck``: the kernel's value of each field against independent witnesses."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit_json, emit_styled
from cptbpf.cli.quantities import duration

if TYPE_CHECKING:
    from cptbpf.conductors.crosscheck import Report, Result, Stray

# What is printed of one task, and of all; --json has everything.
_LISTED = 20
_ROWS = 100
_TITLES = ("PID", "HOST PID", "COMM", "CHECKED", "AGREE", "EXPLAINED", "DISAGREE", "WITNESSES")

_EPILOG = """\b
Examples:
  cptbpf crosscheck --pidns pid:[4026532198]         every task of a namespace, stopped for 0.15 ms a task
  cptbpf crosscheck --pid 4711 --no-freeze           process 4711 and all below it, without stopping anybody
  cptbpf crosscheck web.cpt                          an image against itself
  cptbpf crosscheck --pidns 4711 --watch 1m          who changes credentials, and whether they are what the task then has
  cptbpf crosscheck --pidns 4711 --json | jq '.results[] | select(.verdict == "disagree")'

Exit status 1: a value disagrees with a witness, or a task is hidden from /proc or shown by it alone."""


@click.command(epilog=_EPILOG)
@options.target_or_image
@click.option("--no-freeze", is_flag=True, help="Stop nobody: what moves is bracketed and looked at again; no registers.")
@click.option("--watch", metavar="TIME", type=duration, help="Report each change of credentials for so long instead: 10s, 5m.")
@options.json
@click.pass_context
def command(
    ctx: click.Context,
    file: str | None,
    pidns: str | None,
    pid: int | None,
    no_freeze: bool,
    watch: float | None,
    as_json: bool,
) -> int:
    """Set what BPF reads in the kernel against what /proc and ptrace show, field by field.

    Each comparison agrees, is explained (by a rule of docs/rules.md: ticks, id mappings, …), or disagrees. Name one target: a
    pid namespace, a process, or an image FILE, which is checked against itself.
    """
    if file is not None and no_freeze:
        raise click.UsageError("--no-freeze is for a live target, not for an image", ctx)
    if watch is not None:
        if file is not None or no_freeze:
            raise click.UsageError("--watch is for a live target, and stops nobody", ctx)
        from cptbpf.cli.credentials import run

        return run(pidns, pid, watch, as_json)
    from cptbpf.conductors.crosscheck import crosscheck

    source = None if file is None else options.source(file)
    report = crosscheck(pidns=pidns, pid=pid, file=source, freeze=not no_freeze)
    if as_json:
        emit_json(_shown(report))
    else:
        emit_styled(_lines(report))
    return 1 if report.finding else 0


def _shown(report: "Report") -> dict[str, Any]:
    """The report as JSON; its keys are a contract."""
    return {
        "results": [result._asdict() for result in report.results],
        "tasks": {"hidden": list(map(_stray, report.hidden)), "phantom": list(map(_stray, report.phantom))},
        "summary": {**report.summary._asdict(), "not_stopped": [omission._asdict() for omission in report.not_stopped]},
    }


def _stray(stray: "Stray") -> dict[str, Any]:
    return {
        **stray._asdict(),
        "comm": stray.comm.decode("utf-8", "surrogateescape"),
        "start_boottime": str(stray.start_boottime),
    }


def _lines(report: "Report") -> "Iterator[tuple[str, str]]":
    """The report for a person, and how each line looks: what was found first, what is explained folded."""
    from cptbpf.cli.text import columns, escape

    for line in _findings(report):
        yield line, "bold red"
    for place in report.summary.covered:
        yield f"mounted over: {escape(place)}: whoever reads it is not shown what the kernel says", "bold yellow"
    rows = _rows(report)
    shown = rows[:_ROWS]
    heading, *lines = columns([_TITLES, *shown], right=(0, 1, 3, 4, 5, 6))
    yield heading, "bold"
    for row, line in zip(shown, lines, strict=True):
        yield line, "red" if row[6] != "0" else ""
    for omission in report.not_stopped[:_LISTED]:
        yield f"not stopped: pid {omission.pid} (here {omission.host_pid}): {escape(omission.why, quote=False)}", ""
    if len(rows) > _ROWS:
        yield f"and {len(rows) - _ROWS} more tasks", ""
    for line in _explained(report):
        yield line, "dim"
    yield _summary(report), "bold red" if report.finding else "bold"


def _findings(report: "Report") -> Iterable[str]:
    from cptbpf.cli.text import escape

    for title, strays in (("hidden from /proc", report.hidden), ("in /proc alone", report.phantom)):
        for stray in strays:
            who = f"pid {stray.pid} (here {stray.host_pid})" if stray.pid else f"host pid {stray.host_pid}"
            why = f": {stray.why}" if stray.why else ""
            yield f"{title}: {who} {escape(stray.comm)}{escape(why, quote=False)}"
    for pid, results in _by_task(result for result in report.results if result.verdict == "disagree").items():
        for result in results[:_LISTED]:
            kernel, other = escape(str(result.kernel)), escape(str(result.other))
            values = f"kernel {kernel}, {result.witness} {other}"
            yield f"disagree: pid {pid} (here {result.host_pid}) {result.field}: {values} ({result.rule})"
        if len(results) > _LISTED:
            yield f"disagree: pid {pid}: and {len(results) - _LISTED} more"


def _by_task(results: "Iterable[Result]") -> "dict[int, list[Result]]":
    tasks: dict[int, list[Result]] = {}
    for result in results:
        tasks.setdefault(result.pid, []).append(result)
    return tasks


def _rows(report: "Report") -> list[tuple[str, ...]]:
    """One row a task: those that disagree first."""
    from cptbpf.cli.text import escape

    rows = []
    for pid, results in _by_task(report.results).items():
        verdicts = [result.verdict for result in results]
        counts = [verdicts.count(verdict) for verdict in ("agree", "explained", "disagree")]
        witnesses = ", ".join(sorted({result.witness for result in results}))
        numbers = [str(number) for number in (len(results), *counts)]
        name = escape(report.names.get(pid, b""))
        rows.append((not counts[2], pid, (str(pid), str(results[0].host_pid), name, *numbers, witnesses)))
    return [cells for _, _, cells in sorted(rows)]


def _explained(report: "Report") -> Iterable[str]:
    """One line for each rule that explained something, with the fields that it did so for."""
    from cptbpf.cli.text import plural

    rules: dict[str, list[Result]] = {}
    for result in report.results:
        if result.verdict == "explained":
            rules.setdefault(result.rule, []).append(result)
    for rule, results in rules.items():
        fields = ", ".join(dict.fromkeys(result.field for result in results))
        yield f"explained by {rule}: {plural(len(results), 'value')} of {fields}"


def _summary(report: "Report") -> str:
    from cptbpf.cli.text import plural

    summary = report.summary
    parts = [f"{plural(summary.tasks, 'task')}, {plural(summary.compared, 'comparison')}"]
    parts += [f"{summary.agree} agree, {summary.explained} explained, {summary.disagree} disagree"]
    if summary.undecided:
        parts.append(f"{summary.undecided} undecided, as they kept moving")
    if summary.ended:
        parts.append(f"{plural(summary.ended, 'task')} ended or could not be seen meanwhile")
    if report.hidden or report.phantom:
        parts.append(f"{len(report.hidden)} hidden, {len(report.phantom)} phantom")
    if summary.method == "frozen":
        parts.append(f"frozen {summary.frozen_ms:.1f} ms")
    if summary.after_thaw:
        parts.append(f"{plural(summary.after_thaw, 'task')} compared after the thaw, without registers: the time was up")
    if summary.hook:
        parts.append(f"what runs is bracketed by {summary.hook}")
    return "; ".join((*parts, f"{summary.wall_ms:.0f} ms in all"))
