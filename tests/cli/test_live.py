"""``check``, ``list`` and ``snapshot`` on the machine as it is."""

import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import cptbpf
from cptbpf.image.flags import timespec_import
from tests.cli.command import NOBODY, PROGRAM, assert_failed, command
from tests.harness import SLOWNESS, Target, until

Start = Callable[..., Target]
NEEDS = {"required", "recommended", "optional"}


@pytest.mark.bpf
@pytest.mark.ptrace
def test_check_where_snapshot_works() -> None:
    done = command("check", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["ok"] is True
    assert found.keys() == {"rows", "ok"}
    for row in found["rows"]:
        assert row.keys() == {"name", "need", "ok", "reason", "remedy"}
        assert row["need"] in NEEDS and isinstance(row["ok"], bool) and row["reason"]
        assert row["ok"] or row["remedy"], row
    rows = {row["name"]: row for row in found["rows"]}
    assert all(row["ok"] for row in rows.values() if row["need"] == "required")
    assert {"btf", "bcc", "iter/task", "tp_btf", "fentry", "kprobe", "ptrace", "bpffs", "cap_sys_ptrace"} <= rows.keys()
    said = command("check")
    assert said.returncode == 0 and b"snapshot can work here" in said.stdout


def test_check_without_privilege() -> None:
    done = command("check", "--json", before=NOBODY, cwd="/")
    found = json.loads(done.stdout)
    assert done.returncode == 3 and found["ok"] is False and not done.stderr
    rows = {row["name"]: row for row in found["rows"]}
    assert not rows["cap_sys_ptrace"]["ok"] and rows["cap_sys_ptrace"]["remedy"]
    assert not rows["iter/task"]["ok"]
    said = command("check", before=NOBODY, cwd="/")
    assert said.returncode == 3 and b"snapshot cannot work here" in said.stdout and not said.stderr


@pytest.mark.bpf
@pytest.mark.parametrize(
    ("mount", "works"),
    [("mount -t proc -o subset=pid proc /proc", True), ("mount -t tmpfs none /proc", False)],
    ids=["processes alone", "none"],
)
def test_other_mounts_of_proc(target: Start, tmp_path: Path, mount: str, works: bool) -> None:
    one = target("sleeper")
    before = ("unshare", "--mount", "--propagation", "private", "--", "sh", "-c", f'{mount} && exec "$@"', "sh")
    checked = command("check", before=before)
    taken = command("snapshot", "--pidns", f"pid:[{one.ns_inode}]", "-o", tmp_path / "image", before=before)
    if works:
        assert checked.returncode == taken.returncode == 0, taken.stderr
        assert_failed(command("diff", tmp_path / "image", "live", before=before), 2, "which boot")
    else:
        assert checked.returncode == 3
        assert b"snapshot cannot work here: proc" in checked.stdout
        assert_failed(taken, 3, "/proc is not mounted", "mount -t proc")


@pytest.mark.bpf
@pytest.mark.ptrace
def test_ages_in_a_time_namespace(spawn: Start, tmp_path: Path) -> None:
    """The kernel keeps births on its own clock, whatever the namespace makes of it."""
    one = spawn(["sleep", "1000"])
    before = ("unshare", "--time", "--boottime", "100000", "--monotonic", "50000", "--fork", "--")
    done = command("snapshot", "--pidns", one.host_pid, "-o", tmp_path / "image", before=before)
    assert done.returncode == 0, done.stderr
    meta, (task,) = (image := cptbpf.load(tmp_path / "image")).meta, image.tasks
    assert 0 < meta.boottime - timespec_import(task.task.real_start_time) < 1000 * 10**9
    assert 0 < meta.monotonic - timespec_import(task.task.start_time) < 1000 * 10**9


@pytest.mark.ptrace
def test_list_shows_a_fresh_namespace(spawn: Start) -> None:
    sleeper = spawn(["sleep", "1234"], nested=2)
    rows = {row["inode"]: row for row in json.loads(command("list", "--json").stdout)}
    inner, outer = rows[sleeper.ns_inode], rows[sleeper.levels[0].inode]
    assert (inner["leader"], inner["command"], inner["tasks"]) == (sleeper.host_pid, "sleep 1234", 1)
    assert (outer["tasks"], inner["parent"], inner["level"] - outer["level"]) == (2, outer["inode"], 1)
    line = next(line for line in command("list").stdout.decode().splitlines() if f"pid:[{sleeper.ns_inode}]" in line)
    assert line.endswith("sleep 1234") and str(sleeper.host_pid) in line


def test_list_within_a_namespace_knows_no_levels() -> None:
    """How deep it is itself cannot be seen from there."""
    within = ("unshare", "--pid", "--fork", "--mount-proc", "--")
    heading, row = command("list", before=within).stdout.splitlines()
    assert heading.split()[1:3] == [b"LEVEL", b"LEADER"]
    assert row.split()[1:3] == [b"-", b"1"]
    (told,) = json.loads(command("list", "--json", before=within).stdout)
    assert told["level"] is None


def test_list_without_privilege() -> None:
    done = command("list", before=NOBODY, cwd="/")
    assert done.returncode == 0 and not done.stderr


@pytest.mark.bpf
@pytest.mark.ptrace
def test_snapshot_and_show(spawn: Start, tmp_path: Path) -> None:
    sleeper = spawn(["sleep", "1234"])
    file = tmp_path / "image"
    done = command("snapshot", "--pidns", f"pid:[{sleeper.ns_inode}]", "-o", file, "--json", "--timeout", 20)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary.keys() == {"file", "tasks", "frozen_ms", "wall_ms", "consistent", "partial", "no_registers"}
    assert (summary["file"], summary["tasks"], summary["consistent"]) == (str(file), 1, True)
    assert summary["partial"] == summary["no_registers"] == [] and 0 < summary["frozen_ms"] < summary["wall_ms"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said = command("show", file).stdout.decode()
    assert "1 sleep" in said and "clock_nanosleep(CLOCK_REALTIME" in said and str(sleeper.host_pid) in said
    assert "sleep 1234" in command("show", file, "--task", "1").stdout.decode()
    assert_failed(command("snapshot", "--pid", sleeper.host_pid, "-o", file), 2, "--force")
    assert command("snapshot", "--pid", sleeper.host_pid, "-o", file, "--force", "--timeout", 20).returncode == 0


@pytest.mark.bpf
@pytest.mark.ptrace
def test_snapshot_to_standard_output_and_by_default(spawn: Start, tmp_path: Path) -> None:
    sleeper = spawn(["sleep", "1234"])
    done = command("snapshot", "--pidns", sleeper.host_pid, "-o", "-", "--timeout", 20)
    assert done.returncode == 0 and done.stdout.startswith(b"\x79\x1c\x01\x63")
    assert b"1 task" in done.stderr  # the summary
    done = command("snapshot", "--pidns", sleeper.host_pid, "--no-freeze", cwd=tmp_path)
    assert done.returncode == 0 and b"nobody was stopped" in done.stdout
    (made,) = tmp_path.iterdir()
    assert made.name.startswith(f"cptbpf-{sleeper.ns_inode}-") and made.suffix == ".cpt"


@pytest.mark.bpf
@pytest.mark.ptrace
def test_a_task_under_a_debugger_is_partial(target: Start, tmp_path: Path) -> None:
    debugger = target("debugger", "traced")
    file = tmp_path / "image"
    done = command("snapshot", "--pidns", debugger.host_pid, "-o", file, "--timeout", 20)
    assert done.returncode == 1 and b"partial: 1 task" in done.stdout and b"traced by" in done.stdout
    assert b"traced by" in command("show", file).stdout


@pytest.mark.bpf
@pytest.mark.ptrace
def test_zombies_and_stopped_tasks_in_words(target: Start, tmp_path: Path) -> None:
    for name, words in (("zombie", b"exited with status 7"), ("stopped", b"stopped by SIGSTOP")):
        file = tmp_path / name
        done = command("snapshot", "--pidns", target(name).host_pid, "-o", file, "--timeout", 20)
        assert done.returncode == 0, done.stdout
        assert words in command("show", file).stdout


@pytest.mark.bpf
@pytest.mark.ptrace
def test_bad_targets(tmp_path: Path) -> None:
    file = tmp_path / "image"
    for name in ("pid:[1]", "/etc/passwd", "/proc/self/ns/net", "nonsense", "/nonexistent"):
        assert_failed(command("snapshot", "--pidns", name, "-o", file), 2)
    assert_failed(command("snapshot", "--pid", 2**22 + 5, "-o", file), 2)
    assert_failed(command("snapshot", "--pid", -5, "-o", file), 2)
    assert_failed(command("snapshot", "--pid", os.getpid(), "-o", tmp_path / "no" / "folder"), 2)
    assert not file.exists()


@pytest.mark.bpf
@pytest.mark.ptrace
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(target: Start, tmp_path: Path, number: signal.Signals) -> None:
    """A task that cannot stop keeps the window open for as long as the time-out allows: the signal comes while it is."""
    held = target("held")
    arguments = ("snapshot", "--pidns", str(held.host_pid), "-o", str(tmp_path / "image"), "--timeout", "300")
    with subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: _state(held.host_pid) == "t", "the freeze to begin", 60)
        process.send_signal(number)
        _, said = process.communicate(timeout=100 * SLOWNESS)
    assert process.returncode == 128 + number
    assert said in (b"cptbpf: interrupted\n", b"cptbpf: terminated\n")
    assert not list(tmp_path.iterdir())
    until(lambda: _state(held.host_pid) not in "tT", "it to go on")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1].decode()
    except (FileNotFoundError, ProcessLookupError):
        return "X"
