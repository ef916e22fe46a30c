"""Harm none: whatever happens to cptbpf, no task stays stopped, no signal is lost, no half of a file is left."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cptbpf
from cptbpf import cpu
from cptbpf.errors import TargetError, UnsupportedError
from tests.conductors import witness
from tests.conductors.shots import assert_whole, shoot
from tests.conductors.test_freeze import assert_free
from tests.harness import SLOWNESS, Target, often, until
from tests.trace.freezing import status

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace]


def test_twenty_thousand_queued_signals_arrive_in_order(target: Callable[..., Target]) -> None:
    storm = target("signalstorm", 20_000)
    storm.say("go")
    for turn in range(often(50)):
        shot = shoot(storm, registers="bpf" if turn % 2 else "ptrace")
        assert shot.summary.partial == ()
    assert [storm.read_line(60) for _ in range(3)] == ["received 20000", "misordered 0", "status 0"]


def test_pending_signals_are_in_the_image_and_stay_pending(target: Callable[..., Target]) -> None:
    program = target("specimen")
    masks = program.status("SigPnd"), program.status("ShdPnd")
    for _ in range(3):
        shot = shoot(program)
        found = shot.get(program.host_pid, "sig_pending", "sig_shared_pending")
        assert found == tuple(int(mask, 16) for mask in masks)
    assert (program.status("SigPnd"), program.status("ShdPnd")) == masks


class Fleet:
    """Programs of every kind, one of them stopped by SIGSTOP, and what must be so of them at any time."""

    def __init__(self, target: Callable[..., Target]) -> None:
        self.spawner = target("vforkparent")
        self.held = target("stopped")
        self.others = [target("sleeper"), target("threads", 200), target("forkstorm", "mixed")]
        self.stopped = next(pid for pid in self.held.members() if pid != self.held.host_pid)
        self.all = [self.spawner, self.held, *self.others]

    def traced(self) -> bool:
        """Whether a tracer has hold of the many threads."""
        return status(self.others[1].host_pid, "TracerPid") != "0"

    def assert_unharmed(self) -> None:
        """Nobody is stopped or traced who was not, and who was is."""
        assert_free(self.spawner, *self.others)
        until(lambda: witness.state(self.stopped) == "T", "the stopped child to be back in its stop")
        assert status(self.stopped, "TracerPid") == "0"
        until(lambda: witness.state(self.held.host_pid) == "S", "its parent to go on")
        self.spawner.say("")
        assert self.spawner.read_line() == "here"


@pytest.mark.parametrize(
    ("number", "ended", "how", "times"),
    [
        (signal.SIGKILL, -signal.SIGKILL, "ptrace", 20),
        (signal.SIGKILL, -signal.SIGKILL, "bpf", 16),
        (signal.SIGTERM, -signal.SIGTERM, "ptrace", 12),
        (signal.SIGINT, 130, "ptrace", 12),
    ],
    ids=["SIGKILL-ptrace", "SIGKILL-bpf", "SIGTERM", "SIGINT"],
)
def test_an_end_at_any_instant(
    target: Callable[..., Target], tmp_path: Path, number: signal.Signals, ended: int, how: str, times: int
) -> None:
    fleet = Fleet(target)
    inodes = [str(program.ns_inode) for program in fleet.all]
    generator = random.Random(number)
    for turn in range(often(times)):
        directory = tmp_path / str(turn)
        directory.mkdir()
        command = [sys.executable, "-m", "tests.conductors.shooter", str(directory), how, *inodes]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as shooter:
            assert shooter.stdout
            assert shooter.stdout.readline() == b"ready\n"
            if turn % 2:  # at any instant of a round; else in or just behind the window of the many threads
                time.sleep(generator.uniform(0, 0.03))
            else:
                while not fleet.traced():
                    assert shooter.poll() is None
            shooter.send_signal(number)
            assert shooter.wait(60 * SLOWNESS) == ended
        fleet.assert_unharmed()
        left = sorted(directory.iterdir())
        images = [path for path in left if path.suffix == ".cpt"]
        assert len(images) >= len(inodes)
        for path in images:
            assert cptbpf.load(path).tasks
            assert path.stat().st_mode & 0o777 == 0o600
        # where files cannot be nameless, a kill may leave the one that was being written, under another name
        assert len(left) - len(images) <= (number != signal.SIGINT), left
    for program in fleet.all:
        shoot(program)
    fleet.assert_unharmed()


def test_an_existing_file_is_refused_before_anybody_is_stopped(target: Callable[..., Target], tmp_path: Path) -> None:
    program = target("threads", 1)
    path = tmp_path / "image.cpt"
    path.write_text("mine")
    until(lambda: program.status("State").startswith("S"), "the program to sleep")
    before = program.status("voluntary_ctxt_switches")
    with pytest.raises(TargetError, match=r"image\.cpt' exists already") as caught:
        cptbpf.snapshot(pidns=program.ns_inode, output=path)
    assert "--force" in caught.value.remedy
    assert path.read_text() == "mine"
    assert program.status("voluntary_ctxt_switches") == before
    summary = cptbpf.snapshot(pidns=program.ns_inode, output=path, force=True)
    assert summary.file == str(path)
    assert len(cptbpf.load(path).tasks) == 2
    assert os.listdir(tmp_path) == ["image.cpt"]


@pytest.mark.parametrize("name", ["missing/x.cpt", "", "n" * 300])
def test_a_name_that_cannot_be_written_is_refused_before_anybody_is_stopped(
    name: str, target: Callable[..., Target], tmp_path: Path
) -> None:
    program = target("sleeper")
    until(lambda: program.status("State").startswith("S"), "the program to sleep")
    before = program.status("voluntary_ctxt_switches")
    with pytest.raises(TargetError):
        cptbpf.snapshot(pidns=program.ns_inode, output=f"{tmp_path}/{name}", force=True)
    assert program.status("voluntary_ctxt_switches") == before
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("registers", ["ptrace", "bpf"])
def test_where_cpuid_cannot_be_asked_nobody_is_stopped(
    registers: str, target: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise UnsupportedError("a security policy forbids executable memory")

    program = target("sleeper")
    until(lambda: program.status("State").startswith("S"), "the program to sleep")
    before = program.status("voluntary_ctxt_switches")
    monkeypatch.setattr(cpu, "_code", refuse)
    cpu.layout.cache_clear()
    with pytest.raises(UnsupportedError, match="executable memory"):
        cptbpf.snapshot(pidns=program.ns_inode, output=tmp_path / "x.cpt", registers=registers)
    assert program.status("voluntary_ctxt_switches") == before
    assert os.listdir(tmp_path) == []
    assert_free(program)


def test_an_error_while_writing_leaves_nothing_and_nobody_stopped(target: Callable[..., Target], tmp_path: Path) -> None:
    program = target("threads", 3)
    with pytest.raises(cptbpf.errors.CptbpfError):
        cptbpf.snapshot(pidns=program.ns_inode, output=tmp_path / "no such directory" / "image.cpt")
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(cptbpf.errors.CptbpfError):
        cptbpf.snapshot(pidns=program.ns_inode, output=full)
    assert os.listdir(tmp_path) == []
    assert_free(program)
    assert_whole(shoot(program))


def test_what_a_stop_costs_a_task(target: Callable[..., Target]) -> None:
    """As signal(7) has it: epoll_wait returns EINTR, once for each stop, and not at all where nobody is stopped."""
    sleeper = target("sleeper")
    for _ in range(3):
        shoot(sleeper)
    sleeper.say("")
    assert sleeper.read_line() == "interrupted 3"
    for _ in range(5):
        shoot(sleeper, freeze=False)
    sleeper.say("")
    assert sleeper.read_line() == "interrupted 3"
