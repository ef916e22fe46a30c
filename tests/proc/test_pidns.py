import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.errors import PrivilegeError, TargetError
from cptbpf.proc import pidns
from tests.harness import Target, often, until

Spawn = Callable[..., Target]


@pytest.mark.ptrace
@pytest.mark.parametrize("form", ["pid:[{inode}]", "{inode}", "{pid}", "/proc/{pid}/ns/pid"])
def test_every_form_of_name_finds_the_namespace(spawn: Spawn, form: str) -> None:
    sleeper = spawn(["sleep", "100"])
    found = pidns.resolve(form.format(inode=sleeper.ns_inode, pid=sleeper.host_pid))
    assert found.inode == sleeper.ns_inode == os.fstat(found.fd).st_ino
    assert found.member == sleeper.host_pid
    assert found.depth == 1
    found.close()


@pytest.mark.ptrace
def test_depth_and_level_count_from_our_own(spawn: Spawn) -> None:
    sleeper = spawn(["sleep", "100"], nested=3)
    own = pidns.own()
    assert own.inode == os.stat("/proc/self/ns/pid").st_ino
    assert own.depth == 0
    assert own.level == (0 if own.inode == pidns.INITIAL else None)
    own.close()
    parent = own.inode
    for depth, level in enumerate(sleeper.levels, 1):
        found = pidns.by_inode(level.inode)
        assert found.depth == depth
        assert found.level == (depth if own.level == 0 else None)
        assert pidns.parent_inode(found.fd) == parent
        found.close()
        parent = level.inode


@pytest.mark.ptrace
def test_the_owning_user_namespace_is_told(spawn: Spawn) -> None:
    ours = spawn(["sleep", "100"])
    other = spawn(["sleep", "100"], flags=["--user", "--map-root-user"])
    for sleeper, same in ((ours, True), (other, False)):
        found = pidns.of_process(sleeper.host_pid)
        assert found.user_ns == os.stat(f"/proc/{sleeper.host_pid}/ns/user").st_ino
        assert (found.user_ns == os.stat("/proc/self/ns/user").st_ino) is same
        found.close()


@pytest.mark.ptrace
def test_a_bind_mounted_namespace_is_found_until_nobody_is_in_it(spawn: Spawn, tmp_path: Path) -> None:
    place = tmp_path / "namespace"
    place.touch()
    sleeper = spawn(["sleep", "100"])
    subprocess.run(["mount", "--bind", f"/proc/{sleeper.host_pid}/ns/pid", place], check=True)
    try:
        found = pidns.resolve(str(place))
        assert (found.inode, found.member) == (sleeper.ns_inode, sleeper.host_pid)
        found.close()
        sleeper.close()
        with pytest.raises(TargetError, match="no process is in"):
            pidns.resolve(str(place))
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "is not a pid namespace"),
        ("web", "is not a pid namespace"),
        ("pid:[12", "is not a pid namespace"),
        ("pid:[]", "is not a pid namespace"),
        ("-1", "is not a pid namespace"),
        ("٣", "is not a pid namespace"),
        ("net:[4026531840]", "is not a pid namespace"),
        ("99999999999999999999", "is not a pid namespace"),
        ("4294967295", "is in a pid namespace pid:[4294967295]"),
        ("pid:[7]", "is in a pid namespace pid:[7]"),
        ("0", "there is no process 0"),
        ("/nowhere/at/all", "No such file"),
        ("/proc", "is not a pid namespace"),
        ("/dev/zero", "is not a pid namespace"),
        ("/etc/passwd", "is not a pid namespace"),
        ("/proc/self/ns/net", "is a network namespace"),
        ("/proc/self/ns/user", "is a user namespace"),
        ("/a\0b", "is not a pid namespace"),
    ],
)
def test_what_is_no_pid_namespace_is_refused_with_a_remedy(spec: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        pidns.resolve(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "cptbpf list" in caught.value.remedy


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(TargetError, match="is not a pid namespace"):
        pidns.resolve(str(fifo))


def test_a_process_that_ended_is_named(spawn: Spawn) -> None:
    sleeper = spawn(["sleep", "100"], ns=False)
    sleeper.close()
    with pytest.raises(TargetError, match=f"no process {sleeper.host_pid}"):
        pidns.resolve(str(sleeper.host_pid))
    with pytest.raises(TargetError, match=f"no process {sleeper.host_pid}"):
        pidns.resolve(f"/proc/{sleeper.host_pid}/ns/pid")


def test_a_process_that_ends_while_it_is_looked_at_is_no_matter_of_privilege() -> None:
    """The kernel answers EACCES when it ends between the look-up of its folder and that of its namespace."""
    for _ in range(often(500)):
        child = os.fork()
        if not child:
            os._exit(0)
        reaper = threading.Thread(target=os.waitpid, args=(child, 0))
        reaper.start()
        with pytest.raises(TargetError, match=f"no process {child}"):
            while True:
                pidns.of_process(child).close()
        reaper.join()


def test_no_refusal_leaks_a_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    for spec in ("/proc/self/ns/net", "/etc/passwd", "pid:[7]"):
        with pytest.raises(TargetError):
            pidns.resolve(spec)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.ptrace
def test_outside_and_foreign_views_are_told_apart(spawn: Spawn) -> None:
    """From inside a fresh pid namespace: ours is not below it, and a /proc of ours is not its own."""
    script = (
        "import sys; from cptbpf.proc import pidns; from cptbpf.errors import CptbpfError\n"
        "try: print(pidns.resolve(sys.argv[1]).depth)\n"
        "except CptbpfError as error: print(type(error).__name__, error)\n"
        "print('ready'); input()"
    )
    environment = ["env", f"PYTHONPATH={Path(pidns.__file__).parents[2]}", sys.executable, "-c", script]
    inside = spawn([*environment, "/proc/self/ns/pid"], ready=True)
    assert inside.lines == ["0"]
    outer = f"/proc/{os.getpid()}/ns/pid"
    foreign = spawn(["sh", "-c", 'umount -l /proc; exec "$@"', "sh", *environment, "/proc/self/ns/pid"], ready=True)
    assert foreign.lines[0].startswith("UnsupportedError /proc ")
    # A bind mount of our namespace, seen from a pid namespace below it.
    script = (
        f"mount -t tmpfs none /mnt; touch /mnt/outer; mount --bind {outer} /mnt/outer; "
        'exec unshare --pid --fork --mount-proc --kill-child -- "$@" /mnt/outer'
    )
    above = spawn(["unshare", "--mount", "sh", "-c", script, "sh", *environment], ready=True, ns=False)
    assert above.lines[0].startswith("TargetError the pid namespace '/mnt/outer' is not inside")


def test_without_privilege_the_message_says_so(spawn: Spawn) -> None:
    if os.geteuid():
        with pytest.raises(PrivilegeError):
            pidns.of_process(1)
        return
    sleeper = spawn(["sleep", "100"])
    script = (
        "import sys; from cptbpf.proc import pidns; from cptbpf.errors import CptbpfError\n"
        "for spec in sys.argv[1:]:\n"
        "    try: pidns.resolve(spec)\n"
        "    except CptbpfError as error: print(error.exit_code, error, error.remedy)\n"
    )
    arguments = [str(sleeper.host_pid), str(sleeper.ns_inode), f"/proc/{sleeper.host_pid}/ns/pid"]
    command = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", script, *arguments]
    path = {**os.environ, "PYTHONPATH": str(Path(pidns.__file__).parents[2])}
    said = subprocess.run(command, env=path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith(f"3 the namespaces of process {sleeper.host_pid} may not be looked at")
    assert said[1].startswith("2 no process that you may look at is in")
    assert said[2] == said[0]


def test_a_zombie_is_still_in_its_namespace(spawn: Spawn) -> None:
    parent = spawn(["sh", "-c", "true & exec sleep 100"])
    zombie = until(lambda: [pid for pid in parent.members() if _state(pid) == "Z"], "a zombie")[0]
    found = pidns.of_process(zombie)
    assert found.inode == parent.ns_inode
    found.close()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
