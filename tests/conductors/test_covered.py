"""Mounts over /proc that would keep a reader waiting, tell nothing, or are no files: they are found, and harm nobody."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.proc import listed
from tests.cli.command import assert_failed, command
from tests.conductors.checks import PRIVATE, disagreeing, under_mounts
from tests.conductors.test_freeze import assert_free
from tests.harness import Target

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

BOTH = pytest.mark.parametrize("option", [(), ("--no-freeze",)], ids=["frozen", "running"])
UNREADABLE = "to be read of cptbpf itself"


def thread(one: Target) -> str:
    return f"/proc/{one.host_pid}/task/{one.host_pid}"


@BOTH
@pytest.mark.parametrize("name", ["status", "stat", "statm", "comm"])
def test_a_fifo_keeps_nobody_waiting(target: Callable[..., Target], tmp_path: Path, name: str, option: tuple[str, ...]) -> None:
    one = target("sleeper")
    os.mkfifo(tmp_path / "fifo")
    status, document = under_mounts({f"{thread(one)}/{name}": str(tmp_path / "fifo")}, "--pid", one.host_pid, *option)
    assert status == 1
    assert {result["rule"] for result in document["results"] if result["verdict"] == "disagree"}
    assert all(result["rule"].startswith(UNREADABLE) for result in document["results"] if result["verdict"] == "disagree")
    assert_free(one)


def test_a_fifo_in_place_of_what_a_snapshot_reads(target: Callable[..., Target], tmp_path: Path) -> None:
    one = target("sleeper")
    os.mkfifo(tmp_path / "fifo")
    places = [f"/proc/{one.host_pid}/{name}" for name in ("cmdline", "cgroup", "mountinfo", "status")]
    script = "".join(f"mount --bind {tmp_path}/fifo {place} && " for place in places) + 'exec "$@"'
    before = (*PRIVATE, "sh", "-c", script, "sh")
    done = command("snapshot", "--pid", one.host_pid, "-o", "-", before=before)
    assert done.returncode == 0, done.stderr
    assert_free(one)
    assert command("list", before=before).returncode == 0


@BOTH
@pytest.mark.parametrize("name", ["status", "statm", "stat"])
def test_what_cannot_be_opened_is_a_disagreement(
    target: Callable[..., Target], tmp_path: Path, name: str, option: tuple[str, ...]
) -> None:
    one = target("sleeper")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        mounts = {f"{thread(one)}/{name}": str(tmp_path / "socket")}
        status, document = under_mounts(mounts, "--pidns", one.host_pid, *option)
    assert status == 1
    field = {"status": "euid", "statm": "total_vm", "stat": "exit_signal"}[name]
    assert (1, field) in disagreeing(document)


@BOTH
def test_files_that_are_missing_are_disagreements(
    target: Callable[..., Target], tmp_path: Path, option: tuple[str, ...]
) -> None:
    """A folder that holds a copy of stat alone: the task is listed, and of its other files there is nothing."""
    one = target("sleeper")
    (tmp_path / "stat").write_bytes(Path(thread(one), "stat").read_bytes())
    status, document = under_mounts({thread(one): str(tmp_path)}, "--pidns", one.host_pid, *option)
    assert status == 1
    found = {field for _, field in disagreeing(document)}
    assert {"euid", "cap_effective", "comm", "total_vm", "mnt_ns", "rchar"} <= found


@BOTH
def test_a_folder_of_namespaces_that_is_empty_is_found(
    target: Callable[..., Target], tmp_path: Path, option: tuple[str, ...]
) -> None:
    one = target("sleeper")
    status, document = under_mounts({f"{thread(one)}/ns": str(tmp_path)}, "--pidns", one.host_pid, *option)
    assert status == 1
    assert {"mnt_ns", "uts_ns", "pid_ns", "net_ns"} <= {field for _, field in disagreeing(document)}


def test_a_forged_folder_does_not_end_the_check(target: Callable[..., Target], bystander: int, tmp_path: Path) -> None:
    """Of a process that is not the target: names that are no numbers, and a namespace that is none."""
    one = target("sleeper")
    forged = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    folder = tmp_path / "task" / str(forged)
    folder.mkdir(parents=True)
    (tmp_path / "task" / "README").touch()
    (tmp_path / "task" / "\u00b2").mkdir()
    stat = Path(f"/proc/{one.host_pid}/stat").read_bytes()
    (folder / "stat").write_bytes(stat.replace(str(one.host_pid).encode(), str(forged).encode(), 1))
    (tmp_path / "ns").mkdir()
    (tmp_path / "ns" / "pid").touch()
    status, document = under_mounts({f"/proc/{bystander}": str(tmp_path)}, "--pidns", one.host_pid)
    assert (status, document["summary"]["disagree"]) == (0, 0)
    assert document["tasks"] == {"hidden": [], "phantom": []}


@pytest.mark.parametrize("form", ["pid:[{0.ns_inode}]", "{0.ns_inode}", "/proc/{0.host_pid}/ns/pid"])
def test_a_namespace_that_is_hidden_as_a_whole_can_be_asked_for(
    target: Callable[..., Target], tmp_path: Path, form: str
) -> None:
    one = target("threads", 1)
    assert one.pid == 1
    status, document = under_mounts({f"/proc/{one.host_pid}": str(tmp_path)}, "--pidns", form.format(one))
    assert status == 1
    assert {task["host_pid"] for task in document["tasks"]["hidden"]} == set(one.tids())


def test_a_namespace_that_there_is_not_is_said_so() -> None:
    assert_failed(command("crosscheck", "--pidns", "pid:[4026599999]"), 2, "no process is in a pid namespace pid:[4026599999]")


def test_every_task_is_listed_where_nothing_is_mounted() -> None:
    ours = listed.tasks()[os.getpid()]
    assert (ours.tgid, ours.ppid) == (os.getpid(), os.getppid())
