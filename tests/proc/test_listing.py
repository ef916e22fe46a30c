import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.proc.listing import Container, Listed, container, listing
from tests.harness import Target, until

Spawn = Callable[..., Target]


def _rows() -> dict[int, Listed]:
    return {row.inode: row for row in listing()}


@pytest.mark.ptrace
def test_nested_namespaces_with_leader_counts_and_parents(spawn: Spawn) -> None:
    sleeper = spawn(["sleep", "100"], nested=2, init=True)
    rows = _rows()
    outer, inner = (rows[level.inode] for level in sleeper.levels)
    own = rows[os.stat("/proc/self/ns/pid").st_ino]
    assert (own.depth, outer.depth, inner.depth) == (0, 1, 2)
    assert (outer.parent, inner.parent) == (own.inode, outer.inode)
    assert inner.leader == sleeper.init_pid
    assert inner.comm == b"sh"
    assert isinstance(inner.cmdline, bytes) and inner.cmdline.endswith(b"\0sleep\x00100\0")
    assert inner.user_ns == os.stat("/proc/self/ns/user").st_ino
    assert (inner.processes, inner.tasks) == (2, 2)  # the shell and sleep
    assert (outer.processes, outer.tasks) == (3, 3)  # unshare besides
    order = [row.inode for row in listing()]
    assert order.index(own.inode) < order.index(outer.inode) < order.index(inner.inode)


@pytest.mark.ptrace
def test_threads_and_zombies_count_as_tasks(spawn: Spawn) -> None:
    script = (
        "import threading, time\n"
        "for _ in range(3): threading.Thread(target=time.sleep, args=(100,)).start()\n"
        "print('ready', flush=True)"
    )
    threads = spawn(["/usr/bin/python3", "-c", script], ready=True)
    assert (_rows()[threads.ns_inode].processes, _rows()[threads.ns_inode].tasks) == (1, 4)
    zombie = spawn(["sh", "-c", "true & exec sleep 100"])
    until(lambda: any(" Z " in Path(f"/proc/{pid}/stat").read_text() for pid in zombie.members()), "a zombie")
    assert (_rows()[zombie.ns_inode].processes, _rows()[zombie.ns_inode].tasks) == (2, 2)


def test_a_namespace_that_ended_is_not_listed(spawn: Spawn) -> None:
    sleeper = spawn(["sleep", "100"])
    sleeper.close()
    assert all(row.leader != sleeper.host_pid for row in listing())


ID = "0123456789abcdef" * 4
POD = "1b2c3d4e_aaaa_bbbb_cccc_123456789012"


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        (f"/system.slice/docker-{ID}.scope", Container("docker", ID)),
        (f"/docker/{ID}", Container("docker", ID)),
        (f"/docker/{ID}/docker/{ID[::-1]}", Container("docker", ID[::-1])),
        (f"/machine.slice/libpod-{ID}.scope/container", Container("podman", ID)),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", Container("podman", ID)),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice/cri-containerd-{ID}.scope",
            Container("containerd", ID, POD.replace("_", "-")),
        ),
        (f"/kubepods.slice/kubepods-pod{POD}.slice/crio-{ID}.scope", Container("cri-o", ID, POD.replace("_", "-"))),
        (
            f"/kubepods/besteffort/pod{POD.replace('_', '-')}/{ID}",
            Container("kubernetes", ID, POD.replace("_", "-")),
        ),
        ("/lxc.payload.web/init.scope", Container("lxc", "web")),
        ("/lxc/web", Container("lxc", "web")),
        ("/machine.slice/systemd-nspawn@build.service/payload", Container("systemd-nspawn", "build")),
        ("/machine.slice/machine-qemu.scope", Container("machine", "qemu")),
        (f"/default/{ID}", Container("containerd", ID)),
        (f"/system.slice/nerdctl-{ID}.scope", Container("containerd", ID)),
        ("/system.slice/docker.service", None),
        ("/user.slice", None),
        ("/", None),
    ],
)
def test_containers_are_recognised_by_their_cgroup(cgroup: str, found: Container | None) -> None:
    assert container(cgroup.encode()) == found


@pytest.mark.ptrace
def test_a_container_is_found_through_the_cgroup_that_it_is_in(spawn: Spawn) -> None:
    places = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
    hierarchy = next((path for path in places if (path / "cgroup.procs").exists()), None)
    if hierarchy is None:
        pytest.skip("no cgroup hierarchy is mounted here")
    sleeper = spawn(["sleep", "100"])
    name = f"docker-{os.getpid():064x}.scope"
    place = hierarchy / name
    place.mkdir()
    try:
        (place / "cgroup.procs").write_text(str(sleeper.host_pid))
        row = _rows()[sleeper.ns_inode]
        assert isinstance(row.cgroup, bytes)
        assert row.cgroup.endswith(b"/" + name.encode())
        assert row.container == Container("docker", f"{os.getpid():064x}")
    finally:
        sleeper.close()
        until(lambda: not (place / "cgroup.procs").read_text(), "the cgroup to be empty")
        place.rmdir()
