"""``cptbpf sample``: a target's tasks as a stream of events."""

import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, BinaryIO

import click

from cptbpf.cli import options
from cptbpf.cli.output import telling_where, text_stdout
from cptbpf.cli.quantities import duration as duration_type
from cptbpf.cli.quantities import size
from cptbpf.cli.stopping import stopped_by_signals
from cptbpf.errors import TargetError

if TYPE_CHECKING:
    from cptbpf.cli.lines import Csv, JsonLines
    from cptbpf.cli.recorded import Recorded
    from cptbpf.conductors.events import Event
    from cptbpf.conductors.sample import Sampler
    from cptbpf.image.append import AppendOutput
    from cptbpf.image.recording_writer import Rotation
    from cptbpf.metrics import Metrics

_RING = (4096, 1 << 30)
_INTERVAL_MAX = 3600

_EPILOG = """\b
Examples:
  cptbpf sample --pidns 4711 --duration 10s                        ten seconds of the namespace that process 4711 is in
  cptbpf sample --pidns 4711 -o web.cpt --rotate 1h                a recording, a file an hour; see replay, export, show --at
  cptbpf sample --pidns 4711 --events exec,exit | jq -c '[.comm, .exit_code]'
  cptbpf sample --pid 4711 --format csv --fields utime,stime -o web.csv
  cptbpf sample --pidns 4711 --events cred                         who changes credentials

Exit status 1: some reports were lost, each gap is a drop event; a larger --buffer may help."""


@click.command(epilog=_EPILOG)
@options.target
@click.option(
    "--interval",
    metavar="TIME",
    type=duration_type,
    default="100ms",
    show_default=True,
    help="How often a task that runs is reported; 0 is at every switch.",
)
@click.option("--duration", metavar="TIME", type=duration_type, help="How long. Default: until the last task ends.")
@options.output
@click.option(
    "--format",
    "form",
    type=click.Choice(["cpt", "jsonl", "csv"]),
    help="A recording, JSON Lines, or comma-separated values. Default: by the name of FILE; jsonl on standard output.",
)
@click.option("--events", metavar="A,B", help="Only these: sample, fork, exec, exit, cred; what was lost is always told.")
@click.option("--fields", metavar="A,B", help="Only these fields beside who and when; all is every one.")
@click.option("--rotate", metavar="SIZE|TIME", help="Begin another recording, FILE-0002 and so on, at a size or after a time.")
@click.option("--prometheus", metavar="ADDR:PORT", help="Answer Prometheus there; :PORT is on loopback alone.")
@click.option("--buffer", metavar="SIZE", type=size, default="4M", show_default=True, help="Size of the ring buffer.")
@options.force
@click.pass_context
def command(
    ctx: click.Context,
    pidns: str | None,
    pid: int | None,
    interval: float,
    duration: float | None,
    output: str,
    form: str | None,
    events: str | None,
    fields: str | None,
    rotate: str | None,
    prometheus: str | None,
    buffer: int,
    force: bool,
) -> int:
    """Follow every task of a pid namespace, or of a process tree, and report its state, birth, execs and end.

    A task is reported while it runs, once per interval; one that sleeps costs nothing. The end of a task carries its final
    counters and exit code, however short it lived. It ends with the last task, after --duration, or with Ctrl-C.
    """
    if interval > _INTERVAL_MAX:
        raise click.UsageError(f"--interval is at most {_INTERVAL_MAX} seconds", ctx)
    if not _RING[0] <= buffer <= _RING[1]:
        raise click.UsageError("--buffer is 4K to 1G", ctx)
    form = form or _form(output)
    if form == "cpt" and (events or fields):
        raise click.UsageError("--events and --fields are for jsonl and csv: a recording holds everything", ctx)
    if rotate is not None and (form != "cpt" or output == "-"):
        raise click.UsageError("--rotate is for a recording in a file: -o FILE --format cpt", ctx)
    from cptbpf.cli.recorded import rotation

    sink = _recorded(output, force, rotation(rotate)) if form == "cpt" else _lines(form, fields, _chosen(events), output, force)
    from cptbpf.conductors.sample import Sampler

    with (
        Sampler(pidns=pidns, pid=pid, interval=interval, ring=1 << (buffer - 1).bit_length()) as sampler,
        _metrics(prometheus, sampler) as metrics,
        sink(sampler) as written,  # last: it may take the place of another file
        stopped_by_signals(sampler.stop),
    ):
        return _follow(sampler, duration, [written, *metrics])


def _form(output: str) -> str:
    """The format that a file's name tells."""
    if output == "-" or output.endswith((".jsonl", ".json", ".ndjson")):
        return "jsonl"
    return "csv" if output.endswith(".csv") else "cpt"


def _recorded(output: str, force: bool, rotation: "Rotation") -> "Callable[[Sampler], Recorded]":
    from cptbpf.cli.output import binary_stdout
    from cptbpf.cli.recorded import Recorded

    target: str | BinaryIO = binary_stdout() if output == "-" else output
    return lambda sampler: Recorded(sampler, target, force, rotation)


def _lines(
    form: str, fields: str | None, chosen: frozenset[str], output: str, force: bool
) -> "Callable[[Sampler], AbstractContextManager[_Lines]]":
    from cptbpf.cli import lines

    names = None if fields is None else lines.check(fields)
    writer = lines.Csv(names) if form == "csv" else lines.JsonLines(names)

    @contextmanager
    def opened(sampler: "Sampler") -> "Iterator[_Lines]":
        with _opened(output, force) as place:
            yield _Lines(writer, chosen, place)

    return opened


class _Lines:
    """Events as lines of text."""

    def __init__(self, writer: "JsonLines | Csv", chosen: frozenset[str], place: "_Stdout | AppendOutput") -> None:
        self._writer, self._chosen, self._place = writer, chosen, place
        self._write(writer.header())

    def take(self, events: "Sequence[Event]") -> None:
        self._write("".join([self._writer.line(event) for event in events if event.event in self._chosen]))

    def _write(self, text: str) -> None:
        self._place.write(text.encode("utf-8", "surrogateescape"))


class _Stdout:
    """Standard output for lines that somebody may read along."""

    def __init__(self) -> None:
        stream = text_stdout()
        stream.flush()
        self._stream = stream.buffer

    def write(self, data: bytes) -> None:
        with telling_where("its last line may be cut short"):
            self._stream.write(data)
            self._stream.flush()
        self._check_reader()

    def _check_reader(self) -> None:
        """Raises BrokenPipeError where nobody reads any more, so that a sampler with nothing to tell ends as well."""
        poll = select.poll()
        poll.register(self._stream.fileno(), 0)
        if any(happened & select.POLLERR for _, happened in poll.poll(0)):
            raise BrokenPipeError


@contextmanager
def _opened(output: str, force: bool) -> "Iterator[_Stdout | AppendOutput]":
    """Where lines go: a file holds whole batches of them, and is there to be read along."""
    if output == "-":
        yield _Stdout()
        return
    from cptbpf.image.append import AppendOutput

    file = AppendOutput(output, force)
    try:
        yield file
        file.sync()
    finally:
        file.close()


@contextmanager
def _metrics(where: str | None, sampler: "Sampler") -> "Iterator[list[Metrics]]":
    """What counts events for Prometheus, where it is asked for."""
    if where is None:
        yield []
        return
    from cptbpf.metrics import Metrics, Server

    metrics = Metrics(sampler.target.inode)
    with Server(where, metrics):
        yield [metrics]


def _chosen(events: str | None) -> frozenset[str]:
    from cptbpf.conductors.events import EVENTS

    wanted = frozenset(EVENTS) if events is None else frozenset(part.strip() for part in events.split(",") if part.strip())
    if wrong := sorted(wanted.difference(EVENTS)):
        raise TargetError(f"there is no event '{wrong[0]}'", f"there are {', '.join(EVENTS)}")
    return wanted | {"drop"}


def _follow(sampler: "Sampler", duration: float | None, sinks: "Sequence[_Lines | Recorded | Metrics]") -> int:
    started, used, counts = time.monotonic(), time.process_time(), Counter[str]()
    for batch in sampler.batches(duration):
        for sink in sinks:
            sink.take(batch)
        counts.update(event.event for event in batch)
    _summary(counts, sampler.dropped, time.monotonic() - started, time.process_time() - used)
    return 1 if sampler.dropped else 0


def _summary(counts: "Counter[str]", lost: int, seconds: float, used: float) -> None:
    if sys.stderr is None:
        return
    from cptbpf.cli.text import plural

    nouns = {"sample": "sample", "fork": "fork", "exec": "exec", "exit": "exit", "cred": "change"}
    told = ", ".join(plural(counts[event], noun) for event, noun in nouns.items()) + " of credentials"
    share = used / seconds * 100 if seconds else 0.0
    gaps = f"lost {plural(lost, 'report')}" if lost else "nothing lost"
    sys.stderr.write(f"{told}; {gaps}; {seconds:.1f} s, {share:.1f} % of a cpu\n")
