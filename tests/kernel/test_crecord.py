"""Python's view of what crosses the boundary, against what a C compiler makes of the same header."""

import os
import subprocess
from pathlib import Path

import pytest

from cptbpf.kernel import crecord, record, sources

HEADER = Path(sources.directory()) / "task_record.h"
TYPEDEFS = (
    "typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef int s32; "
    "typedef unsigned long long u64;\n"
)


def test_the_offsets_are_those_of_a_c_compiler(tmp_path: Path) -> None:
    checks = [
        f'_Static_assert(__builtin_offsetof(struct task_record, {name}) == {offset}, "{name}");'
        for name, (_, offset) in record.TASK_COLUMNS.items()
    ]
    sizes = {
        "task_record": record.TASK_RECORD.size,
        "task_extra": record.TASK_EXTRA.size,
        "pid_level": record.PID_LEVEL.size,
        "reader_request": record.READER_REQUEST.size,
        "reader_identity": record.READER_IDENTITY.size,
    }
    checks += [f'_Static_assert(sizeof(struct {name}) == {size}, "{name}");' for name, size in sizes.items()]
    _, structs = crecord.parse(HEADER.read_text())
    for struct in structs:
        for member in struct.members:
            checks.append(
                f"_Static_assert(__builtin_offsetof(struct {struct.name}, {member.name}) == {member.offset}, "
                f'"{struct.name}.{member.name}");'
            )
    assert len(checks) > 150
    (tmp_path / "check.c").write_text(TYPEDEFS + HEADER.read_text() + "\n".join(checks) + "\n")
    command = ["gcc", "-c", "-Werror", "-Wpadded", "-o", os.devnull, str(tmp_path / "check.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


def test_the_generated_view_is_of_this_header() -> None:
    assert Path(record.__file__).read_text() == crecord.render()


def test_constants() -> None:
    constants, _ = crecord.parse("#define A 7\n#define B (1 << 5)	/* x */\n#define C_STRING x\n")
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
    ],
)
def test_what_would_make_the_two_views_part(members: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crecord.parse(f"#define N 3\nstruct s {{\n{members}}};\n")


def test_comments_and_arrays_are_read_over() -> None:
    text = "#define N 3\nstruct s {\n\tu64 a[N];\t/* long b; */\n\n\t/* several\n\t * lines */\n\tu8 c[8];\n};\n"
    _, (struct,) = crecord.parse(text)
    assert struct == ("s", 32, (("a", "Q", 3, 0), ("c", "B", 8, 24)))
