"""``cptbpf sample`` as a user runs it."""

import csv
import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import PROGRAM, assert_failed, command
from tests.harness import SLOWNESS, Target

Start = Callable[..., Target]
COUNTERS = ("nvcsw", "nivcsw", "min_flt", "maj_flt", "run_count")
TIMES = ("start_boottime", "utime", "stime", "sum_exec_runtime", "run_delay")


def ns(target: Target) -> str:
    return f"/proc/{target.host_pid}/ns/pid"


@contextmanager
def sampling(target: Target, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The command, and it is over afterwards."""
    line = [PROGRAM, "sample", "--pidns", ns(target), *map(str, arguments)]
    pipe = subprocess.PIPE  # read without a buffer, of which communicate() knows nothing
    with subprocess.Popen(line, bufsize=0, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def parsed(line: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(line)
    return value


def finished(process: subprocess.Popen[bytes]) -> tuple[list[dict[str, Any]], str]:
    """What it wrote until it ended with status 0, and what it said."""
    out, said = process.communicate(timeout=60 * SLOWNESS)
    assert process.returncode == 0, said
    return [parsed(line) for line in out.splitlines()], said.decode()


@pytest.mark.bpf
def test_json_lines_are_the_contract(target: Start) -> None:
    brief = target("brief")
    with sampling(brief, "--interval", "1h") as process:
        assert process.stdout is not None
        first = parsed(process.stdout.readline())  # line by line, though it is a pipe
        assert list(first)[:7] == ["event", "time_ns", "pid", "tgid", "host_pid", "start_boottime", "comm"]
        assert (first["event"], first["pid"], first["tgid"]) == ("sample", brief.pid, brief.pid)
        assert first["host_pid"] == brief.host_pid
        assert re.fullmatch(r"\d{19}", first["time_ns"])
        assert all(re.fullmatch(r"\d+", first[name]) for name in TIMES)
        assert all(isinstance(first[name], int) for name in COUNTERS)
        assert first["state"] == "0x1"
        brief.say("3")
        assert brief.read_line() == "made 3"
        brief.kill()
        events, said = finished(process)
    ends = [event for event in events if event["event"] == "exit"]
    assert [event["exit_code"] for event in ends] == [*((event["pid"] & 127) << 8 for event in ends[:-1]), 9]
    assert sum(event["event"] == "fork" for event in events) == 3
    assert "3 forks" in said and "4 exits" in said and "nothing lost" in said


@pytest.mark.bpf
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(target: Start, number: signal.Signals) -> None:
    with sampling(target("sleeper")) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        events, said = finished(process)
    assert events == []
    assert re.search(r"1 sample, .* nothing lost; [\d.]+ s, [\d.]+ % of a cpu\n$", said)


@pytest.mark.bpf
def test_a_reader_that_has_seen_enough_is_no_error(target: Start) -> None:
    with sampling(target("sleeper")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60 * SLOWNESS) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


@pytest.mark.bpf
def test_csv_has_a_header_and_every_column_on_every_line(target: Start, tmp_path: Path) -> None:
    brief = target("brief")
    file = tmp_path / "out.csv"
    with sampling(brief, "--format", "csv", "-o", file, "--fields", "nvcsw,uid,state", "--duration", "2s") as process:
        brief.say("2")
        brief.read_line()
        finished(process)
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [
        *("event", "time_ns", "pid", "tgid", "host_pid", "start_boottime", "comm"),
        *("nvcsw", "uid", "state", "exit_code", "old_pid", "lost", "why"),
    ]
    assert all(None not in row and None not in row.values() for row in rows)
    assert all(row["exit_code"] == str((int(row["pid"]) & 127) << 8) for row in rows if row["event"] == "exit")
    assert file.stat().st_mode & 0o777 == 0o600
    again = command("sample", "--pidns", ns(brief), "-o", file, "--duration", "0.1")
    assert_failed(again, 2, "exists", "--force")


@pytest.mark.bpf
def test_only_what_was_asked_for(target: Start) -> None:
    brief = target("brief")
    with sampling(brief, "--events", "exit", "--fields", "utime", "--duration", "3s") as process:
        brief.say("2")
        brief.read_line()
        events, _ = finished(process)
    for event in events:
        assert event["event"] == "exit"
        assert set(event) == {
            *("event", "time_ns", "pid", "tgid", "host_pid", "start_boottime", "comm"),
            *("utime", "exit_code", "old_pid"),
        }


@pytest.mark.bpf
def test_a_hostile_name_stays_a_string(spawn: Start, tmp_path: Path) -> None:
    name = b'"\x1b[31m,\n\xff\x7f'
    program = os.fsencode(tmp_path) + b"/" + name
    os.symlink("/bin/sleep", program)
    sleeper = spawn([os.fsdecode(program), "100"])
    for form in ("jsonl", "csv"):
        done = command("sample", "--pidns", ns(sleeper), "--format", form, "--duration", "0.2")
        assert done.returncode == 0
        assert b"\x1b" not in done.stdout and b"\xff" not in done.stdout
        if form == "jsonl":
            assert parsed(done.stdout.splitlines()[0])["comm"].encode("utf-8", "surrogateescape") == name
        else:
            row = next(csv.DictReader(done.stdout.decode().splitlines()))
            assert row["comm"] == '"\\x1b[31m,\\n\\xff\\x7f'


@pytest.mark.bpf
def test_losses_are_drop_events_and_status_1(target: Start) -> None:
    """It does not get to read for a while, and its buffer has room for seven reports."""
    storm = target("forkstorm", "fork")
    with sampling(storm, "--buffer", "4K") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.3 * SLOWNESS)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.3 * SLOWNESS)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60 * SLOWNESS)
    events = [parsed(line) for line in (first + rest).splitlines()]
    drops = [event for event in events if event["event"] == "drop"]
    assert process.returncode == 1
    assert drops
    assert all(event["lost"] > 0 and event["why"] == "full" for event in drops)
    assert f"lost {sum(event['lost'] for event in drops)} reports" in said.decode()


@pytest.mark.bpf
def test_no_compiler_is_in_the_process_and_it_is_small(target: Start) -> None:
    with sampling(target("sleeper")) as process:
        assert process.stdout is not None
        process.stdout.readline()
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        status = Path(f"/proc/{process.pid}/status").read_text()
    assert "libbcc" not in maps and "libLLVM" not in maps
    assert int(status.partition("VmHWM:")[2].split()[0]) < 60 * 1024


@pytest.mark.bpf
def test_a_full_device_is_told_of(target: Start) -> None:
    storm = target("forkstorm", "fork")
    with open("/dev/full", "wb") as full:
        done = command("sample", "--pidns", ns(storm), "--interval", "1ms", "--duration", "10s", stdout=full)
        assert_failed(done, 2, "cannot write standard output", "No space left on device")


@pytest.mark.bpf
def test_a_file_that_cannot_grow_ends_with_a_whole_line(target: Start, tmp_path: Path) -> None:
    """Here the limit on a file's size is in the way."""
    file = tmp_path / "out.csv"
    arguments = ("--pidns", ns(target("forkstorm", "fork")), "--interval", "1ms", "--duration", "10s", "-o", file)
    done = command("sample", *arguments, before=("prlimit", "--fsize=20000", "--"))
    assert_failed(done, 2, f"cannot write '{file}': File too large", f"at byte {file.stat().st_size}")
    assert file.read_bytes().endswith(b"\n")


@pytest.mark.bpf
def test_a_file_of_lines_takes_a_name_as_an_image_does(target: Start, tmp_path: Path) -> None:
    """A new one of mode 0600, whoever had the old one open; a link is replaced, not followed; what is no file is left alone."""
    arguments = ("sample", "--pidns", ns(target("sleeper")), "--duration", "0.1", "--format", "jsonl", "-o")
    file, link, elsewhere = tmp_path / "out.jsonl", tmp_path / "link.jsonl", tmp_path / "elsewhere"
    for path in (file, elsewhere):
        path.write_text("precious")
        path.chmod(0o644)
    link.symlink_to(elsewhere)
    with file.open() as before:
        for path in (file, link):
            assert_failed(command(*arguments, path), 2, f"'{path}' exists already", "--force")
            done = command(*arguments, path, "--force")
            assert done.returncode == 0, done.stderr
            assert parsed(path.read_bytes().splitlines()[0])["event"] == "sample"
            assert path.lstat().st_mode == stat.S_IFREG | 0o600
        assert before.read() == elsewhere.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "link.jsonl", "elsewhere"}
    assert_failed(command(*arguments, "/dev/full", "--force"), 2, "'/dev/full' exists and is not a regular file", "-o -")


@pytest.mark.parametrize(("form", "where"), [("cpt", "foo"), ("cpt", "192.0.2.1:9400"), ("jsonl", "foo")])
def test_nothing_takes_the_place_of_a_file_in_vain(target: Start, tmp_path: Path, form: str, where: str) -> None:
    one = target("sleeper")
    path = tmp_path / f"kept.{form}"
    path.write_bytes(b"kept")
    arguments = ("sample", "--pidns", one.host_pid, "--duration", "1s", "--force", "--prometheus", where, "-o")
    assert_failed(command(*arguments, path), 2)
    assert path.read_bytes() == b"kept"
    new = tmp_path / f"new.{form}"
    assert_failed(command(*arguments, new), 2)
    assert not new.exists()


def test_usage() -> None:
    assert_failed(command("sample"), 2, "--pidns", "--pid")
    assert_failed(command("sample", "--pid", 1, "--interval", "soon"), 2, "'soon'", "100ms")
    assert_failed(command("sample", "--pid", 1, "--interval", "2h"), 2, "3600")
    assert_failed(command("sample", "--pid", 1, "--buffer", "1"), 2, "4K")
    assert_failed(command("sample", "--pid", 1, "--fields", "utimes"), 2, "'utimes'", "'utime'")
    assert_failed(command("sample", "--pid", 1, "--events", "death"), 2, "'death'")


@pytest.mark.bpf
def test_no_such_target() -> None:
    assert_failed(command("sample", "--pid", 2**22 - 1), 2, "no process")
