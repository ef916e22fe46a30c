"""Programs to look at: started in fresh pid namespaces, waited for, and gone again whatever happens.

A C target is ``tests/targets/NAME.c``. It says what a test needs to know in lines on its standard output and, once it is in
the state that the test is about, the line ``ready``. It may wait for commands on its standard input. A line
``// build: FLAGS`` among its first ten adds flags for gcc: a 32-bit target asks for ``-m32 -static -nostdlib``, is
free-standing, and then needs no 32-bit library on the machine.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")
TARGETS = Path(__file__).parent / "targets"
READY = "ready"
NS_GET_PARENT = 0xB702  # ioctl_ns(2)
# An emulated machine is that much slower: every time-out of the tests is multiplied by it.
SLOWNESS = float(os.environ.get("CPTBPF_TEST_SLOWNESS", "1"))


def often(count: int) -> int:
    """How often to repeat what might go wrong at some instants alone: on an emulated machine a fifth, but at least 5 times."""
    return count if SLOWNESS == 1 else min(count, max(5, count // 5))


def until(condition: Callable[[], T], what: str, timeout: float = 10) -> T:
    """Wait until ``condition()`` is true and return its value; AssertionError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout * SLOWNESS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.002)
    return value


@cache
def build(name: str) -> Path:
    """The compiled tests/targets/NAME.c. Compiled once, and again when it, a header or the compiler has changed."""
    source = TARGETS / f"{name}.c"
    text = source.read_text()
    match = re.search(r"^// build:(.*)$", "\n".join(text.splitlines()[:10]), re.MULTILINE)
    flags = ["-O1", "-g", "-Wall", "-Werror", "-pthread", *(match[1].split() if match else ())]
    if "-m32" in flags:  # the kernel's asm/ headers serve both sizes, but gcc -m32 does not look there by itself
        flags += ["-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie", "-isystem", "/usr/include/x86_64-linux-gnu"]
        flags.remove("-pthread")
    compiler = subprocess.run(["gcc", "--version"], check=True, capture_output=True, text=True).stdout
    headers = [path.read_text() for path in sorted(TARGETS.glob("*.h"))]
    key = hashlib.sha256("\0".join([text, *headers, *flags, compiler]).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cptbpf" / "targets"
    program = folder / f"{name}-{key}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / name
            subprocess.run(["gcc", *flags, "-o", made, source], check=True)
            made.rename(program)
    return program


class Level(NamedTuple):
    """One pid namespace that a target is in."""

    inode: int
    pid: int  # the target's, in this namespace


class Target:
    """A program that runs.

    ``host_pid`` is its pid here, ``pid`` the one in its own namespace, whose inode is ``ns_inode`` and whose init has the host
    pid ``init_pid``. ``levels`` are the fresh namespaces, outermost first; the last one is its own. ``lines`` is what it said
    before it was ready. ``proc`` is the process that the test started (unshare, or the program itself).
    """

    def __init__(self, argv: Sequence[str], nested: int, init: bool, ready: bool, flags: Sequence[str]) -> None:
        stages = [[*argv]]
        if init:  # "exit" keeps the shell from becoming the program
            stages.append(["/bin/sh", "-c", '"$@"; exit $?', "init", *stages[-1]])
        for _ in range(nested):
            stages.append(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *flags, "--", *stages[-1]])
        command = ["setpriv", "--pdeathsig", "KILL", "--", *stages[-1]]  # should the test run itself be killed
        self._starters = {b"".join(os.fsencode(word) + b"\0" for word in stage) for stage in (*stages[1:], command)}
        self.name = os.path.basename(argv[0])
        self._buffer = bytearray()
        self._killers: list[int] = []
        self.proc = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True, close_fds=True
        )
        self._open = True
        try:
            self.lines = list(iter(self.read_line, READY)) if ready else []
            self._find(nested, init, ready)
        except BaseException:
            self.close()
            raise

    def _find(self, nested: int, init: bool, executed: bool) -> None:
        chain = [self.proc.pid]
        for _ in range(nested + init):
            chain.append(until(lambda: next(iter(children(chain[-1])), 0), f"{self.name} to be started"))
        self.host_pid = chain[-1]
        if not executed:
            until(self._executed, f"{self.name} to be executed")
        self._killers = [os.pidfd_open(pid) for pid in (*chain[1:2], self.host_pid)]
        pids = [int(pid) for pid in self.status("NSpid").split()]
        self.levels = tuple(Level(pid_ns(chain[1 + depth]), pids[1 + depth]) for depth in range(nested))
        self.ns_inode = pid_ns(self.host_pid)
        self.pid = pids[-1]
        self.init_pid = chain[nested] if nested else 1

    def _executed(self) -> bool:
        """Whether the program has taken the place of what started it. A zombie has been what it was to be."""
        cmdline = Path(f"/proc/{self.host_pid}/cmdline").read_bytes()
        return cmdline not in self._starters and (cmdline != b"" or self.status("State")[0] == "Z")

    def say(self, line: str) -> None:
        """Write one line to the program's standard input."""
        assert self.proc.stdin
        self.proc.stdin.write(line.encode() + b"\n")

    def read_line(self, timeout: float = 20) -> str:
        """The next line that the program says; AssertionError when it ends, or says nothing for ``timeout`` seconds."""
        assert self.proc.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.proc.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                assert selector.select(timeout * SLOWNESS), f"{self.name} says nothing"
                piece = os.read(self.proc.stdout.fileno(), 65536)
                assert piece, f"{self.name} ended with status {self.proc.wait()} after {bytes(self._buffer)!r}"
                self._buffer += piece
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return line.decode()

    def status(self, key: str, tid: int = 0) -> str:
        """A value of /proc/PID/task/TID/status, of the leader by default. ``tid`` is a host pid."""
        text = Path(f"/proc/{self.host_pid}/task/{tid or self.host_pid}/status").read_text(errors="replace")
        return next(line.partition(":")[2].strip() for line in text.split("\n") if line.startswith(key + ":"))

    def tids(self) -> list[int]:
        """Host pids of the program's threads, in ascending order."""
        return sorted(int(tid) for tid in os.listdir(f"/proc/{self.host_pid}/task"))

    def members(self) -> list[int]:
        """Host pids of the processes in the outermost of the fresh namespaces and below it, in ascending order."""
        return sorted(pid for pid in pids_here() if self.levels and self.levels[0].inode in pid_ns_chain(pid))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the program."""
        os.kill(self.host_pid, number)

    def alive(self) -> bool:
        """Whether the program runs: neither gone nor a zombie."""
        try:
            return self.status("State")[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def close(self) -> None:
        """End everything that was started, the whole of the namespaces included, and wait until it has ended."""
        if not self._open:
            return
        self._open = False
        # The outermost fresh init takes its namespace with it. --kill-child alone would not do: a program that changes its
        # credentials loses that signal.
        for pidfd in self._killers:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert self.proc.stdin and self.proc.stdout
        self.proc.stdin.close()
        self.proc.stdout.close()
        if self._killers:  # unshare then ends by itself, and reaps what would be left to the machine's init otherwise
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.proc.wait(5 * SLOWNESS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.proc.pid, signal.SIGKILL)
        self.proc.wait(20 * SLOWNESS)
        with selectors.DefaultSelector() as selector:
            for pidfd in self._killers:
                selector.register(pidfd, selectors.EVENT_READ)
                selector.select(20 * SLOWNESS)
                selector.unregister(pidfd)
                os.close(pidfd)


def pids_here() -> list[int]:
    """Every process that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid: int) -> list[int]:
    """Host pids of a process's children, oldest first."""
    found = []
    for child in pids_here():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            after_comm = Path(f"/proc/{child}/stat").read_bytes().rpartition(b") ")[2].split()
            if int(after_comm[1]) == pid:
                found.append(child)
    return sorted(found)


def pid_ns(pid: int) -> int:
    """Inode number of the pid namespace that a process is in."""
    return os.stat(f"/proc/{pid}/ns/pid").st_ino


def pid_ns_chain(pid: int) -> list[int]:
    """Inode numbers of a process's pid namespace and of that namespace's ancestors as far as they can be seen from here."""
    inodes: list[int] = []
    try:
        fd = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
    except OSError:  # gone, or not ours to look at: then it is no child of ours either
        return inodes
    while fd >= 0:
        inodes.append(os.fstat(fd).st_ino)
        try:
            parent = fcntl.ioctl(fd, NS_GET_PARENT)
        except PermissionError:  # what is above our own is not ours to see
            parent = -1
        os.close(fd)
        fd = parent
    return inodes
