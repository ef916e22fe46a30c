"""Recordings at the command line: export in every format, show --at, and how each tells of a recording's end."""

import csv
import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cptbpf.image.model import EVENT_FORK, EVENT_SAMPLE
from cptbpf.image.recording_writer import RecordingWriter
from tests.cli.command import NOBODY, assert_failed, command
from tests.image.recordings import AHEAD, META, SAID, START, change, clocks, groups_of, row, saved, small


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path / "a.cpt", small())


def cut(path: Path) -> Path:
    data = path.read_bytes()
    return saved(path.with_name("cut.cpt"), data[: len(data) - len(groups_of(data)[2]) - 5])


def damaged(path: Path, group: int = 1, at: int = 70) -> Path:
    """With another bit in a group: in what it holds, or in its head."""
    data = bytearray(path.read_bytes())
    start, groups, _ = groups_of(path.read_bytes())
    data[len(start) + sum(map(len, groups[:group])) + at] ^= 4
    return saved(path.with_name("damaged.cpt"), bytes(data))


def test_json_lines_are_those_of_sample(path: Path) -> None:
    done = command("export", path, "--format", "jsonl")
    assert done.returncode == 0 and done.stderr == b""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines][:2] == ["sample", "fork"]
    assert [line["event"] for line in lines][-3:] == ["cred", "exec", "exit"]
    assert lines[0]["time_ns"] == str(START + AHEAD)
    assert {"pid", "tgid", "host_pid", "start_boottime", "comm"} <= lines[0].keys()
    assert (lines[-1]["pid"], lines[-1]["exit_code"]) == (2, 9)
    drop = next(line for line in lines if line["event"] == "drop")
    assert (drop["lost"], drop["cpu"], drop["why"]) == (3, 1, "full")


def test_what_a_whole_group_lacks_is_null(path: Path) -> None:
    done = command("export", path, "--format", "jsonl", "--fields", "total_vm,exec_id")
    ended, *others = reversed([line for line in map(json.loads, done.stdout.splitlines()) if line["event"] != "drop"])
    assert ended["event"] == "exit" and ended["total_vm"] is None
    assert all(line["total_vm"] is not None for line in others)


def test_csv(path: Path, tmp_path: Path) -> None:
    done = command("export", path, "--format", "csv", "--fields", "utime,nvcsw", "-o", tmp_path / "a.csv")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "a.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [one["utime"] for one in rows if one["pid"] == "1" and one["event"] == "sample"] == ["0", "0", "10000", "20000"]
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o600
    assert_failed(command("export", path, "--format", "csv", "-o", tmp_path / "a.csv"), 2, "exists")


def test_a_trace_is_read_back(tmp_path: Path) -> None:
    """Every thread's states follow one another without gaps, in its own line, and its counters are what it used."""
    target = tmp_path / "a.cpt"
    second = 1_000_000_000
    with RecordingWriter(target, META) as writer:
        one = row(1, comm=b'a"\x1b[31m\xff'.ljust(16, b"\0"), state=1)
        writer.add(EVENT_SAMPLE, START, one, SAID)
        writer.add(EVENT_FORK, START + second, row(2, tgid=1, state=0x800), SAID)
        one = change(one, state=0, on_cpu=1, utime=second // 2, nvcsw=30)
        writer.add(EVENT_SAMPLE, START + 2 * second, one, SAID)
        writer.drop(START + 2 * second, 7, 0, 1)
        writer.add(EVENT_SAMPLE, START + 3 * second, change(one, state=1, on_cpu=0, utime=second), SAID)
        writer.add(3, START + 4 * second, row(2, tgid=1, state=0x80, exit_code=256), SAID)
        writer.finish(clocks(START + 4 * second))
    done = command("export", target, "--format", "perfetto", "-o", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    trace = json.loads((tmp_path / "a.json").read_text())
    events = trace["traceEvents"]
    assert all({"ph", "name", "pid", "tid"} <= event.keys() for event in events)
    states = [(e["name"], (e["ts"] * 1000 - START) / 1e9, e["dur"] / 1e6) for e in events if e["ph"] == "X" and e["tid"] == 1]
    assert states == [("sleeping", 0, 2), ("running", 2, 1), ("sleeping", 3, 1)]
    assert {event["tid"]: event["pid"] for event in events if event["ph"] == "X"} == {1: 1, 2: 1}
    counters = [e["args"]["1"] for e in events if e["ph"] == "C" and e["name"] == "cpu %" and e["tid"] == 1]
    assert counters == [25.0, 50.0]
    switches = [e["args"]["1"] for e in events if e["ph"] == "C" and e["name"] == "switches/s" and e["tid"] == 1]
    assert switches == [15.0, 0.0]
    marks = [(e["name"], e["tid"]) for e in events if e["ph"] == "i"]
    assert marks == [("fork", 2), ("lost 7: memory", 0), ("exit", 2)]
    names = [event["args"]["name"] for event in events if event["ph"] == "M" and event["tid"] == 1]
    assert names == ['a"\\x1b[31m\\xff [1]'] * 2


def test_parquet(path: Path, tmp_path: Path) -> None:
    import pyarrow.parquet  # it does not run on every processor on which the other tests do

    done = command("export", path, "--format", "parquet", "-o", tmp_path / "a.parquet")
    assert done.returncode == 0, done.stderr
    table = pyarrow.parquet.read_table(str(tmp_path / "a.parquet")).to_pylist()
    lines = [json.loads(line) for line in command("export", path, "--format", "jsonl").stdout.splitlines()]
    assert [one["event"] for one in table] == [one["event"] for one in lines]
    assert [one["pid"] for one in table] == [one.get("pid") for one in lines]
    assert [str(one["realtime_ns"]) for one in table] == [one["time_ns"] for one in lines]
    assert max(one["cap_effective"] or 0 for one in table) == 2**64 - 1
    assert {one["total_vm"] for one in table if one["event"] == "exit"} == {None}
    assert_failed(command("export", path, "--format", "parquet"), 2, "needs a file")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What a JSON object holds, every key once."""
    made = dict(pairs)
    assert len(made) == len(pairs), [key for key, _ in pairs]
    return made


@pytest.mark.parametrize("fields", [(), ("--fields", "all"), ("--fields", "time_ns,exit_code,utime,time_namespace,all")])
def test_no_name_stands_twice(path: Path, tmp_path: Path, fields: tuple[str, ...]) -> None:
    import pyarrow.parquet

    done = command("export", path, "--format", "jsonl", *fields)
    for line in done.stdout.splitlines():
        told = json.loads(line, object_pairs_hook=unique)
        assert len(told["time_ns"]) == 19
        assert ("time_namespace" in told) == (bool(fields) and told["event"] != "drop")
    header, *rows = csv.reader(command("export", path, "--format", "csv", *fields).stdout.decode().splitlines())
    assert len(set(header)) == len(header)
    assert {len(row) for row in rows} == {len(header)}
    json.loads(command("export", path, "--format", "perfetto").stdout, object_pairs_hook=unique)
    assert command("export", path, "--format", "parquet", "-o", tmp_path / "a.parquet").returncode == 0
    columns = pyarrow.parquet.read_schema(str(tmp_path / "a.parquet")).names
    assert len(set(columns)) == len(columns) > 100


def test_parquet_says_what_it_lacks(path: Path, tmp_path: Path) -> None:
    (tmp_path / "pyarrow").mkdir()
    (tmp_path / "pyarrow" / "__init__.py").write_text("raise ImportError('none')")
    done = command("export", path, "--format", "parquet", "-o", tmp_path / "x", env={"PYTHONPATH": str(tmp_path)})
    assert_failed(done, 3, "pyarrow", "cptbpf[export]")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("arguments", [("export", "--format", "jsonl"), ("export", "--format", "perfetto"), ("replay",)])
def test_what_was_cut_short_is_read_with_a_note_and_damage_is_a_status(path: Path, arguments: tuple[str, ...]) -> None:
    whole = command(arguments[0], path, *arguments[1:])
    done = command(arguments[0], cut(path), *arguments[1:])
    assert done.returncode == 0
    assert b"ends within a group (at byte " in done.stderr and len(done.stderr.splitlines()) == 1
    if "perfetto" not in arguments:
        assert whole.stdout.startswith(done.stdout) and done.stdout
    else:
        json.loads(done.stdout)
    done = command(arguments[0], damaged(path), *arguments[1:])
    assert done.returncode == 4
    assert b"is damaged" in done.stderr and b"(at byte " in done.stderr


def test_an_instant_of_what_ends_early(path: Path) -> None:
    """Whoever looks at an instant is told as well: the end that -1s counts from is another one."""
    done = command("show", cut(path), "--at", "-0s")
    assert done.returncode == 0 and done.stdout
    assert b"ends within a group (at byte " in done.stderr and len(done.stderr.splitlines()) == 1
    done = command("show", damaged(path, 2, 40), "--at", "0s")
    assert done.returncode == 4 and done.stdout
    assert b"is damaged" in done.stderr and len(done.stderr.splitlines()) == 1
    for arguments in (("show", "--at", "1h"), ("replay", "--start", "1h")):
        assert_failed(command(arguments[0], damaged(path, 2, 40), *arguments[1:]), 4, "is damaged", "(at byte ")
        assert_failed(command(arguments[0], cut(path), *arguments[1:]), 2, "not within the recording", "ends within a group")


@pytest.mark.parametrize("arguments", [("export", "--format", "jsonl"), ("replay",)])
def test_output_that_cannot_be_written_is_told(path: Path, arguments: tuple[str, ...]) -> None:
    name, *more = arguments
    with open("/dev/full", "wb") as full:
        assert_failed(command(name, path, *more, stdout=full), 2, "cannot write standard output: No space left")
    done = command(name, path, *more, before=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert_failed(done, 2, "standard output is closed", "redirect it")


def test_a_pipe_is_read(path: Path) -> None:
    with open(path, "rb") as stream:
        import subprocess

        with subprocess.Popen(["cat"], stdin=stream, stdout=subprocess.PIPE) as cat:
            done = command("export", "-", "--format", "jsonl", stdin=cat.stdout)
    assert done.returncode == 0
    assert done.stdout == command("export", path, "--format", "jsonl").stdout


def test_nobody_needs_a_privilege(path: Path) -> None:
    path.chmod(0o644)
    for parent in list(path.parents)[:3]:
        parent.chmod(0o755)
    for arguments in (("export", path, "--format", "jsonl"), ("replay", path), ("show", path, "--at", "0s")):
        done = command(*arguments, before=NOBODY)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("at", "pids"),
    [
        ("0s", [1, 2]),
        ("-0s", [1]),
        ("0.3s", [1, 2]),
        ("-4ns", [1, 2]),
        ("+100ms", [1, 2]),
        (f"{(START + AHEAD) // 10**9 + 1}", None),
    ],
)
def test_show_at(path: Path, at: str, pids: list[int] | None) -> None:
    done = command("show", path, "--at", at, "--format", "json")
    if pids is None:
        assert_failed(done, 2, "is not within the recording", "0s to 0.300s")
        return
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert [task["task"]["pid"] for task in shown["tasks"]] == pids


@pytest.mark.parametrize("form", ["{:%Y-%m-%dT%H:%M:%S}Z", "{:%Y-%m-%d %H:%M:%S}.000 UTC", "{:%Y-%m-%dT%H:%M:%S.25}+00:00"])
def test_show_at_a_date(path: Path, form: str) -> None:
    at = form.format(datetime.fromtimestamp((START + AHEAD) // 10**9, UTC))
    done = command("show", path, "--at", at, "--fields", "pid,comm,utime")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[3:6] == ([b"1", b"name1", b"10000"] if ".25" in at else [b"1", b"name0", b"0"])


def test_show_at_no_time_at_all(path: Path) -> None:
    assert_failed(command("show", path, "--at", "yesterday"), 2, "is no time", "3s from the start")


def test_a_recording_is_not_shown_as_an_image(path: Path) -> None:
    assert_failed(command("show", path), 4, "recording, not an image", "--at")
    assert_failed(command("decode", path), 4, "recording, not an image")


def test_names_of_tasks_stay_harmless(tmp_path: Path) -> None:
    target = tmp_path / "a.cpt"
    with RecordingWriter(target, META) as writer:
        writer.add(EVENT_SAMPLE, START, row(1, comm=b"\x1b]0;x\x07\xff\n,\"'"), SAID)
        writer.add(3, START + 1, row(1, comm=b"\x1b]0;x\x07\xff\n,\"'"), SAID)
        writer.finish(clocks(START + 2))
    for arguments in (("export", target, "--format", "jsonl"), ("export", target, "--format", "csv"), ("replay", target)):
        done = command(*arguments)
        assert done.returncode == 0
        assert b"\x1b" not in done.stdout and b"\x07" not in done.stdout and b"\xff" not in done.stdout


def test_what_is_no_recording(tmp_path: Path) -> None:
    for name in ("replay", "export"):
        more = ("--format", "jsonl") if name == "export" else ()
        assert_failed(command(name, saved(tmp_path / "x", b"nothing"), *more), 4, "not an image")
        assert_failed(command(name, tmp_path / "none", *more), 2, "no such file")
    empty = saved(tmp_path / "empty", small()[:32] + struct.pack("<Q", 8))
    assert_failed(command("export", empty, "--format", "jsonl"), 4)
