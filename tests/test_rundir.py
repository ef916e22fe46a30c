"""The run directory: what is read from it may be gone at any time, and what is swept is nobody's."""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cptbpf import rundir


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


def test_a_folder_that_went_away_during_the_wait_is_not_held(place: Path) -> None:
    def there() -> bool:
        with rundir.held(str(place / "folder")) as held:
            return held

    for another in (False, True):
        (place / "folder").mkdir()
        sweeper = os.open(place / "folder", os.O_RDONLY)
        fcntl.flock(sweeper, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(there)
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
            (place / "folder").rename(place / f"aside{another}")
            if another:
                (place / "folder").mkdir()
            os.close(sweeper)
            assert not waiting.result()
