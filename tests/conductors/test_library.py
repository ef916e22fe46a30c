"""cptbpf as a library: what can be asked for, what comes back, and what is raised."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cptbpf
from cptbpf.errors import PrivilegeError, TargetError
from cptbpf.image.model import TaskRecord
from cptbpf.kernel.record import TaskState
from tests.conductors import witness
from tests.conductors.shots import said, settled, shoot
from tests.harness import Target, until

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]


def test_tasks_of_a_namespace(target: Callable[..., Target]) -> None:
    program = target("threads", 9)
    table = cptbpf.tasks(pidns=f"pid:[{program.ns_inode}]")
    assert len(table) == 10
    states = list(table)
    assert all(isinstance(state, TaskState) for state in states)
    assert {state.host_pid for state in states} == set(program.tids())
    assert all(state.tgid == program.pid for state in states)
    names = ("pid", "host_pid", "comm", "utime", "start_boottime", "prio")
    assert list(table.columns(*names)) == [tuple(getattr(state, name) for name in names) for state in states]


@pytest.mark.parametrize("form", ["link", "inode", "number", "path", "pid"])
def test_every_way_to_name_a_namespace(target: Callable[..., Target], form: str) -> None:
    program = target("threads", 2)
    specs: dict[str, str | int] = {
        "link": f"pid:[{program.ns_inode}]",
        "inode": str(program.ns_inode),
        "number": program.ns_inode,
        "path": f"/proc/{program.host_pid}/ns/pid",
        "pid": program.host_pid,
    }
    assert sorted(cptbpf.tasks(pidns=specs[form]).column("host_pid")) == program.tids()


def test_a_tree_is_a_process_its_threads_and_all_below(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    inside = settled(program)
    everybody = set(inside.values())
    assert set(cptbpf.tasks(pid=program.host_pid).column("host_pid")) == everybody - {program.init_pid}
    assert set(cptbpf.tasks(pid=program.init_pid).column("host_pid")) == everybody
    leaf = inside[said(program, "group")[0]]
    assert cptbpf.tasks(pid=leaf).column("host_pid") == [leaf]
    assert shoot(pid=leaf).tasks.keys() == {leaf}


def test_a_tree_goes_through_the_children_of_threads_and_deep(spawn: Callable[..., Target]) -> None:
    script = (
        "import os, sys, threading, signal\n"
        "def below(depth):\n"
        "    if depth and not os.fork():\n"
        "        below(depth - 1)\n"
        "    signal.pause()\n"
        "def run():\n"
        "    if not os.fork():\n"
        "        below(int(sys.argv[1]))\n"
        "    threading.Event().wait()\n"
        "threading.Thread(target=run).start()\n"
        "signal.pause()\n"
    )
    program = spawn([sys.executable, "-c", script, "40"], init=True)
    until(lambda: len(cptbpf.tasks(pid=program.host_pid)) == 43, "two threads and 41 processes")
    tree = cptbpf.tasks(pid=program.host_pid)
    threads = set(program.tids())
    (above,) = {state.host_rppid for state in tree if state.host_rppid in threads and state.host_pid not in threads}
    assert above != program.host_pid, "the child is the thread's"
    shot = shoot(pid=above)  # a thread means its process
    assert shot.summary.tasks == 43
    order = [task.task.pid for task in shot.image.tasks]
    assert order[:2] == [program.pid, shot.get(above, "pid")]
    assert all(order.index(task.task.rppid) < at for at, task in enumerate(shot.image.tasks) if at > 1)
    middle = sorted(tree.column("host_pid"))[-10]
    assert len(cptbpf.tasks(pid=middle)) == 10


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "one target"),
        ({"pidns": 1, "pid": 1}, "one target"),
        ({"pid": 2**22 + 1}, "no process"),
        ({"pidns": "pid:[1]"}, "namespace"),
        ({"pidns": "nonsense"}, "namespace"),
        ({"pidns": "/etc/passwd"}, "namespace"),
        ({"pidns": "/no/such/path"}, "/no/such/path"),
        ({"pidns": "/proc/self/ns/mnt"}, "namespace"),
        ({"pidns": 4026531836 + 99999999}, "namespace"),
    ],
)
def test_what_is_no_target(how: dict[str, Any], message: str) -> None:
    for function in (cptbpf.tasks, cptbpf.snapshot):
        with pytest.raises(TargetError, match=message) as caught:
            function(**how)
        assert "\n" not in str(caught.value)
        assert caught.value.remedy
        assert caught.value.exit_code == 2


def test_registers_by_nobody_known(target: Callable[..., Target], tmp_path: Path) -> None:
    program = target("threads", 0)
    with pytest.raises(TargetError, match="registers"):
        cptbpf.snapshot(pidns=program.ns_inode, registers="magic", output=tmp_path / "x")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("call", ["tasks(pid={0})", "snapshot(pid={0}, output='/dev/null')", "snapshot(pid={0}, freeze=False)"])
def test_without_privilege(target: Callable[..., Target], call: str) -> None:
    program = target("threads", 0)
    root = Path(cptbpf.__file__).parent.parent
    script = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "import cptbpf\n"
        "from cptbpf.errors import PrivilegeError\n"
        f"try: cptbpf.{call.format(program.host_pid)}\n"
        "except PrivilegeError as error: print(error.exit_code, error, error.remedy, sep='\\n')\n"
    )
    done = subprocess.run([*NOBODY, "/usr/bin/python3", "-c", script], capture_output=True, text=True, check=False, cwd="/")
    assert done.stderr == ""
    code, what, remedy = done.stdout.splitlines()
    assert code == "3"
    assert what
    assert "root" in remedy or "CAP_" in remedy
    assert PrivilegeError.exit_code == 3


def test_the_name_of_an_image_that_has_none(
    target: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = target("threads", 0)
    monkeypatch.chdir(tmp_path)
    summary = cptbpf.snapshot(pidns=program.ns_inode)
    assert re.fullmatch(rf"\./cptbpf-{program.ns_inode}-\d{{8}}T\d{{6}}Z\.cpt", summary.file)
    assert os.stat(summary.file).st_mode & 0o777 == 0o600
    assert os.stat(summary.file).st_size == summary.size
    assert [type(task.task) for task in cptbpf.load(summary.file).tasks] == [TaskRecord]


def test_progress_is_told_but_never_while_tasks_are_stopped(target: Callable[..., Target]) -> None:
    program = target("threads", 600)
    told: list[tuple[int, int]] = []
    stopped: set[str] = set()

    def progress(count: int, total: int) -> None:
        told.append((count, total))
        stopped.add(witness.state(program.tids()[300]))

    shoot(program, progress=progress)
    assert told[-1] == (601, 601)
    assert told == sorted(told)
    assert len(told) > 2
    assert stopped == {"S"}


def test_meta_says_where_when_and_how(target: Callable[..., Target]) -> None:
    program = target("threads", 0)
    before = [time.clock_gettime_ns(clock) for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)]
    meta = (shot := shoot(program)).image.meta
    for earlier, now in zip(before, (meta.realtime, meta.monotonic, meta.boottime), strict=True):
        assert earlier < now < earlier + 60 * 10**9
    assert shot.image.head.time == meta.realtime // 10**9 << 32 | meta.realtime % 10**9
    assert meta.strings["release"] == os.uname().release
    assert meta.strings["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert meta.strings["time_unit"] == "ns"
    assert meta.strings["writer"] == f"cptbpf {cptbpf.__version__}"
    assert (meta.page_size, meta.user_hz) == (os.sysconf("SC_PAGESIZE"), os.sysconf("SC_CLK_TCK"))


def test_a_target_that_is_gone(target: Callable[..., Target]) -> None:
    program = target("threads", 0)
    inode, pid = program.ns_inode, program.host_pid
    program.close()
    for how in ({"pidns": f"pid:[{inode}]"}, {"pid": pid}):
        with pytest.raises(TargetError):
            cptbpf.snapshot(**how, output="/dev/null")
