"""``cptbpf fields``: the catalogue."""

from collections.abc import Iterable

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit, emit_json
from cptbpf.fields import FIELDS, GROUPS, RULES, Field, group

_EPILOG = """\b
Examples:
  cptbpf fields | grep capab
  cptbpf fields --json | jq -r '.[] | select(.group == "cred").name'"""


@click.command(epilog=_EPILOG)
@options.json
def command(as_json: bool) -> None:
    """List every field that an image has of a task: its name, type, unit, meaning, and where the kernel keeps it.

    The names are those of JSON, of 'show --fields' and of the library. Who else shows a field, and how far the two can
    be compared, stands in the JSON.
    """
    if as_json:
        emit_json([_shown(field) for field in FIELDS])
    else:
        emit(_lines())


def _shown(field: Field) -> dict[str, object]:
    return {
        "name": field.name,
        "group": field.group,
        "type": field.ctype,
        "unit": field.unit,
        "doc": field.doc,
        "source": field.source,
        "witnesses": list(field.witnesses),
        "rule": field.rule,
        "hex": field.hex,
    }


def _lines() -> Iterable[str]:
    from cptbpf.cli.text import columns

    rows = [(field.name, field.ctype, field.unit, field.doc, field.source) for field in FIELDS]
    lines = iter(columns([("NAME", "TYPE", "UNIT", "MEANING", "KERNEL SOURCE"), *rows]))
    yield next(lines)
    for name, title in GROUPS.items():
        yield f"\n{name}: {title}"
        for _ in group(name):
            yield next(lines)


def render() -> str:
    """The text of ``docs/fields.md``."""
    lines = [
        "# The fields of a task",
        "",
        "Made from `cptbpf/fields.py` by `tools/generate`. A field has the same name in JSON, in `show --fields` and in the",
        "library; in the image those of `struct cpt_task_image` have the prefix `cpt_`. Witnesses are those of",
        "/proc/PID/task/TID (`stat N`, `status KEY`, …) and of ptrace(2); the rule says how far they agree with the kernel.",
    ]
    for name, title in GROUPS.items():
        lines += ["", f"## {name}: {title}", "", "| field | type | unit | meaning | kernel source | witnesses | rule |"]
        lines.append("|---|---|---|---|---|---|---|")
        for field in group(name):
            cells = (field.ctype, field.unit, field.doc, f"`{field.source}`", ", ".join(field.witnesses), field.rule)
            lines.append("| " + " | ".join((f"`{field.name}`", *(cell.replace("|", "\\|") for cell in cells))) + " |")
    lines += ["", "## Rules", "", "| rule | meaning |", "|---|---|"]
    lines += [f"| {name or '(none)'} | {meaning} |" for name, meaning in RULES.items()]
    return "\n".join(lines) + "\n"
