"""``cptbpf decode``: an image as JSON, from which ``encode`` makes the same bytes again."""

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit_text

_EPILOG = """\b
Examples:
  cptbpf decode web.cpt | jq -r '.tasks[] | [.task.pid, .task.comm, .regs.rip] | @tsv'
  cptbpf decode web.cpt -o web.json && cptbpf encode web.json -o same.cpt && cmp web.cpt same.cpt"""


@click.command(epilog=_EPILOG)
@options.image
@options.output
@options.force
def command(file: str, output: str, force: bool) -> None:
    """Write the image FILE as JSON, losslessly.

    Registers, addresses, masks and sec << 32 times are "0x…" strings, other integers numbers. FILE may be - for standard input.
    """
    from cptbpf.cli.document import document
    from cptbpf.image.output import opened
    from cptbpf.image.reader import load

    image = load(options.source(file))
    pieces = document(image, image.tasks)
    if output == "-":
        emit_text(pieces)
        return
    with opened(output, force) as target:
        for piece in pieces:
            target.write(piece.encode("ascii"))
        target.commit()
