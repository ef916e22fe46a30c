"""Readers of the shared iterators: many at once, killed ones, and ones without room."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, programs
from cptbpf.kernel.tasks import TaskReader
from tests.harness import SLOWNESS, Target

pytestmark = pytest.mark.bpf

ROUNDS = 200
ROOT = Path(__file__).parent.parent.parent


def read_often(inode: int, level: int, wanted: set[int], registers: bool) -> list[set[int]]:
    """Reads a namespace again and again; what was seen beside what is in it."""
    wrong = []
    with TaskReader() as reader:
        reader.ask(inode, level)
        for turn in range(ROUNDS):
            if registers and turn % 2:
                seen = [task.state.host_pid for task in reader.full(registers=True, stacks=True).tasks()]
            else:
                seen = reader.states().column("host_pid")
            if set(seen) != wanted or len(seen) != len(wanted):
                wrong.append(set(seen) ^ wanted)
    return wrong


def test_threads_that_read_different_namespaces_do_not_mix_up(target: Callable[..., Target]) -> None:
    two = [target("threads", 40), target("threads", 55)]
    wrong: list[set[int]] = []
    failed: list[BaseException] = []

    def read(program: Target, registers: bool) -> None:
        try:
            wrong.extend(read_often(program.ns_inode, 1, set(program.tids()), registers))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read, args=(program, registers)) for program in two for registers in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60 * SLOWNESS)
    assert (wrong, failed) == ([], [])


def test_processes_that_read_different_namespaces_do_not_mix_up(target: Callable[..., Target]) -> None:
    script = (
        "import sys; from tests.kernel.test_readers import read_often\n"
        "inode, registers, *wanted = map(int, sys.argv[1:])\n"
        "print(read_often(inode, 1, set(wanted), bool(registers)))\n"
    )
    readers = []
    for count, program in enumerate((target("threads", 30), target("threads", 45))):
        command = [sys.executable, "-c", script, str(program.ns_inode), str(count), *map(str, program.tids())]
        readers += [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)]
    assert [reader.communicate(timeout=60 * SLOWNESS)[0] for reader in readers] == [b"[]\n"] * 4


@pytest.fixture
def own_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskReader]:
    """A reader with programs and a map that no other process uses."""
    monkeypatch.setattr(programs, "open_set", lambda name: programs.open_private(name).descriptors)
    with TaskReader() as reader:
        yield reader


def fill(reader: TaskReader, pids: Iterator[int]) -> int:
    """Enters readers until the map is full; how many there are."""
    value = bytes(bpf.map_value_size(reader._readers))
    count = 0
    while True:
        try:
            bpf.map_update(reader._readers, next(pids).to_bytes(8, "little"), value)
        except OSError:
            return count
        count += 1


def test_entries_of_killed_readers_are_swept_when_the_map_is_full(
    target: Callable[..., Target], own_reader: TaskReader
) -> None:
    program = target("threads", 3)
    own_reader.ask(program.ns_inode, 1)
    assert fill(own_reader, iter(range(1 << 23, 1 << 24))) == 256  # above every pid that can be
    assert set(own_reader.states().column("host_pid")) == set(program.tids())
    assert bpf.map_keys(own_reader._readers, 8) == []


def test_entries_of_readers_that_live_are_left_to_them(target: Callable[..., Target], own_reader: TaskReader) -> None:
    program = target("threads", 300)
    own_reader.ask(program.ns_inode, 1)
    assert fill(own_reader, (tid << 32 | tid for tid in program.tids())) == 256
    with pytest.raises(UnsupportedError, match="256") as caught:
        own_reader.states()
    assert "\n" not in str(caught.value)
    assert len(bpf.map_keys(own_reader._readers, 8)) == 256


def test_a_pass_leaves_no_entry_behind(target: Callable[..., Target], own_reader: TaskReader) -> None:
    own_reader.ask(target("threads", 3).ns_inode, 1)
    own_reader.states()
    list(own_reader.full(registers=True).tasks())
    assert bpf.map_keys(own_reader._readers, 8) == []


def test_a_pass_without_an_entry_is_no_empty_namespace(target: Callable[..., Target], own_reader: TaskReader) -> None:
    """Where another took the entry away meanwhile, the pass is refused: it would be cut short unnoticed."""
    own_reader.ask(target("threads", 3).ns_inode, 1)
    register = own_reader._register

    def robbed(key: bytes, value: bytes) -> None:
        register(key, value)
        bpf.map_delete(own_reader._readers, key)

    own_reader._register = robbed  # type: ignore[method-assign]
    with pytest.raises(UnsupportedError):
        own_reader.states()


def test_descriptors_are_closed(target: Callable[..., Target]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with TaskReader() as reader:
        reader.ask(target("threads", 1).ns_inode, 1)
        reader.states()
        within = len(os.listdir("/proc/self/fd"))
    # the target's own pipes and pidfds are there on both sides
    assert len(os.listdir("/proc/self/fd")) == within - 3
    assert within > before
