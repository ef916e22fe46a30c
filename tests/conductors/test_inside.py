"""cptbpf in the midst of what it looks at: never stopped itself, and with the ids of where it stands."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cptbpf
from tests.conductors import witness
from tests.conductors.shots import shoot, value
from tests.harness import Target

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]

SHELL = 'sleep 1000 & sleep 1000 & exec 3<&0; "$@" <&3; exit $?'


def run_inside(spawn: Callable[..., Target], path: Path, what: str = "self", freeze: str = "freeze", nested: int = 1) -> Target:
    """cptbpf below a shell that is the init of a fresh namespace, beside two that sleep."""
    argv = [sys.executable, "-m", "tests.conductors.inside", str(path), what, freeze]
    return spawn(["sh", "-c", SHELL, "init", *argv], nested=nested, ready=True)


@pytest.mark.parametrize("nested", [1, 2])
def test_the_namespace_that_contains_cptbpf(spawn: Callable[..., Target], tmp_path: Path, nested: int) -> None:
    shell = run_inside(spawn, tmp_path / "image.cpt", nested=nested)
    answer = json.loads(shell.lines[0])
    image = cptbpf.load(tmp_path / "image.cpt")
    tasks = {task.task.pid: task for task in image.tasks}
    others = {pid for pid in tasks if tasks[pid].task.comm.startswith(b"sleep\0")}
    own = {pid for pid in tasks if tasks[pid].task.tgid == answer["own"]}
    assert tasks.keys() == {1, *own, *others}
    assert (len(others), len(own)) == (2, 2)  # cptbpf has a thread that traces, while it does
    assert set(answer["tasks"]) == {1, answer["own"], *others}
    assert (answer["consistent"], answer["partial"]) == (True, [])
    for pid in others:
        assert tasks[pid].source("regs") == "ptrace"
        assert tasks[pid].source("kregs") == "kernel:B, equal"
    for pid in (1, answer["own"]):  # who waits in the kernel has registers without being stopped
        assert tasks[pid].source("regs") == "kernel:B"
        assert value(tasks[pid], "ptrace") == 0
    (tracer,) = own - {answer["own"]}
    assert [(pid, why) for pid, _, why in answer["no_registers"]] == [
        (tracer, "cptbpf itself, or who waits for it: never stopped")
    ]
    assert tasks[tracer].source("regs") == "absent: on a cpu"
    assert (image.meta.pid_ns, image.meta.pid_ns_level) == (shell.ns_inode, nested)


def test_ids_are_those_of_the_reader_inside(spawn: Callable[..., Target], tmp_path: Path) -> None:
    """A reader in a nested namespace sees its own ids: host_pid is what cptbpf would call the task."""
    shell = run_inside(spawn, tmp_path / "image.cpt", freeze="no", nested=2)
    image = cptbpf.load(tmp_path / "image.cpt")
    outer = {value(task, "host_pid"): task for task in shoot(shell.levels[0].inode).image.tasks}
    for task in image.tasks:
        assert (value(task, "host_pid"), value(task, "host_tgid")) == (task.task.pid, task.task.tgid)
        assert value(task, "host_rppid") == task.task.rppid
        chain = [entry.pid for entry in task.ext["pids"]]
        assert chain[-1] == task.task.pid
        if task.task.pid == task.task.tgid:
            assert witness.state(chain[0])
            assert chain[1] == outer[chain[0]].task.pid
    assert image.meta.pid_ns_level == 2


def test_a_namespace_below_that_of_cptbpf(spawn: Callable[..., Target], tmp_path: Path) -> None:
    """cptbpf in one namespace, the target in a child of that: ids in the image are the target's, host ids cptbpf's."""
    script = (
        "unshare --pid --fork --mount-proc sleep 1000 & "
        "until grep -qsx sleep /proc/[0-9]*/comm; do sleep 0.01; done; "
        'exec 3<&0; "$0" -m tests.conductors.inside "$1" "$(stat -Lc %i /proc/$!/ns/pid_for_children)" freeze <&3; exit $?'
    )
    shell = spawn(["sh", "-c", script, sys.executable, str(tmp_path / "image.cpt")], ready=True)
    answer = json.loads(shell.lines[0])
    (task,) = cptbpf.load(tmp_path / "image.cpt").tasks
    assert (answer["partial"], answer["no_registers"], answer["consistent"]) == ([], [], True)
    assert task.source("regs") == "ptrace"
    assert task.task.comm.startswith(b"sleep\0")
    assert (task.task.pid, task.task.rppid, value(task, "ns_level")) == (1, 0, 2)
    assert [entry.pid for entry in task.ext["pids"]][1:] == [value(task, "host_pid"), 1]
    assert value(task, "host_rppid") > 1
    assert answer["tasks"] == [1]


def test_the_tree_of_cptbpf_itself() -> None:
    """Its own process, and its ancestors' trees, can be asked for: nobody waits for himself."""
    shot = shoot(pid=os.getpid())
    assert shot.summary.partial == ()
    assert shot.tasks[os.getpid()].source("regs") == "kernel:B"
    assert any("cptbpf itself" in one.why for one in shot.summary.no_registers)
    child = os.fork()
    if not child:
        os.execvp("sleep", ["sleep", "1000"])
    try:
        shot = shoot(pid=os.getpid())
        assert shot.tasks[child].source("regs") == "ptrace"
        assert shot.summary.partial == ()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
