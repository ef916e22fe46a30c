"""``show``, ``decode``, ``encode`` and ``fields`` on images made by hand."""

import json
import os
import stat
from pathlib import Path

from cptbpf.fields import FIELDS
from cptbpf.image.model import Exe
from tests.cli.command import assert_failed, command
from tests.cli.images import registers, saved, task

HOSTILE = b"\x1b]0;x\x07[red]\xe2\x80\xaeX"


def hostile(path: Path) -> Path:
    one = task(
        1,
        HOSTILE,
        regs=registers(0, rdi=3),
        ext={"cmdline": HOSTILE + b"\0", "exe": Exe(HOSTILE, b"\x01"), "cgroup": HOSTILE, "kstack": ("\x1b[2Jf+0x0",)},
        provenance={"regs": "absent: \x1b[1m", "\x1b[5m": "absent: \x9b"},
    )
    return saved(path, one, strings={"hostname": "\x1b[31mhost", "request": "\u202e", "release": "\n\n"})


def test_hostile_strings_print_harmlessly(tmp_path: Path) -> None:
    file = hostile(tmp_path / "file")
    for arguments in (
        (),
        ("--format", "table"),
        ("--task", "1"),
        ("--fields", "comm,cmdline,exe,cgroup,kstack"),
        ("--format", "json"),
    ):
        done = command("show", file, *arguments)
        assert done.returncode == 0, done.stderr
        assert all(line.isprintable() for line in done.stdout.decode().splitlines()), arguments
        assert b"[red]" in done.stdout
    assert command("decode", file).stdout.isascii()


def test_show_json_is_what_decode_says(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1, b"\xffx", regs=registers(0)), task(2, parent=1))
    shown, decoded = (json.loads(command(*words).stdout) for words in (("show", file, "--format", "json"), ("decode", file)))
    assert shown == decoded
    assert [one["task"]["pid"] for one in shown["tasks"]] == [1, 2]
    assert shown["tasks"][0]["task"]["comm"] == "\udcffx"
    assert shown["tasks"][0]["regs"]["orig_rax"] == "0x0"


def test_fields_in_json_keep_their_places(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1, b"one", regs=registers(0, rip=16), cap_effective=5), task(2, parent=1))
    arguments = ("--format", "json", "--task", "1", "--fields", "comm,cap_effective,rip")
    shown = json.loads(command("show", file, *arguments).stdout)["tasks"]
    assert shown == [{"task": {"pid": 1, "comm": "one"}, "ext": {"cred": {"cap_effective": "0x5"}}, "regs": {"rip": "0x10"}}]


def test_fields_as_columns(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1, b"one", utime=5), task(12, b"two", parent=1, utime=7))
    done = command("show", file, "--fields", "pid,comm,utime,rip")
    assert [line.split() for line in done.stdout.decode().splitlines()] == [
        ["PID", "COMM", "UTIME", "RIP"],
        ["1", "one", "5", "-"],
        ["12", "two", "7", "-"],
    ]
    assert_failed(command("show", file, "--fields", "utme"), 2, "utme", "utime")


def test_one_task_and_one_that_is_not_there(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1, b"one", regs=registers(0, rbx=0xABCDEF)))
    said = command("show", file, "--task", "1").stdout.decode()
    for word in ("0000000000abcdef", "nivcsw", "cap_ambient", "provenance", "kernel stack", "faults"):
        assert word in said
    assert_failed(command("show", file, "--task", "1001"), 2, "--task 1")  # its host pid
    assert_failed(command("show", file, "--task", "7"), 2, "7")


def test_from_standard_input(tmp_path: Path) -> None:
    with saved(tmp_path / "file", task(1, b"piped")).open("rb") as stream:
        assert b"piped" in command("show", "-", stdin=stream).stdout


def test_decode_and_encode_are_each_others_inverse(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1, HOSTILE, regs=registers(3)), task(2, parent=1))
    text, again = tmp_path / "text", tmp_path / "again"
    assert command("decode", file, "-o", text).returncode == 0
    assert command("encode", text, "-o", again).returncode == 0
    assert again.read_bytes() == file.read_bytes()
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in (text, again)} == {0o600}
    assert text.read_bytes() == command("decode", file).stdout
    with text.open("rb") as stream:
        assert command("encode", "-", "-o", "-", stdin=stream).stdout == file.read_bytes()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1))
    text = tmp_path / "text"
    text.write_text("precious")
    assert_failed(command("decode", file, "-o", text), 2, "--force")
    assert text.read_text() == "precious"
    assert command("decode", file, "-o", text, "--force").returncode == 0
    before = file.read_bytes()
    assert_failed(command("encode", text, "-o", file), 2, "--force")
    assert file.read_bytes() == before
    assert command("encode", text, "-o", file, "--force").returncode == 0


def test_json_that_makes_no_image(tmp_path: Path) -> None:
    text, out = tmp_path / "text", tmp_path / "out"
    for content in (b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b"1" * 10_000, b'{"head": 1}'):
        text.write_bytes(content)
        assert_failed(command("encode", text, "-o", out), 2)
        assert not out.exists()


def test_fields() -> None:
    said = command("fields").stdout.decode()
    for field in FIELDS:
        assert f"\n{field.name} " in said
    listed = json.loads(command("fields", "--json").stdout)
    assert [row["name"] for row in listed] == [field.name for field in FIELDS]
    assert all({"group", "type", "unit", "doc", "source", "witnesses", "rule"} <= row.keys() for row in listed)
