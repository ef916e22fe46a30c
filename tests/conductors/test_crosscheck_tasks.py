"""Hidden and phantom tasks, made in the ways in which they come about: mounts over /proc, hidepid, a forged directory."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.image.reader import parse
from cptbpf.proc import listed, namespaces
from tests.cli.command import command
from tests.conductors.checks import PRIVATE, check, checked, disagreeing, under_mounts
from tests.conductors.shots import value
from tests.harness import Target, build, children

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

BOTH = pytest.mark.parametrize("option", [(), ("--no-freeze",)], ids=["frozen", "running"])


@BOTH
def test_a_process_under_a_mount_is_hidden(target: Callable[..., Target], tmp_path: Path, option: tuple[str, ...]) -> None:
    one = target("threads", 2, init=True)
    place = f"/proc/{one.host_pid}"
    status, document = under_mounts({place: str(tmp_path)}, "--pidns", one.init_pid, *option)
    assert status == 1
    hidden = document["tasks"]["hidden"]
    assert {task["host_pid"] for task in hidden} == set(one.tids()), "its threads as well"
    assert {task["why"] for task in hidden} == {f"a mount over {place}"}
    assert min(task["pid"] for task in hidden) == 2
    assert hidden[0]["comm"] == Path(place, "comm").read_text().rstrip("\n")
    assert document["tasks"]["phantom"] == []
    assert disagreeing(document) == []


@BOTH
def test_a_thread_under_a_mount_is_hidden(target: Callable[..., Target], tmp_path: Path, option: tuple[str, ...]) -> None:
    one = target("threads", 2)
    thread = one.tids()[1]
    place = f"/proc/{one.host_pid}/task/{thread}"
    status, document = under_mounts({place: str(tmp_path)}, "--pidns", one.host_pid, *option)
    assert status == 1
    assert [(task["host_pid"], task["why"]) for task in document["tasks"]["hidden"]] == [(thread, f"a mount over {place}")]
    assert document["summary"]["ended"] == 0


@pytest.mark.parametrize("other", [False, True], ids=["a folder", "another process"])
def test_a_process_is_the_kernels_not_what_is_mounted_in_its_place(
    target: Callable[..., Target], tmp_path: Path, bystander: int, other: bool
) -> None:
    """Asked for by its pid: checked and imaged all the same, and nothing is believed of what covers it."""
    one = target("sleeper")
    place = f"/proc/{one.host_pid}"
    covering = {place: f"/proc/{bystander}" if other else str(tmp_path)}
    status, document = under_mounts(covering, "--pid", one.host_pid)
    assert status == 1
    assert [task["host_pid"] for task in document["tasks"]["hidden"]] == [one.host_pid]
    for words in (("--pid", one.host_pid), ("--pidns", one.host_pid)):
        script = f'mount --bind {covering[place]} {place} && exec "$@"'
        done = command("snapshot", *words, "-o", "-", before=(*PRIVATE, "sh", "-c", script, "sh"))
        assert done.returncode == 0, done.stderr
        (task,) = parse(done.stdout).tasks
        assert value(task, "host_pid") == one.host_pid
        assert task.task.pid == one.pid
        for name in ("exe", "cmdline", "cgroup"):
            assert task.source(name) == f"absent: not believed: a mount over {place}"
            assert name not in task.ext


def test_what_is_mounted_over_is_named(target: Callable[..., Target], tmp_path: Path) -> None:
    """The process's own status, which ps reads, is no witness of ours; but who covers it wants somebody to be deceived."""
    one = target("sleeper")
    place = f"/proc/{one.host_pid}/status"
    fake = tmp_path / "status"
    fake.write_text(Path(place).read_text().replace("Uid:\t0", "Uid:\t1"))
    status, document = under_mounts({place: str(fake)}, "--pidns", one.host_pid)
    assert status == 0
    assert document["summary"]["covered"] == [place]
    script = f'mount --bind {fake} {place} && exec "$@"'
    done = command("crosscheck", "--pidns", one.host_pid, before=(*PRIVATE, "sh", "-c", script, "sh"))
    assert f"mounted over: {place}: whoever reads it is not shown what the kernel says" in done.stdout.decode()
    assert under_mounts({}, "--pidns", one.host_pid)[1]["summary"]["covered"] == []


def test_hidden_tasks_are_told_to_people(target: Callable[..., Target], tmp_path: Path) -> None:
    one = target("sleeper", init=True)
    script = f'mount --bind {tmp_path} /proc/{one.host_pid} && exec "$@"'
    done = command("crosscheck", "--pidns", one.init_pid, before=(*PRIVATE, "sh", "-c", script, "sh"))
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"hidden from /proc: pid 2 (here {one.host_pid})")


def test_hidepid_of_another_mount_of_proc(spawn: Callable[..., Target]) -> None:
    """Where the checker has not every capability, hidepid hides the tasks of other users from it."""
    inner = f'"{build("credentials")}" & wait'
    one = spawn(["setpriv", "--bounding-set", "-sys_ptrace", "--", "sh", "-c", inner], ready=True)
    hidden = children(one.host_pid)
    script = 'mount -t proc -o hidepid=2,gid=65534 proc /proc && exec setpriv --bounding-set -sys_ptrace "$@"'
    before = (*PRIVATE, "sh", "-c", script, "sh")
    status, document = checked("--pidns", one.host_pid, "--no-freeze", before=before)
    assert status == 1
    assert [task["host_pid"] for task in document["tasks"]["hidden"]] == hidden
    assert {task["why"] for task in document["tasks"]["hidden"]} <= {
        "/proc is mounted with hidepid=2",
        "/proc is mounted with hidepid=invisible",
    }
    assert {result["host_pid"] for result in document["results"]} == {one.host_pid}
    assert disagreeing(document) == []


def test_a_forged_process_is_a_phantom(target: Callable[..., Target], tmp_path: Path, bystander: int) -> None:
    """Over a process of no interest lies a directory with a thread that the kernel does not know."""
    one = target("sleeper")
    forged = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    thread = tmp_path / "task" / str(forged)
    thread.mkdir(parents=True)
    stat = Path(f"/proc/{one.host_pid}/stat").read_bytes()
    (thread / "stat").write_bytes(stat.replace(str(one.host_pid).encode(), str(forged).encode(), 1))
    (tmp_path / "ns").mkdir()
    (tmp_path / "ns" / "pid").touch()
    place = f"/proc/{bystander}"
    mounts = {str(tmp_path / "ns" / "pid"): f"/proc/{one.host_pid}/ns/pid"}
    script = "".join(f"mount --bind {source} {where} && " for where, source in mounts.items())
    script += f'mount --rbind {tmp_path} {place} && exec "$@"'
    status, document = checked("--pidns", one.host_pid, before=(*PRIVATE, "sh", "-c", script, "sh"))
    assert status == 1
    assert [task["host_pid"] for task in document["tasks"]["phantom"]] == [forged]
    assert document["tasks"]["hidden"] == []


@BOTH
def test_births_and_ends_make_nobody_hidden_or_phantom(target: Callable[..., Target], option: tuple[str, ...]) -> None:
    one = target("forkstorm", "mixed")
    for _ in range(5):
        report = check(one, freeze=not option)
        assert (report.hidden, report.phantom) == ((), ())


def test_the_listing_shows_threads_and_their_namespaces(target: Callable[..., Target]) -> None:
    one = target("threads", 2, nested=2)
    shown = listed.tasks()
    assert set(one.tids()) <= shown.keys()
    assert {shown[tid].tgid for tid in one.tids()} == {one.host_pid}
    inodes = [level.inode for level in one.levels]
    own = os.stat("/proc/self/ns/pid").st_ino
    assert listed.namespaces_of(one.host_pid) == (*inodes[::-1], own)
    assert namespaces.veil(one.host_pid) == ""
