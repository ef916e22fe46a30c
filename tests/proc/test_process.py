import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.proc.absent import GONE, Absent
from cptbpf.proc.process import CMDLINE_MAX, Process, cgroup_path
from tests.harness import Target, until

Spawn = Callable[..., Target]


def test_executable_command_line_and_cgroup_are_the_process_own(spawn: Spawn) -> None:
    sleeper = spawn(["sh", "-c", "read line; exit", "", "\x1b[31m\n\udcff"])
    program = Path(shutil.which("sh") or "").resolve()
    with Process(sleeper.host_pid) as process:
        assert process.comm() == b"sh"
        assert process.cmdline() == b"sh\0-c\0read line; exit\0\0\x1b[31m\n\xff\0"
        assert process.exe_path() == os.fsencode(program)
        with Process(os.getpid()) as ours:
            assert process.cgroup() == ours.cgroup()
        fd = process.open_exe()
        assert isinstance(fd, int)
        assert os.path.samestat(os.fstat(fd), program.stat())
        assert os.pread(fd, 4, 0) == b"\x7fELF"
        os.close(fd)


def test_a_deleted_executable_is_still_the_one_that_runs(spawn: Spawn, tmp_path: Path) -> None:
    program = tmp_path / "a program"
    shutil.copy(shutil.which("sleep") or "", program)
    inode = program.stat().st_ino
    sleeper = spawn([str(program), "100"])
    program.unlink()
    with Process(sleeper.host_pid) as process:
        assert process.exe_path() == os.fsencode(program) + b" (deleted)"
        fd = process.open_exe()
    assert isinstance(fd, int)
    assert os.fstat(fd).st_ino == inode
    os.close(fd)


def test_a_long_command_line_is_cut(spawn: Spawn) -> None:
    sleeper = spawn(["sh", "-c", "sleep 100; exit", *["x" * 50000] * 3])
    with Process(sleeper.host_pid) as process:
        cmdline = process.cmdline()
    assert isinstance(cmdline, bytes)
    assert len(cmdline) == CMDLINE_MAX
    assert cmdline.startswith(b"sh\0-c\0sleep 100; exit\0xxx")


def test_a_vanished_process_is_absent_and_no_error(spawn: Spawn) -> None:
    sleeper = spawn(["sleep", "100"], ns=False)
    early = Process(sleeper.host_pid)
    sleeper.close()
    with early, Process(sleeper.host_pid) as late:
        for process in (early, late):
            for value in (process.comm(), process.cmdline(), process.cgroup()):
                assert value == Absent(GONE)
            for value in (process.exe_path(), process.open_exe()):
                assert isinstance(value, Absent)
                assert "gone" in value.reason


def test_a_zombie_has_neither_command_line_nor_executable(spawn: Spawn) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with Process(child.pid) as process:
        assert process.cmdline() == Absent("no command line")
        assert isinstance(process.open_exe(), Absent)
        assert process.comm() == b"true"
    child.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="root may look at everything: without it nothing is to be proven here")
def test_without_permission_a_value_is_absent_with_that_reason(spawn: Spawn) -> None:
    sleeper = spawn(["sleep", "100"])
    script = "import sys; from cptbpf.proc.process import Process; print(Process(int(sys.argv[1])).exe_path())"
    command = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", script, str(sleeper.host_pid)]
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run(command, env=path, capture_output=True, text=True, check=True).stdout
    assert said == "Absent(reason='no permission')\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"0::/system.slice/a:b.service\n", b"/system.slice/a:b.service"),
        (b"0::/\n", b"/"),
        (b"12:pids:/p\n1:name=systemd:/s\n0::/\n", b"/s"),
        (b"12:pids:/p\n1:name=systemd:/s\n0::/two\n", b"/two"),
        (b"4:cpu,cpuacct:/c\n3:net_cls:/n\n", b"/c"),
        (b"3:net_cls:/\n", b"/"),
        (b"", Absent("no cgroup")),
        (b"rubbish", Absent("no cgroup")),
    ],
)
def test_the_cgroup_that_says_most(text: bytes, path: bytes | Absent) -> None:
    assert cgroup_path(text) == path


@pytest.mark.ptrace
def test_an_executable_is_not_read_where_its_file_system_may_hang(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that only the target's mount namespace has stands in for a FUSE one."""
    script = 'mount -t tmpfs none /mnt && cp "$(command -v sleep)" /mnt/program && exec /mnt/program 100'
    program = spawn(["sh", "-c", script])
    with Process(program.host_pid) as process:
        until(lambda: process.exe_path() == b"/mnt/program", "the program to be executed")
        fd = process.open_exe()
        assert isinstance(fd, int)
        os.close(fd)
        monkeypatch.setattr("cptbpf.proc.namespaces.MAY_HANG", (b"tmpfs",))
        refused = process.open_exe()
        assert refused == Absent("not read: the executable is on tmpfs, which might never answer")


def test_an_executable_of_a_mount_that_the_process_has_left_is_known_by_its_device(spawn: Spawn) -> None:
    # unshare is executed on a mount of the namespace that it then leaves
    program = spawn(["unshare", "--mount", "--fork", "sleep", "1000"])
    until(lambda: len(program.members()) > 1, "the program to be started")
    with Process(program.host_pid) as process:
        found = os.stat(f"/proc/{program.host_pid}/exe")
        assert isinstance(process.open_exe(), Absent)
        fd = process.open_exe(os.major(found.st_dev) << 20 | os.minor(found.st_dev))
        assert isinstance(fd, int)
        assert os.fstat(fd).st_ino == found.st_ino
        os.close(fd)
