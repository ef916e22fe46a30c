"""Every change of credentials is reported once, with what they were and became, and nobody else's."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from cptbpf.kernel.cred_watch import CredChange, Credentials, CredWatch
from cptbpf.kernel.tasks import TaskReader
from tests.features import missing
from tests.harness import Target, build, until

CAP_SYS_TIME = 25
KEEP_CAPS = 1 << 4
IDS = ("uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid")

pytestmark = pytest.mark.bpf

# sched_switch-hash is for kernels without task storage, -raw for those without BTF tracepoints; they work on all others as well
hooks = pytest.mark.parametrize(
    "hook",
    [
        pytest.param("fentry", marks=pytest.mark.kprobe),
        pytest.param("kprobe", marks=pytest.mark.kprobe),
        pytest.param("sched_switch", marks=pytest.mark.needs("task_storage")),
        "sched_switch-hash",
        "sched_switch-raw",
    ],
)


@pytest.fixture
def reader() -> Iterator[TaskReader]:
    with TaskReader() as opened:
        yield opened


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that is set-user-id root."""
    path = tmp_path / "setuid"
    shutil.copy(build("sleeper"), path)
    os.chown(path, 0, 0)
    path.chmod(0o4755)
    assert not os.statvfs(path).f_flag & os.ST_NOSUID
    return path


def open_watch(reader: TaskReader, hook: str, target: Target, **options: int) -> CredWatch:
    """A watch of a target's namespace."""
    reader.ask(target.ns_inode, reader.own_level + len(target.levels))
    return CredWatch(reader, hook=hook, **options)


def tell(target: Target, command: str, answer: str = "done") -> None:
    target.say(command)
    assert target.read_line() == answer


def collect(watch: CredWatch, count: int) -> list[CredChange]:
    """At least that many changes, and what else there is by then."""
    found: list[CredChange] = []

    def read() -> bool:
        found.extend(watch.read())
        return len(found) >= count

    until(read, f"{count} changes")
    return found


def moved(change: CredChange) -> dict[str, tuple[object, object]]:
    """(old, new) by the names of the fields that differ."""
    pairs = zip(Credentials._fields, change.old, change.new, strict=True)
    return {name: (old, new) for name, old, new in pairs if old != new}


def status_ids(target: Target, tid: int = 0) -> tuple[int, ...]:
    return tuple(int(word) for key in ("Uid", "Gid") for word in target.status(key, tid).split())


@hooks
def test_each_change_once(target: Callable[..., Target], reader: TaskReader, program: Path, hook: str) -> None:
    """Ids, groups, sets and securebits, of one thread and of all, by system calls, by libc and by execve."""
    started = target("credchange", program)
    first, second = started.tids()
    pids = {first: started.pid, second: int(started.lines[0].split()[1])}
    with open_watch(reader, hook, started) as watch:
        assert watch.hook == hook.partition("-")[0]
        for command in ("setgroups", "same", "both", "secure", "capset", "thread"):
            tell(started, command)
        tell(started, "seteuid 1006")
        tell(started, "exec", "ready")
        # libc's setresgid makes the other thread change its own as well, in any order: told apart by the thread
        found = collect(watch, 8)
        state = status_ids(started)
        assert watch.dropped == 0
    of_second = [moved(change) for change in found if change.host_pid == second]
    of_first = [change for change in found if change.host_pid == first]
    assert len(found) == 8
    full = of_first[0].old.cap_permitted
    gids = {"gid": (0, 2001), "egid": (0, 2002), "sgid": (0, 2003), "fsgid": (0, 2002)}
    uids = {"user": (0, 1001), "uid": (0, 1001), "euid": (0, 1002), "fsuid": (0, 1002)}
    assert of_second == [gids, {**uids, "cap_effective": (full, 0)}]
    groups, both, secure, capset, seteuid, executed = map(moved, of_first)
    assert groups == {"ngroups": (of_first[0].old.ngroups, 3), "groups": (of_first[0].old.groups, (3001, 3002, 3003))}
    assert secure == {"securebits": (0, KEEP_CAPS)}
    without = full & ~(1 << CAP_SYS_TIME)
    assert capset == {"cap_permitted": (full, without), "cap_effective": (full, without)}
    assert both == gids
    assert seteuid == {"euid": (0, 1006), "fsuid": (0, 1006), "cap_effective": (without, 0)}
    # back to root by the set-user-id bit; execve drops the securebit
    assert executed["euid"] == (1006, 0)
    assert executed["securebits"] == (KEEP_CAPS, 0)
    assert tuple(getattr(of_first[-1].new, name) for name in IDS[:4]) == (0, 0, 0, 0)
    assert state == tuple(getattr(of_first[-1].new, name) for name in ("uid", "euid", "suid", "fsuid", *IDS[4:]))
    for change in found:
        assert (change.pid, change.tgid, change.host_tgid) == (pids[change.host_pid], started.pid, first)
    assert {change.comm.rstrip(b"\0") for change in of_first[:-1]} == {
        b"credchange-" + build("credchange").name[11:15].encode()
    }


@hooks
def test_a_chain_without_gaps(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """What a change begins with is what the one before ended with; times rise."""
    started = target("credchange")
    with open_watch(reader, hook, started) as watch:
        tell(started, "storm 100")
        found = collect(watch, 100)
    assert [moved(change)["euid"] for change in found] == [(0, 1004), (1004, 0)] * 50
    assert all(one.new == other.old for one, other in pairwise(found))
    times = [change.time_ns for change in found]
    assert times == sorted(set(times))


@hooks
def test_what_ends_at_once_and_what_is_born(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """A child's changes are reported though it ends right behind them, and its birth is none."""
    started = target("credchange")
    with open_watch(reader, hook, started) as watch:
        tell(started, "leave")
        tell(started, "userns")
        left, entered = collect(watch, 2)
    assert moved(left)["euid"] == (0, 1007)
    assert left.host_tgid == left.host_pid not in started.tids()
    assert left.pid == left.tgid > started.pid
    assert set(moved(entered)) >= {"user_ns"}
    assert entered.old.user_ns == left.old.user_ns


@hooks
def test_nothing_of_other_namespaces(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """Of another namespace and of the machine nothing; of a namespace inside the asked one everything, by outer ids."""
    started, other, nested = target("credchange"), target("credchange"), target("credchange", nested=2)
    with open_watch(reader, hook, started) as watch:
        for one in (other, nested):
            tell(one, "seteuid 1006")
        subprocess.run(["setpriv", "--reuid", "1001", "--clear-groups", "true"], check=True)
        tell(started, "seteuid 1006")
        (change,) = collect(watch, 1)
        assert change.host_pid == started.host_pid
    reader.ask(nested.levels[0].inode, reader.own_level + 1)
    with CredWatch(reader, hook=hook) as watch:
        tell(nested, "seteuid 0")
        (change,) = collect(watch, 1)
    assert (change.pid, change.host_pid) == (nested.levels[0].pid, nested.host_pid)


@hooks
def test_only_a_tree(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """The process that is named, its threads and what is below it; not its parent's other children."""
    started = target("credchange", init=True)
    first, second = started.tids()
    reader.ask(started.ns_inode, reader.own_level + 1)
    tree, none = CredWatch(reader, first, hook), CredWatch(reader, second, hook)
    with tree, none, CredWatch(reader, started.init_pid, hook) as above, CredWatch(reader, os.getpid(), hook) as far_above:
        tell(started, "thread")
        tell(started, "leave")
        for watch in (tree, above, far_above):
            by_thread, by_child = collect(watch, 2)
            assert by_thread.host_pid == second
            assert by_child.host_pid not in (first, second)
        assert none.read() == []  # a thread's id is no process's


@hooks
def test_drops_are_counted(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """A buffer of a page: what found no room, and what did, are all that there was."""
    started = target("credchange")
    with open_watch(reader, hook, started, room=4096) as watch:
        tell(started, "storm 60")
        until(lambda: watch.dropped, "drops")
        kept = watch.read()
        assert 0 < len(kept) < 60
        assert len(kept) + watch.dropped == 60
        tell(started, "storm 5")  # and there is room again, many times over the end of the buffer
        assert [moved(change)["euid"] for change in collect(watch, 5)] == [
            (0, 1004),
            (1004, 0),
            (0, 1004),
            (1004, 0),
            (0, 1004),
        ]


@hooks
def test_detached_when_closed(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    started = target("credchange")
    with open_watch(reader, hook, started):
        pass
    with open_watch(reader, hook, started) as watch:  # sees nothing of what came before it
        assert watch.read() == []
        tell(started, "seteuid 1006")
        assert len(collect(watch, 1)) == 1


def test_some_hook_is_found(target: Callable[..., Target], reader: TaskReader) -> None:
    """By trying: fentry where the kernel has it, else what is left; the refusals name the others."""
    started = target("credchange")
    reader.ask(started.ns_inode, reader.own_level + 1)
    with CredWatch(reader) as watch:
        tell(started, "seteuid 1006")
        (change,) = collect(watch, 1)
    assert change.hook == watch.hook
    if missing("kprobe"):
        assert watch.hook == "sched_switch"
        assert [name for name, _ in watch.refused][:2] == ["fentry", "kprobe"]
    else:
        assert watch.hook == "fentry"
