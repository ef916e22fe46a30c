"""The declarations, what is generated from them, and the C structs of the patch are one layout."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from cptbpf import fields
from cptbpf.image import layout, records, tables
from cptbpf.image.model import Image, TaskRecord, X86_64Regs, X86Regs
from cptbpf.image.reader import parse
from cptbpf.image.writer import encode_image, write_image
from tests.image.strategies import small_image

ROOT = Path(__file__).parents[2]
PATCH_RECORDS = {
    "cpt_task_image": records.CPT_TASK_IMAGE,
    "cpt_obj_bits": records.CPT_OBJ_BITS,
    "cpt_x86_regs": records.CPT_X86_REGS,
}


def test_layout_is_current() -> None:
    assert (ROOT / "cptbpf/image/layout.py").read_text() == records.render_layout()


def test_the_format_page_is_current() -> None:
    assert (ROOT / "docs/format.md").read_text() == tables.render_format_page()
    assert {
        line.split()[2] for line in (ROOT / "docs/format.md").read_text().splitlines() if line.startswith("<!-- table ")
    } == set(tables.tables())


@pytest.fixture(scope="module")
def creader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader made of the patch's own structs."""
    program = tmp_path_factory.mktemp("creader") / "creader"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", program, Path(__file__).with_name("creader.c")], check=True)
    return program


def output(*command: Any) -> list[list[str]]:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_offsets_of_the_patch(creader: Path) -> None:
    lines = output(creader)
    ours = []
    for name, record in PATCH_RECORDS.items():
        ours.append([name, "-", "0", str(record.sizeof())])
        ours += [[name, field, str(offset), str(size)] for offset, size, field, _ in records.members(record)]
    theirs = [line for line in lines if line[1] in {field for _, field, _, _ in ours}]
    assert theirs == lines
    # what the compiler adds at the end of a struct is a pad of ours
    assert [line for line in ours if line not in lines] == [["cpt_x86_regs", "__cpt_pad1", "116", "4"]]
    assert len(lines) == len(ours) - 1


# Some of FORMAT's offsets, independent of any declaration.
@pytest.mark.parametrize(
    ("record", "field", "offset"),
    [
        ("TASK", "cpt_state", 16),
        ("TASK", "cpt_pid", 48),
        ("TASK", "cpt_set_tid", 80),
        ("TASK", "cpt_exit_code", 96),
        ("TASK", "cpt_comm", 144),
        ("TASK", "cpt_tls", 160),
        ("TASK", "cpt_utime", 184),
        ("TASK", "cpt_maj_flt", 280),
        ("X86_REGS", "cpt_gs", 48),
        ("X86_REGS", "cpt_ds", 80),
        ("X86_REGS", "cpt_ss", 112),
        ("X86_64_REGS", "cpt_fsbase", 80),
        ("X86_64_REGS", "cpt_gsbase", 88),
        ("X86_64_REGS", "cpt_fsindex", 96),
        ("X86_64_REGS", "cpt_r15", 112),
        ("X86_64_REGS", "cpt_orig_rax", 232),
        ("X86_64_REGS", "cpt_rip", 240),
        ("X86_64_REGS", "cpt_cs", 248),
        ("X86_64_REGS", "cpt_eflags", 256),
        ("X86_64_REGS", "cpt_rsp", 264),
        ("X86_64_REGS", "cpt_ss", 272),
        ("HEAD", "cpt_hdrlen", 4),
        ("HEAD", "cpt_image_major", 8),
        ("HEAD", "cpt_arch", 16),
        ("HEAD", "cpt_time", 24),
    ],
)
def test_offsets(record: str, field: str, offset: int) -> None:
    assert {name: at for at, _, name, _ in records.members(records.RECORDS[record])}[field] == offset


@pytest.mark.parametrize(
    ("record", "size"), [("HEAD", 32), ("OBJECT_HDR", 16), ("TASK", 288), ("BITS", 24), ("X86_REGS", 120), ("X86_64_REGS", 280)]
)
def test_sizes(record: str, size: int) -> None:
    assert getattr(layout, record).size == size == records.RECORDS[record].sizeof()


def test_names_are_those_of_the_catalogue_and_the_model() -> None:
    assert layout.TASK_FIELDS == TaskRecord._fields == tuple(field.name for field in fields.group("task"))
    assert X86Regs._fields == layout.X86_REGS_FIELDS
    assert X86_64Regs._fields == layout.X86_64_REGS_FIELDS
    assert set(layout.GROUPS) == set(fields.GROUPS) - {"task"}
    for name, group in layout.GROUPS.items():
        assert group.fields == tuple(field.name for field in fields.group(name))
        assert records.GROUP_RECORDS[name].sizeof() == group.ends[-1]


def test_the_task_record_has_the_types_of_the_catalogue() -> None:
    sizes = {name.removeprefix("cpt_"): size for _, size, name, _ in records.own_members(records.CPT_TASK_IMAGE)}
    by_type = {"u32": 4, "u64": 8, "char[16]": 16, "u64[3]": 24}
    assert sizes == {field.name: by_type[field.ctype] for field in fields.group("task")}


def test_type_numbers_differ() -> None:
    assert len(set(records.OBJECT_TYPES.values())) == len(records.OBJECT_TYPES)


def test_construct_parses_what_the_writer_wrote() -> None:
    data = encode_image(small_image(1))
    head = records.CPT_HEAD.parse(data)
    assert (head.cpt_signature, head.cpt_hdrlen, head.cpt_arch) == (b"\x79\x1c\x01\x63", 32, 1)
    meta = records.CPT_META.parse(data[32:])
    task = records.CPT_TASK_IMAGE.parse(data[32 + meta.cpt_len :])
    assert str(task.cpt_type) == "CPT_OBJ_TASK"
    image = parse(data)
    assert [task[f"cpt_{name}"] for name in TaskRecord._fields if name != "tls"] == [
        value for name, value in image.tasks[0].task._asdict().items() if name != "tls"
    ]
    assert tuple(task.cpt_tls) == image.tasks[0].task.tls


def expected(image: Image) -> list[tuple[str, dict[str, Any]]]:
    """What the C reader has to print for an image: struct names and the fields that have a value of their own."""
    shown: list[tuple[str, dict[str, Any]]] = []
    for task in image.tasks:
        shown.append(("cpt_task_image", {"len": 288, "hdrlen": 288, "type": 0, "content": 1, **task.task._asdict()}))
        if task.fxsave is not None:
            sizes = {"len": 24 + 512, "hdrlen": 24, "type": 1026, "content": 5, "size": 512, "pad1": 0}
            shown.append(("cpt_obj_bits", {**sizes, "payload": bytes(task.fxsave)}))
        if task.xsave is not None:
            size = len(task.xsave)
            shown.append(
                (
                    "cpt_obj_bits",
                    {"len": 24 + size + -size % 8, "hdrlen": 24, "type": 1026, "content": 11, "size": size, "pad1": 0},
                )
            )
        if isinstance(task.regs, X86Regs):
            shown.append(("cpt_x86_regs", {"len": 120, "hdrlen": 120, "type": 1025, "content": 0, **task.regs._asdict()}))
    return shown


def test_the_c_reader_reads_an_image(creader: Path, tmp_path: Path) -> None:
    image = small_image()
    path = tmp_path / "x.cpt"
    write_image(image, path)
    seen: list[tuple[str, dict[str, Any]]] = []
    at = None
    for offset, struct, field, *words in output(creader, path):
        if offset != at:
            seen.append((struct, {}))
            at = offset
        name = field.removeprefix("__").removeprefix("cpt_")
        is_bytes = name in ("comm", "payload")
        values = tuple(int(word, 16) for word in words)
        seen[-1][1][name] = bytes(values) if is_bytes else values if name in ("tls", "debugreg") else values[0]
    assert seen == expected(image)
