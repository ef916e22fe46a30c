"""diff at the command line: what it prints, as text and as JSON, and its status."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import NOBODY, assert_failed, command
from tests.cli.images import NOW, SECOND, saved, task
from tests.harness import Target


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return saved(tmp_path / "a.cpt", task(1, b"init"), task(2, b"\x1b[31mgone"), task(3, b"web", nvcsw=5, utime=SECOND))


@pytest.fixture
def after(tmp_path: Path) -> Path:
    changed = task(3, b"web", nvcsw=12, utime=3 * SECOND, euid=1000)
    return saved(tmp_path / "b.cpt", task(1, b"init"), changed, task(4, b"new"), realtime=NOW + 5 * SECOND)


def test_text(before: Path, after: Path) -> None:
    done = command("diff", before, after)
    assert done.returncode == 1 and done.stderr == b""
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert lines[0] == ["1", "added,", "1", "gone,", "1", "changed,", "within", "5.0s"]
    assert ["+", "4", "new", "(here", "1004)"] in lines
    assert ["-", "2", "\\x1b[31mgone", "(here", "1002)"] in lines
    assert ["~", "3", "web", "(here", "1003)"] in lines
    assert [line for line in lines if line[0] in ("nvcsw", "utime", "euid")] == [
        *(["euid", "0", "->", "1000"], ["utime", "+2.0s"], ["nvcsw", "+7"]),
    ]


def test_json(before: Path, after: Path) -> None:
    done = command("diff", before, after, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found.keys() == {"added", "gone", "changed"}
    assert [(one["pid"], one["host_pid"], one["comm"]) for one in found["added"]] == [(4, 1004, "new")]
    assert [one["pid"] for one in found["gone"]] == [2]
    assert {"pid": 3, "host_pid": 1003, "field": "nvcsw", "a": 5, "b": 12} in found["changed"]
    assert all(change.keys() == {"pid", "host_pid", "field", "a", "b"} for change in found["changed"])


def test_no_difference_is_status_0_and_needs_no_privilege(before: Path) -> None:
    before.chmod(0o644)
    for parent in list(before.parents)[:3]:
        parent.chmod(0o755)
    done = command("diff", before, before, before=NOBODY)
    assert done.returncode == 0, done.stderr
    assert json.loads(command("diff", before, before, "--json").stdout) == {"added": [], "gone": [], "changed": []}


def test_an_image_that_cannot_be_read(before: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(before.read_bytes()[:-1])
    assert_failed(command("diff", before, tmp_path / "x"), 4, "damaged")
    assert_failed(command("diff", before, tmp_path / "none"), 2, "no such file")
    assert_failed(command("diff", "-", "-"), 2, "standard input")
    assert_failed(command("diff", before, "live"), 2, "another machine")


@pytest.mark.bpf
@pytest.mark.ptrace
def test_live(target: Callable[..., Target], tmp_path: Path) -> None:
    sleeper = target("sleeper")
    image = tmp_path / "a.cpt"
    assert command("snapshot", "--pidns", f"pid:[{sleeper.ns_inode}]", "-o", image).returncode == 0
    found = json.loads(command("diff", image, "live", "--json").stdout)
    assert found["added"] == found["gone"] == []
    sleeper.close()
    assert_failed(command("diff", image, "live"), 2)
