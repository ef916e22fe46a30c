"""``cptbpf check``: what this kernel and these privileges allow."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit, emit_json

if TYPE_CHECKING:
    from cptbpf.conductors.check import Row

_NOT_POSSIBLE = 3


@click.command()
@options.json
def command(as_json: bool) -> int:
    """Try what snapshot needs, and what makes it better, and say what is missing, why, and what to do.

    Exit status 0 where snapshot can work, else 3. The first run compiles the BPF programs, which takes a second.
    """
    from cptbpf.conductors.check import REQUIRED, rows

    found = list(rows())
    missing = [row.name for row in found if row.need == REQUIRED and not row.ok]
    if as_json:
        emit_json({"rows": [row._asdict() for row in found], "ok": not missing})
    else:
        emit(_lines(found))
        emit(["", f"snapshot cannot work here: {', '.join(missing)}" if missing else "snapshot can work here."])
    return _NOT_POSSIBLE if missing else 0


def _lines(rows: "Iterable[Row]") -> Iterable[str]:
    from cptbpf.cli.text import escape

    need = ""
    for row in rows:
        if row.need != need:
            yield row.need if not need else f"\n{row.need}"
            need = row.need
        yield f"  {'ok' if row.ok else 'no':4}{row.name:20} {escape(row.reason, quote=False)}"
        if row.remedy:
            yield f"      {'':20} -> {escape(row.remedy, quote=False)}"
