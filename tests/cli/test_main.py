"""Statuses and messages of the command line itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cptbpf.cli import main
from cptbpf.cli.main import COMMANDS
from tests.cli.command import NOBODY, PROGRAM, assert_failed, command
from tests.cli.images import saved, task
from tests.harness import SLOWNESS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), *((name, "--help") for name in COMMANDS)])
def test_help(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith(b"Usage: cptbpf")


def test_version() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, b"cptbpf 0.1.0\n")


def test_as_a_module() -> None:
    assert subprocess.run([sys.executable, "-m", "cptbpf", "--version"], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("snapshto",), ("snapshto", "snapshot")),
        (("xyzzy",), ("xyzzy", "check")),
        (("--frobnicate",), ("--frobnicate",)),
        (("snapshot",), ("--pidns", "--pid")),
        (("snapshot", "--pid", "1", "--pidns", "1"), ("--pidns", "--pid")),
        (("snapshot", "--pid", "one"), ("one",)),
        (("snapshot", "--pid", "1", "--timeout", "-1"), ("--timeout",)),
        (("snapshot", "--pid", "1", "--timeout", "nan"), ("--timeout",)),
        (("snapshot", "--pid", "1", "--registers", "magic"), ("magic", "ptrace")),
        (("top",), ("--pidns", "--pid", "top --help")),
        (("top", "--pid", "1", "--pidns", "1"), ("--pidns", "--pid")),
        (("show",), ("FILE", "show --help")),
        (("show", "/nonexistent/file"), ("/nonexistent/file",)),
        (("show", "x", "--format", "xml"), ("xml",)),
        (("export", "x"), ("--format", "jsonl, csv, parquet, perfetto")),
        (("encode", "x"), ("--output",)),
        (("encode", "/nonexistent/file", "-o", "-"), ("/nonexistent/file",)),
        (("fields", "extra"), ("extra",)),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_failed(command(*arguments), 2, *words)


def test_closed_input_is_told() -> None:
    for arguments in (("show", "-"), ("encode", "-", "-o", "-"), ("export", "-", "--format", "csv")):
        done = command(*arguments, before=("sh", "-c", 'exec "$@" <&-', "sh"))
        assert_failed(done, 2, "standard input is closed", "name a file")


def test_words_of_the_user_are_escaped() -> None:
    done = command("show", "/nonexistent/\x1b[31m\u202e")
    assert_failed(done, 2)
    assert done.stderr.decode().replace("\n", "").isprintable()


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x79\x1c\x01\x63", b"\x79\x1c\x01\x63" + bytes(4096)])
@pytest.mark.parametrize("name", ["show", "decode"])
def test_what_is_no_image(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert_failed(command(name, file), 4)


def test_a_damaged_image(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1), task(2))
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 0x10
    file.write_bytes(whole)
    assert_failed(command("show", file), 4, "digest")
    file.write_bytes(file.read_bytes()[:-9])
    assert_failed(command("show", file), 4, "byte")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    assert_failed(command("show", tmp_path), 4, str(tmp_path))


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", *(task(pid, parent=1) for pid in range(1, 3000)))
    for arguments in (("show", str(file)), ("decode", str(file)), ("show", str(file), "--format", "table")):
        with subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout and process.stderr
            process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 128 + signal.SIGPIPE


def test_closed_output_is_told(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1))
    for arguments in (("show", file), ("show", file, "--format", "json"), ("decode", file), ("fields",)):
        done = command(*arguments, before=("sh", "-c", 'exec "$@" >&-', "sh"))
        assert_failed(done, 2, "standard output is closed", "redirect it")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_another_encoding(tmp_path: Path, encoding: str) -> None:
    file = saved(tmp_path / "file", task(1, "größe漢".encode()), task(2, b"\xff", parent=1))
    done = command("show", file, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and done.stdout.decode(encoding)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_a_plain_message(number: signal.Signals) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen([PROGRAM, "show", "-"], stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(reading)
        os.write(writing, b"\x79\x1c\x01\x63")
        # it waits for more of the image once it has taken these bytes
        while b"pipe_read" not in Path(f"/proc/{process.pid}/wchan").read_bytes() and not _in_read(process.pid):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60 * SLOWNESS)
    os.close(writing)
    assert process.returncode == 128 + number
    assert said in (b"cptbpf: interrupted\n", b"cptbpf: terminated\n")


def _in_read(pid: int) -> bool:
    """Whether it sleeps in read(2) of standard input."""
    return Path(f"/proc/{pid}/syscall").read_bytes().startswith(b"0 0x0 ")


def test_debug_shows_the_traceback() -> None:
    for arguments, env in ((("--debug", "show", "/nonexistent"), {}), (("show", "/nonexistent"), {"CPTBPF_DEBUG": "1"})):
        done = command(*arguments, env=env)
        assert done.returncode == 2 and b"Traceback" in done.stderr


def test_reading_needs_no_privilege(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1))
    data = file.read_bytes()
    for name in ("show", "decode"):
        reading = tmp_path / "again"
        reading.write_bytes(data)
        with reading.open("rb") as stream:
            done = command(name, "-", before=NOBODY, stdin=stream, cwd="/")
        assert done.returncode == 0, done.stderr


def test_snapshot_without_privilege_says_what_it_needs() -> None:
    assert_failed(command("snapshot", "--pid", os.getpid(), "-o", "/tmp/never.cpt", before=NOBODY, cwd="/"), 3, "CAP_")
    assert not os.path.exists("/tmp/never.cpt")


def test_a_full_disk_behind_standard_output(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", *(task(pid, parent=1) for pid in range(1, 100)))
    for arguments in (("fields",), ("decode", file), ("show", file, "--format", "json")):
        with open("/dev/full", "wb") as full:
            assert_failed(command(*arguments, stdout=full), 2, "cannot write standard output: No space left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_impatient_signal_leaves_no_traceback(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second one, while the first is being dealt with."""
    cleaned = []

    def interrupted(_: object) -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), number)
            cleaned.append(True)
        return 0

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(main, "_invoke", interrupted)
    try:
        assert main.run([]) == 128 + number
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert cleaned
    assert capsys.readouterr().err in ("cptbpf: interrupted\n", "cptbpf: terminated\n")
