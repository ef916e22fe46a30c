"""Ids: of every task, at every level of pid namespaces, before the freezer became a parent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cptbpf.image.model import PidLevel
from tests.conductors.shots import Shot, assert_whole, said, settled, shoot
from tests.harness import Target, pid_ns

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]


def levels(pid: int, key: str) -> list[int]:
    """An id of a task in each namespace from ours inwards, by its status file."""
    text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    return [int(number) for number in text.partition(f"\n{key}:")[2].split("\n", 1)[0].split()]


def assert_ids(shot: Shot, host_pids: list[int], level: int) -> None:
    """Every id of these tasks is that of the namespace ``level`` below ours, as NSpid and its kin have it."""
    assert shot.tasks.keys() == set(host_pids)
    for pid in host_pids:
        shown = {key: levels(pid, key) for key in ("NSpid", "NStgid", "NSpgid", "NSsid")}
        wanted = tuple(shown[key][level] for key in ("NSpid", "NStgid", "NStgid", "NSpgid", "NSsid"))
        assert shot.get(pid, "pid", "tgid", "leader", "pgrp", "session") == wanted, pid
        chain = shot.tasks[pid].ext["pids"]
        assert [entry.pid for entry in chain] == shown["NSpid"]
        assert [entry.level for entry in chain] == list(range(len(chain)))
        assert chain[-1].ns == shot.get(pid, "pid_ns") == pid_ns(pid)
        assert shot.get(pid, "ns_level") == len(chain) - 1


@pytest.mark.parametrize("how", [{}, {"freeze": False}], ids=["frozen", "running"])
def test_ids_two_namespaces_deep(target: Callable[..., Target], how: dict[str, Any]) -> None:
    program = target("specimen", nested=2, init=True)
    inner = sorted(settled_below(program))
    outer = program.members()
    outside = [pid for pid in outer if pid not in inner]  # unshare, which is the init of the outer one
    assert len(outside) == 1
    shot = shoot(program.levels[0].inode, **how)
    assert_ids(shot, outer, 1)
    assert (shot.image.meta.pid_ns, shot.image.meta.pid_ns_level) == (program.levels[0].inode, 1)
    init = program.init_pid
    assert shot.get(init, "ppid", "rppid") == (1, 1)
    assert shot.get(init, "host_ppid", "host_rppid") == (outside[0], outside[0])
    assert shot.get(program.host_pid, "ppid") == levels(init, "NSpid")[1]
    assert shot.tasks[program.host_pid].ext["pids"] == (
        PidLevel(0, pid_ns(os.getpid()), program.host_pid),
        PidLevel(1, program.levels[0].inode, program.levels[0].pid),
        PidLevel(2, program.levels[1].inode, program.levels[1].pid),
    )
    shot = shoot(program.levels[1].inode, **how)
    assert_ids(shot, inner, 2)
    assert (shot.image.meta.pid_ns, shot.image.meta.pid_ns_level) == (program.levels[1].inode, 2)
    assert shot.get(init, "pid", "ppid", "rppid") == (1, 0, 0)  # its parent is not visible there
    assert shot.get(program.host_pid, "ppid", "rppid") == (1, 1)


def settled_below(program: Target) -> list[int]:
    """Host pids of everybody in a target's own namespace, once they sleep."""
    return [pid for pid in settled(program).values() if pid_ns(pid) == program.ns_inode]


def test_groups_and_sessions_led_from_outside_are_not_visible(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    inside = settled(program)
    shot = shoot(program)
    group, session = said(program, "group")[0], said(program, "session")[0]
    assert shot.get(program.host_pid, "pgrp", "session") == (0, 0)
    assert shot.get(inside[group], "pgrp", "session") == (group, 0)
    assert shot.get(inside[session], "pgrp", "session") == (session, session)


def test_parents_are_those_of_before_the_freeze(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    inside = settled(program)
    shot = shoot(program)
    assert_whole(shot)
    for pid in inside.values():
        if pid not in (program.host_pid, program.init_pid):
            assert shot.get(pid, "ppid", "rppid", "host_ppid", "host_rppid") == (program.pid,) * 2 + (program.host_pid,) * 2


def test_threads_share_their_leader_and_its_parent(target: Callable[..., Target]) -> None:
    program = target("threads", 3, init=True)
    shot = shoot(program)
    assert_ids(shot, [program.init_pid, *program.tids()], 1)
    assert {shot.get(tid, "tgid", "leader", "rppid") for tid in program.tids()} == {(2, 2, 1)}


def test_the_foreground_group_of_a_terminal_that_hung_up(target: Callable[..., Target]) -> None:
    program = target("terminal")
    leader, group = said(program, "leader")
    task = shoot(program).pid(leader).task
    assert (task.old_pgrp, task.session, task.pgrp) == (group, leader, leader)
    nested = target("terminal", nested=2)
    leader, group = said(nested, "leader")
    assert shoot(nested).pid(leader).task.old_pgrp == group
    outer = shoot(nested.levels[0].inode)
    ids = {task.ext["pids"][-1].pid: task.task.pid for task in outer.image.tasks if len(task.ext["pids"]) == 3}
    assert outer.pid(ids[leader]).task.old_pgrp == ids[group] != group


def test_a_leader_stands_before_its_threads_and_a_parent_before_its_children(target: Callable[..., Target]) -> None:
    for program in (target("specimen", nested=2, init=True), target("threads", 20, init=True)):
        shot = shoot(program.levels[0].inode)
        seen: set[int] = set()
        for task in shot.image.tasks:
            own = task.task
            assert own.pid not in seen
            assert own.pid == own.tgid or own.tgid in seen
            assert own.rppid == 0 or own.rppid in seen
            seen.add(own.pid)
        assert len(seen) == shot.image.trailer.tasks


def test_the_tree_of_a_process_has_the_ids_of_its_own_namespace(target: Callable[..., Target]) -> None:
    program = target("specimen", nested=2, init=True)
    settled(program)
    shot = shoot(pid=program.host_pid)
    assert_ids(shot, [pid for pid in settled_below(program) if pid != program.init_pid], 2)
    assert shot.image.meta.pid_ns == program.ns_inode
    assert shot.image.meta.strings["request"] == f"pid {program.host_pid}"
    outer_init = next(pid for pid in program.members() if pid_ns(pid) != program.ns_inode)
    assert_ids(shoot(pid=outer_init), program.members(), 1)
