"""``cptbpf export``: a recording in the formats of other tools."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cptbpf.cli import options
from cptbpf.cli.output import telling_where, text_stdout

if TYPE_CHECKING:
    from cptbpf.image.output import Output
    from cptbpf.image.recording import Recording

_EPILOG = """\b
Examples:
  cptbpf export web.cpt --format jsonl | jq -c 'select(.event == "exit") | [.comm, .exit_code]'
  cptbpf export web.cpt --format csv --fields utime,stime -o web.csv
  cptbpf export web.cpt --format perfetto -o web.json      and open it at https://ui.perfetto.dev
  cptbpf export web.cpt --format parquet -o web.parquet    needs pyarrow

A recording that was cut short, as by a crash, is exported as far as it goes, with a note. Exit status 4: it is damaged."""


@click.command(epilog=_EPILOG)
@options.image
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "parquet", "perfetto"]),
    required=True,
    help="JSON Lines or CSV as sample writes them, a Parquet table, or a trace for ui.perfetto.dev (Chrome JSON).",
)
@options.output
@click.option("--fields", metavar="A,B", help="Of jsonl and csv: only these fields beside who and when; all is every one.")
@options.force
@click.pass_context
def command(ctx: click.Context, file: str, form: str, output: str, fields: str | None, force: bool) -> int:
    """Write the recording FILE in another format.

    It needs no privilege and no BPF; FILE may be - for standard input.
    """
    if fields is not None and form not in ("jsonl", "csv"):
        raise click.UsageError("--fields is of jsonl and csv: the others have all", ctx)
    if form == "parquet" and output == "-":
        raise click.UsageError("a Parquet table needs a file: -o FILE", ctx)
    from cptbpf.cli.recordings import ended
    from cptbpf.image.output import opened
    from cptbpf.image.recording import Recording

    with Recording(options.source(file)) as recording:
        if output == "-":
            stream = text_stdout().buffer
            for piece in _pieces(recording, form, fields):
                with telling_where():
                    stream.write(piece.encode("utf-8", "surrogateescape"))
            with telling_where():
                stream.flush()
            return ended(recording.ending, file)
        with opened(output, force) as target:
            if form == "parquet":
                _parquet(recording, target)
            else:
                for block in _blocks(_pieces(recording, form, fields)):
                    target.write(block)
            target.commit()
        return ended(recording.ending, file)


def _pieces(recording: "Recording", form: str, fields: str | None) -> Iterator[str]:
    if form == "perfetto":
        from cptbpf.cli.text import comm
        from cptbpf.export.perfetto import trace

        yield from trace(recording.meta, recording.events(), comm)
        return
    from cptbpf.cli import lines
    from cptbpf.conductors.record import replayed

    names = None if fields is None else lines.check(fields)
    writer = lines.Csv(names) if form == "csv" else lines.JsonLines(names)
    yield writer.header()
    yield from map(writer.line, replayed(recording))


def _blocks(pieces: Iterator[str]) -> Iterator[bytes]:
    """The same in fewer writes."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece.encode("utf-8", "surrogateescape"))
        size += len(held[-1])
        if size > 1 << 18:
            yield b"".join(held)
            held.clear()
            size = 0
    yield b"".join(held)


def _parquet(recording: "Recording", target: "Output") -> None:
    from cptbpf.cli.text import comm
    from cptbpf.export.parquet import write

    write(target, recording.meta.realtime - recording.meta.monotonic, recording.events(), comm)
