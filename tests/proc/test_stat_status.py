"""The two witnesses, against comms that try to look like something else, and against what the task did."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.proc import stat
from tests import procstatus as status
from tests.harness import Target, until

Spawn = Callable[..., Target]
NAMES = [b") R 1 (x", b"a\nPid:\t1", b"\\n", b"\xff\x80\t ", b"((", b"))", b"", b") Z 0 0 0 0 0 0", b"\x1b[2J\\\\\n"]


@pytest.mark.parametrize("name", NAMES)
def test_any_comm_is_read_as_the_kernel_holds_it(name: bytes) -> None:
    done = threading.Event()
    ready = threading.Event()
    tid = 0

    def named() -> None:
        nonlocal tid
        tid = threading.get_native_id()
        Path(f"/proc/self/task/{tid}/comm").write_bytes(name or b"\0")
        ready.set()
        done.wait()

    thread = threading.Thread(target=named)
    thread.start()
    try:
        ready.wait()
        until(lambda: stat.read(os.getpid(), tid).state == "S", "the thread to sleep")
        seen_stat = stat.read(os.getpid(), tid)
        seen_status = status.read(os.getpid(), tid)
    finally:
        done.set()
        thread.join()
    assert seen_stat.comm == seen_status.name == name[:15]
    assert seen_stat.pid == seen_status.pid == tid
    assert seen_stat.ppid == seen_status.ppid == os.getppid()
    assert seen_stat.state == seen_status.state == "S"


def test_every_field_stands_where_proc_5_says(spawn: Spawn) -> None:
    more = 5 - os.getpriority(os.PRIO_PROCESS, 0)
    command = ["chrt", "--batch", "0", "nice", "-n", str(more), "taskset", "1", "sleep", "100"]
    sleeper = spawn(command, init=True)
    until(lambda: stat.read(sleeper.host_pid, sleeper.host_pid).comm == b"sleep", "sleep to be executed")
    seen = stat.read(sleeper.host_pid, sleeper.host_pid)
    text = Path(f"/proc/{sleeper.host_pid}/stat").read_text().split()
    assert len(text) == len(seen)
    assert (seen.comm, seen.ppid, seen.num_threads) == (b"sleep", sleeper.init_pid, 1)
    assert (seen.nice, seen.priority, seen.policy, seen.processor) == (5, 25, 3, 0)
    assert seen.exit_signal == signal.SIGCHLD
    assert seen.starttime == int(text[21])
    assert seen.exit_code == int(text[51])


@pytest.mark.ptrace
def test_status_tells_ids_masks_and_capabilities(spawn: Spawn) -> None:
    ids = ["--reuid", "1234", "--regid", "2345", "--groups", "7,8"]
    sleeper = spawn(["setpriv", *ids, "--bounding-set", "-all,+kill", "--no-new-privs", "sleep", "100"], nested=2, init=True)
    until(lambda: status.read(sleeper.host_pid, sleeper.host_pid).name == b"sleep", "sleep to be executed")
    before = int(sleeper.status("voluntary_ctxt_switches"))
    seen = status.read(sleeper.host_pid, sleeper.host_pid)
    assert before <= seen.nvcsw <= int(sleeper.status("voluntary_ctxt_switches"))
    assert seen.name == b"sleep"
    assert seen.uid == (1234,) * 4
    assert seen.gid == (2345,) * 4
    assert seen.groups == (7, 8)
    assert seen.no_new_privs == 1
    assert (seen.cap_effective, seen.cap_bset) == (0, 1 << 5)
    assert seen.nspid == (sleeper.host_pid, *(level.pid for level in sleeper.levels))
    assert seen.nstgid == seen.nspid
    assert seen.cpus_allowed == int(sleeper.status("Cpus_allowed").replace(",", ""), 16)
    assert seen.tracer_pid == 0


def test_status_tells_signals() -> None:
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG, signal.SIGRTMAX})
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGRTMAX)
        seen = status.read(os.getpid(), threading.get_native_id())
        assert seen.sig_caught >> signal.SIGUSR1 - 1 & 1
        assert seen.sig_ignored >> signal.SIGUSR2 - 1 & 1
        assert seen.sig_blocked >> signal.SIGURG - 1 & 1
        assert seen.sig_pending == 1 << signal.SIGRTMAX - 1
    finally:
        signal.sigtimedwait({signal.SIGRTMAX}, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGUSR1, old)
        signal.signal(signal.SIGUSR2, ignored)


@pytest.mark.parametrize("text", [b"", b"1 (x", b"1 (x) R 1 2", b"x (y) " + b"1 " * 50])
def test_what_is_no_stat_file_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"stat|literal"):
        stat.parse(text)


@pytest.mark.parametrize("text", [b"", b"Name:\tx\nState:\n", b"Name:\tx\nState:\tR\nTgid:\n"])
def test_what_is_no_status_file_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"status|literal"):
        status.parse(text)
