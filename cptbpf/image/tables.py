"""Byte tables of the records, for the page that documents the format."""

from pathlib import Path

from construct import Struct

from cptbpf import fields
from cptbpf.image import records

_PAGE = Path(__file__).parents[2] / "docs" / "format.md"
_TYPES = {
    "H": "u16",
    "L": "u32",
    "l": "s32",
    "Q": "u64",
    "8L": "u32[8]",
    "3Q": "u64[3]",
    "8Q": "u64[8]",
    "2x": "u16",
    "4x": "u32",
}
_PLAIN = (
    *("HEAD", "BITS", "X86_REGS", "X86_64_REGS", "META", "XSTATE_COMPONENT", "TRAILER", "PID_LEVEL", "EXE", "REF"),
    *("SAMPLE", "DELTA", "EVENT", "CHECK"),
)


def _type(code: str) -> str:
    return _TYPES.get(code) or f"u8[{code.removesuffix('s')}]"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain_table(record: Struct) -> list[str]:
    rows = [_row([str(at), _type(code), f"`{name}`"]) for at, _, name, code in records.members(record)]
    return ["| offset | type | field |", "|---|---|---|", *rows]


def _catalogue_table(record: Struct) -> list[str]:
    """A record whose fields the catalogue explains."""
    lines = ["| offset | type | field | unit | meaning | kernel source |", "|---|---|---|---|---|---|"]
    for at, _, name, code in records.members(record):
        field = fields.BY_NAME.get(name.removeprefix("cpt_"))
        if at < 16:
            continue
        rest = ["", "zero", ""] if field is None else [field.unit, field.doc, f"`{field.source}`"]
        lines.append(_row([str(at), _type(code), f"`{name}`", *rest]))
    return lines


def tables() -> dict[str, list[str]]:
    """The lines of each table, by the name that the page's markers give it."""
    made = {name: _plain_table(records.RECORDS[name]) for name in _PLAIN}
    made["TASK"] = _catalogue_table(records.CPT_TASK_IMAGE)
    for name, record in records.GROUP_RECORDS.items():
        made[name] = _catalogue_table(record)
    made["types"] = ["| cpt_type | value |", "|---|---|"] + [
        _row([f"`{name}`", str(number) if number < 0x2000 else f"{number:#06x}"])
        for name, number in records.OBJECT_TYPES.items()
    ]
    made["contents"] = ["| cpt_content | value |", "|---|---|"] + [
        _row([f"`{name}`", str(number)]) for name, number in records.CONTENT_TYPES.items()
    ]
    return made


def render_format_page() -> str:
    """The text of ``docs/format.md`` with every table between its markers made anew."""
    made = tables()
    lines: list[str] = []
    inside = False
    for line in _PAGE.read_text().splitlines():
        if line == "<!-- end of table -->":
            inside = False
        if not inside:
            lines.append(line)
        if line.startswith("<!-- table "):
            inside = True
            lines += ["", *made[line.split()[2]], ""]
    return "\n".join(lines) + "\n"
