"""The run directory: what is read from it may be gone at any time, and what is swept is nobody's."""

import fcntl
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cptbpf import rundir
from tests.harness import until


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory of this test's own."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setattr(rundir, "PATH", str(path))
    return path


def test_what_is_not_there_is_none(place: Path) -> None:
    assert rundir.read(str(place / "nothing")) is None
    (place / "link").symlink_to("/etc/passwd")
    assert rundir.read(str(place / "link")) is None
    rundir.write(str(place / "file"), b"kept")
    assert rundir.read(str(place / "file")) == b"kept"


def test_what_is_no_folder_is_not_held(place: Path) -> None:
    (place / "file").write_bytes(b"")
    (place / "folder").mkdir()
    (place / "link").symlink_to(place / "folder")
    for name, there in (("nothing", False), ("file", False), ("link", False), ("folder", True)):
        with rundir.held(str(place / name)) as held:
            assert held is there


def waiters() -> str:
    """Who waits for a lock, as the kernel lists them."""
    return "".join(line for line in Path("/proc/locks").read_text().splitlines(keepends=True) if "->" in line)


def test_a_folder_that_went_away_during_the_wait_is_not_held(place: Path) -> None:
    def there() -> bool:
        with rundir.held(str(place / "folder")) as held:
            return held

    for another in (False, True):
        (place / "folder").mkdir()
        sweeper = os.open(place / "folder", os.O_RDONLY)
        inode = os.fstat(sweeper).st_ino
        fcntl.flock(sweeper, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(there)
            until(lambda inode=inode: f":{inode} " in waiters(), "the thread to wait for the lock")
            (place / "folder").rename(place / f"aside{another}")
            if another:
                (place / "folder").mkdir()
            os.close(sweeper)
            assert not waiting.result()


HOUR = 3600
OLD = 2 * HOUR


def key(number: int) -> str:
    return f"{number:032x}"


def put(path: Path, age: float = OLD) -> str:
    """A file, or a header tree, that was made so long ago."""
    if path.name.startswith("headers-"):
        (path / "include").mkdir(parents=True)
        (path / "include" / "vmlinux.h").write_text("struct nothing;")
    else:
        path.write_bytes(b"kept")
    os.utime(path, (time.time() - age,) * 2)
    return path.name


def names(place: Path) -> set[str]:
    return {entry.name for entry in place.iterdir()}


def test_the_newest_of_each_name_stay(place: Path) -> None:
    stay = set()
    for name, kept in (
        *(("objects-tasks-iter", 4), ("refusal-sample-storage", 4), ("headers", 16)),
        *(("objects-cred_watch-sched_switch", 4), ("objects-cred_watch-sched_switch-raw", 4)),  # one begins as the other does
    ):
        made = [put(place / f"{name}-{key(number)}", OLD + number) for number in range(20)]
        stay |= set(made[:kept])
    rundir.sweep()
    assert names(place) == stay
    rundir.sweep()
    assert names(place) == stay


def test_what_may_still_be_about_to_be_used_stays(place: Path) -> None:
    young = {
        put(place / f"{name}-{key(number)}", HOUR / 2) for name in ("objects-tasks-iter", "headers") for number in range(20)
    }
    old = {put(place / f"{name}-{key(20)}") for name in ("objects-tasks-iter", "headers")}
    rundir.sweep()
    assert names(place) == young
    assert not old & names(place)


def test_what_killed_runs_left_half_made_goes(place: Path) -> None:
    half = (
        *("build-ids.17", "symbols-2a51196d-757e-4a5c-8e6b-2f6f3f0f0b0f.17", f"objects-tasks-iter-{key(1)}.17"),
        *(f"refusal-sample-storage-{key(1)}.17", "headers-a_b3xyz0", f"headers-{key(1)}.17", f"headers-{key(1)}.17.18"),
    )
    for name in half:
        put(place / name, HOUR / 2)
    rundir.sweep()
    assert names(place) == set(half)
    for name in half:
        os.utime(place / name, (time.time() - OLD,) * 2)
    rundir.sweep()
    assert not names(place)


def test_what_others_named_stays(place: Path) -> None:
    stay = {
        put(place / name, 100 * OLD)
        for name in (
            *("build-ids", "symbols-2a51196d-757e-4a5c-8e6b-2f6f3f0f0b0f", "notes.txt", "notes.17", f"backup-{key(1)}"),
            *("objects-tasks-iter", f"objects-{'x' * 32}", f"objects-tasks-iter-{key(1)}~", "headers-of-mine", f"{key(1)}"),
        )
    }
    rundir.sweep()
    assert names(place) == stay


def test_only_files_and_folders_of_ours_go_and_no_link_is_followed(place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put(outside / "headers-x")
    for number in range(4):
        put(place / f"objects-tasks-iter-{key(number)}", OLD)
    for number in range(16):
        put(place / f"headers-{key(number)}", OLD)
    stay = names(place) | {f"objects-tasks-iter-{key(100)}", f"headers-{key(101)}", "headers-abcdefgh", f"headers-{key(102)}"}
    for name in (f"objects-tasks-iter-{key(100)}", f"headers-{key(101)}", "headers-abcdefgh"):
        (place / name).symlink_to(outside)
        os.utime(place / name, (0, 0), follow_symlinks=False)
    (place / f"headers-{key(102)}").write_text("a file")
    os.utime(place / f"headers-{key(102)}", (0, 0))
    if os.geteuid() == 0:
        stay.add(put(place / f"objects-tasks-iter-{key(103)}", 2 * OLD))
        os.chown(place / f"objects-tasks-iter-{key(103)}", 1, 1)
    tree = place / f"headers-{key(104)}"
    put(tree)
    (tree / "elsewhere").symlink_to(outside)
    os.utime(tree, (0, 0))
    rundir.sweep()
    assert names(place) == stay
    assert (outside / "headers-x" / "include" / "vmlinux.h").exists()


def test_a_directory_that_is_not_trusted_is_left_alone(place: Path) -> None:
    stay = {put(place / f"objects-tasks-iter-{key(number)}") for number in range(9)}
    place.chmod(0o777)
    rundir.sweep()
    assert names(place) == stay


def test_a_tree_that_is_held_stays_until_it_is_let_go(place: Path) -> None:
    trees = [put(place / f"headers-{key(number)}", OLD + number) for number in range(18)]
    with rundir.held(str(place / trees[16])) as there, rundir.held(str(place / trees[16])):
        assert there
        rundir.sweep()
        assert names(place) == set(trees[:17])
        assert (place / trees[16] / "include" / "vmlinux.h").exists()
    rundir.sweep()
    assert names(place) == set(trees[:16])


def test_a_tree_that_was_made_anew_meanwhile_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run sweeps it, and yet another makes it, after this one has looked and before it removes."""
    tree = place / f"headers-{key(16)}"
    stay = {put(tree), *(put(place / f"headers-{key(number)}", HOUR) for number in range(16))}
    remove = rundir._remove

    def late(root: int, name: str, made: int) -> None:
        shutil.rmtree(place / name)
        put(place / name, 0)
        remove(root, name, made)

    monkeypatch.setattr(rundir, "_remove", late)
    rundir.sweep()
    assert names(place) == stay
    assert (tree / "include" / "vmlinux.h").exists()


def test_many_sweep_at_once(place: Path) -> None:
    objects = [put(place / f"objects-tasks-iter-{key(number)}", OLD + number) for number in range(200)]
    trees = [put(place / f"headers-{key(number)}", OLD + number) for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(rundir.sweep) for _ in range(8)]:
            done.result()
    assert names(place) == {*objects[:4], *trees[:16]}
