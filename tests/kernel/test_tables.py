"""Bulk decoding gives what decoding one by one gives."""

from collections.abc import Callable

import pytest

import cptbpf
from cptbpf.errors import UnsupportedError
from cptbpf.kernel.record import TASK_COLUMNS, TASK_RECORD, TaskState
from cptbpf.kernel.tasks import FullPass, TaskReader, TaskTable
from tests.harness import Target

pytestmark = pytest.mark.bpf


def test_columns_are_what_the_objects_have(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    table = cptbpf.tasks(pidns=program.ns_inode)
    states = list(table)
    assert len(states) == len(table) == 11
    assert tuple(TASK_COLUMNS) == TaskState._fields
    for name in TaskState._fields:
        assert table.column(name) == [getattr(state, name) for state in states], name
        if name != "comm":
            assert list(table.array(name)) == [getattr(state, name) for state in states], name
    assert list(table.columns(*TaskState._fields)) == states
    mixed = ("utime", "pid", "comm", "pid")
    assert list(table.columns(*mixed)) == [tuple(getattr(state, name) for name in mixed) for state in states]
    with pytest.raises(KeyError):
        table.column("no such field")
    with pytest.raises(KeyError):
        table.array("comm")


def test_a_selection_keeps_the_order(target: Callable[..., Target]) -> None:
    program = target("threads", 6)
    table = cptbpf.tasks(pidns=program.ns_inode)
    wanted = set(program.tids()[::2])
    some = table.only(wanted)
    assert list(some) == [state for state in table if state.host_pid in wanted]
    assert len(table.only(())) == 0
    assert list(table.only(())) == []
    assert table.only(()).column("pid") == []


def test_both_programs_read_the_same_of_a_task_that_sleeps(target: Callable[..., Target]) -> None:
    program = target("specimen", init=True)
    with TaskReader() as reader:
        reader.ask(program.ns_inode, reader.own_level + 1)
        table = {state.host_pid: state for state in reader.states()}
        full = {task.state.host_pid: task.state for task in reader.full(registers=True, stacks=True).tasks()}
        plain = list(reader.full().tasks())
    assert table == full
    assert all(not task.stack and not task.xstate for task in plain)


def test_records_of_another_version_are_refused() -> None:
    whole = TASK_RECORD.size.to_bytes(4, "little") + bytes(TASK_RECORD.size - 4)
    assert len(TaskTable(whole * 3)) == 3
    assert len(TaskTable(b"")) == 0
    for data in (whole[:-1], whole + b"\0", (TASK_RECORD.size + 8).to_bytes(4, "little") + whole[4:]):
        with pytest.raises(UnsupportedError, match="another record"):
            TaskTable(data)


def test_a_pass_that_ends_in_the_midst_of_a_task_is_refused(target: Callable[..., Target]) -> None:
    program = target("threads", 0)
    with TaskReader() as reader:
        reader.ask(program.ns_inode, reader.own_level + 1)
        data = reader.full(registers=True)._data
    assert len(list(FullPass(data).tasks())) == 1
    with pytest.raises(UnsupportedError, match="midst of a task"):
        list(FullPass(data[:-8]).tasks())


def test_a_thousand_threads_in_one_pass(target: Callable[..., Target]) -> None:
    """More than one buffer of the iterator holds, with and without registers."""
    program = target("threads", 1000)
    tids = set(program.tids())
    assert len(tids) == 1001
    with TaskReader() as reader:
        reader.ask(program.ns_inode, reader.own_level + 1)
        first = list(reader.states())  # grows as it is read
        assert {state.host_pid for state in first} == tids
        assert len(first) == 1001
        assert [state.host_pid for state in reader.states()] == [state.host_pid for state in first]  # room from the start
        whole = reader.full(registers=True, stacks=True)
    full = list(whole.tasks())
    assert {task.state.host_pid for task in full} == tids
    assert len(full) == 1001
    assert whole.running == 1001  # once each, though one at the end of every buffer is shown twice
