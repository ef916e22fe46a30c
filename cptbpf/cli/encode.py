"""``cptbpf encode``: JSON back to an image."""

from typing import Any

import click

from cptbpf.cli import options
from cptbpf.cli.output import binary_stdout
from cptbpf.errors import TargetError

_EPILOG = """\b
Examples:
  cptbpf decode web.cpt | jq '.tasks |= map(select(.task.uid == 0))' > root.json    # and .trailer.tasks to match
  cptbpf encode root.json -o root.cpt"""


@click.command(epilog=_EPILOG)
@click.argument("json", metavar="JSON")
@click.option("-o", "--output", metavar="FILE", required=True, help="Write the image to FILE, or - for standard output.")
@options.force
def command(json: str, output: str, force: bool) -> None:
    """Make an image of JSON that decode wrote, perhaps edited since.

    Of an unedited one it is the same image, byte for byte; checksums and digest are made anew. JSON may be - for standard
    input.
    """
    from cptbpf.image.jsonio import from_json
    from cptbpf.image.writer import write_image

    target = binary_stdout() if output == "-" else output
    write_image(from_json(_read(json)), target, force=force)


def _read(path: str) -> Any:
    import json

    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            return json.loads(options.binary_stdin().read())
        with open(path, "rb") as stream:
            return json.load(stream)
    except OSError as error:
        raise TargetError(f"{name}: {error.strerror or error}") from error
    except RecursionError:
        raise TargetError(f"{name}: not the JSON of an image: nested too deeply") from None
    except ValueError as error:
        raise TargetError(f"{name}: not JSON: {error}", "give what 'cptbpf decode' wrote") from error
