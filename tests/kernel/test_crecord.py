"""Python's view of what crosses the boundary, against what a C compiler makes of the same headers."""

import os
import struct
import subprocess
from pathlib import Path

import pytest

from cptbpf.kernel import crecord, cred_record, record, sample_record, sources, tasks, witness_record

FOLDER = Path(sources.directory())
FIRST = (FOLDER / "task_record.h").read_text()
VIEWS = {
    "task_record.h": (record, crecord.render),
    "sample_record.h": (sample_record, crecord.render_samples),
    "cred_record.h": (cred_record, crecord.render_credentials),
    "witness_record.h": (witness_record, crecord.render_readings),
}
TYPEDEFS = (
    "typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef int s32; "
    "typedef unsigned long long u64;\n"
)

headers = pytest.mark.parametrize("header", VIEWS)


def test_every_header_of_the_boundary_has_a_view() -> None:
    assert {path.name for path in FOLDER.glob("*_record.h")} == VIEWS.keys()


@headers
def test_the_offsets_are_those_of_a_c_compiler(header: str, tmp_path: Path) -> None:
    text = (FOLDER / header).read_text()
    structs = crecord.parse(text, crecord.parse(FIRST)).structs.values()
    checks = []
    for one in structs:
        checks.append(f'_Static_assert(sizeof(struct {one.name}) == {one.size}, "{one.name}");')
        checks += [
            f'_Static_assert(__builtin_offsetof(struct {one.name}, {name}) == {offset}, "{one.name}.{name}");'
            for name, _, _, offset in one.members
        ]
    if header == "task_record.h":
        checks += [
            f'_Static_assert(__builtin_offsetof(struct task_record, {name}) == {offset}, "{name}");'
            for name, (_, offset) in record.TASK_COLUMNS.items()
        ]
        assert len(checks) > 150
    (tmp_path / "check.c").write_text(TYPEDEFS + FIRST + text + "\n".join(checks) + "\n")  # a header is read once
    command = ["gcc", "-c", "-Werror", "-Wpadded", "-o", os.devnull, str(tmp_path / "check.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


@headers
def test_formats_are_as_long_as_the_structs(header: str) -> None:
    structs = crecord.parse((FOLDER / header).read_text(), crecord.parse(FIRST)).structs
    formats = {name: value for name, value in vars(VIEWS[header][0]).items() if isinstance(value, struct.Struct)}
    assert formats
    assert {name: value.size for name, value in formats.items()} == {name: structs[name.lower()].size for name in formats}


@headers
def test_the_generated_view_is_of_this_header(header: str) -> None:
    module, render = VIEWS[header]
    assert module.__file__
    assert Path(module.__file__).read_text() == render()


def test_lengths_of_what_follows_a_task() -> None:
    """The hot path reads them out of the midst of a struct task_extra."""
    data = bytes(range(200)).ljust(record.TASK_EXTRA.size, b"\0")
    extra = record.task_extra(data, 0)
    assert tasks._TAILS.unpack_from(data) == (extra.levels, extra.groups, extra.stack, extra.xstate)


def test_constants() -> None:
    constants = crecord.parse("#define A 7\n#define B (1 << 5)	/* x */\n#define C_STRING x\n").constants
    assert constants == {"A": 7, "B": 32}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("\tu32 a;\n\tu64 b;\n", "s.b at 4 is not on its natural boundary"),
        ("\tu8 a[3];\n\tu32 b;\n\tu8 c;\n", "s.b at 3 is not on its natural boundary"),
        ("\tu64 a;\n\tu32 b;\n", "struct s is 12 bytes long"),
        ("\tu32 a[N];\n\tu64 b;\n", "s.b at 12 is not"),
        ("\tu64 a;\n\tlong b;\n", "long b"),
        ("\tu64 a;\n\tu32 b : 3;\n", "u32 b : 3"),
        ("\tu64 a;\n\tstruct other b;\n", "struct other is not known here"),
        ("\tu32 a;\n\tstruct t b;\n", "s.b at 4 is not"),
    ],
)
def test_what_would_make_the_two_views_part(members: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crecord.parse(f"#define N 3\nstruct t {{\n\tu64 a;\n}};\nstruct s {{\n{members}}};\n")


def test_comments_and_arrays_are_read_over() -> None:
    text = "#define N 3\nstruct s {\n\tu64 a[N];\t/* long b; */\n\n\t/* several\n\t * lines */\n\tu8 c[8];\n};\n"
    assert crecord.parse(text).structs == {"s": ("s", 32, (("a", "Q", 3, 0), ("c", "B", 8, 24)))}


def test_structs_in_structs() -> None:
    """Of the same header, and of the one before; its constants count as well."""
    before = crecord.parse("#define N 2\nstruct a {\n\tu32 b[N];\n};\n")
    text = "struct c {\n\tstruct a d;\n\tu64 e[N];\n};\nstruct f {\n\tstruct c g[2];\n};\n"
    assert crecord.parse(text, before) == (
        {},
        {"c": ("c", 24, (("d", "8s", 0, 0), ("e", "Q", 2, 8))), "f": ("f", 48, (("g", "24s", 2, 0),))},
    )
