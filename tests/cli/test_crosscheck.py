"""``cptbpf crosscheck``: what it prints, its JSON, its exit status."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import assert_failed, command
from tests.harness import Target


def test_one_target_is_named() -> None:
    assert_failed(command("crosscheck"), 2, "name one target")
    assert_failed(command("crosscheck", "--pidns", "1", "--pid", "1"), 2, "name one target")
    assert_failed(command("crosscheck", "x.cpt", "--pid", "1"), 2, "name one target")
    assert_failed(command("crosscheck", "x.cpt", "--no-freeze"), 2, "--no-freeze")


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    assert_failed(command("crosscheck", tmp_path / "none.cpt"), 2, "no such file")
    (tmp_path / "text").write_text("no image" * 100)
    assert_failed(command("crosscheck", tmp_path / "text"), 4)


@pytest.mark.bpf
@pytest.mark.ptrace
def test_the_document(target: Callable[..., Target]) -> None:
    one = target("threads", 1)
    done = command("crosscheck", "--pidns", one.host_pid, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"results", "tasks", "summary"}
    for result in document["results"]:
        assert set(result) == {"pid", "host_pid", "field", "witness", "kernel", "other", "verdict", "rule"}
        assert result["witness"] in ("proc", "ptrace")
        assert result["verdict"] in ("agree", "explained", "disagree")
        assert result["rule"]
    (rip, _) = [result for result in document["results"] if result["field"] == "rip"]
    assert rip["kernel"] == rip["other"] and rip["kernel"].startswith("0x")
    summary = document["summary"]
    assert summary["tasks"] == 2 and summary["compared"] == len(document["results"])
    assert summary["agree"] + summary["explained"] + summary["disagree"] == summary["compared"]


@pytest.mark.bpf
@pytest.mark.ptrace
def test_the_table(target: Callable[..., Target]) -> None:
    one = target("threads", 1)
    done = command("crosscheck", "--pidns", one.host_pid)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert lines[0].split() == ["PID", "HOST", "PID", "COMM", "CHECKED", "AGREE", "EXPLAINED", "DISAGREE", "WITNESSES"]
    assert lines[1].split()[:2] == ["1", str(one.host_pid)]
    assert lines[2].split()[:2] == ["2", str(one.tids()[1])]
    assert any(line.startswith("explained by cputime") for line in lines)
    assert "0 disagree" in lines[-1] and "2 tasks" in lines[-1]
    assert b"\x1b" not in done.stdout, "no colours where nobody looks"


@pytest.mark.bpf
@pytest.mark.ptrace
def test_a_name_of_a_task_cannot_write_on_the_terminal(spawn: Callable[..., Target], tmp_path: Path) -> None:
    program = tmp_path / "\x1b[31m[bold]x"
    program.symlink_to("/bin/sleep")
    one = spawn([str(program), "1000"])
    done = command("crosscheck", "--pidns", one.host_pid, "--no-freeze")
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"\\x1b[31m[bold]x" in done.stdout
    heading, row = done.stdout.splitlines()[:2]
    assert b"HOST PID" in heading and b"WITNESSES" in heading
    assert row.split()[:2] == [b"1", str(one.host_pid).encode()], "no column is cut for a long name"


@pytest.mark.bpf
@pytest.mark.ptrace
def test_who_cannot_be_stopped_is_named(target: Callable[..., Target]) -> None:
    one = target("debugger", "traced")
    traced = next(pid for pid in one.members() if pid != one.host_pid)
    done = command("crosscheck", "--pidns", one.host_pid)
    assert done.returncode == 0
    why = f"traced by another process (host pid {one.host_pid})"
    assert f"(here {traced}): {why}" in done.stdout.decode()
    (told,) = json.loads(command("crosscheck", "--pidns", one.host_pid, "--json").stdout)["summary"]["not_stopped"]
    assert (told["host_pid"], told["why"]) == (traced, why)


@pytest.mark.bpf
def test_without_privilege(target: Callable[..., Target]) -> None:
    one = target("sleeper")
    before = ("setpriv", "--bounding-set", "-sys_ptrace", "--")
    assert_failed(command("crosscheck", "--pidns", one.host_pid, before=before), 3, "CAP_SYS_PTRACE")
