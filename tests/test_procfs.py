"""Files of /proc itself: what is mounted over them is told, and never opened; with openat2(2) and without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cptbpf import procfs
from tests.conductors.checks import PRIVATE

ROOT = Path(__file__).parents[1]

CHECK = """
import errno, os, subprocess, sys
from cptbpf import procfs
if sys.argv[1] == "without":
    procfs.openat2_works = lambda: False
place = sys.argv[2]
with subprocess.Popen(["sleep", "100"]) as child:
    pid = child.pid
    os.mkfifo(place + "/fifo")
    os.mkdir(place + "/folder")
    places = {f"/proc/{pid}/status": "fifo", f"/proc/{pid}/task/{pid}": "folder", f"/proc/{pid}/net": "folder"}
    for over, source in places.items():
        subprocess.run(["mount", "--bind", f"{place}/{source}", over], check=True)
    covered = []
    for path in (f"{pid}/status", f"{pid}/task/{pid}", f"{pid}/stat", f"{pid}/net", f"{pid}/exe"):
        try:
            os.close(procfs.open_file(path, os.O_PATH | os.O_NOFOLLOW if path.endswith("exe") else os.O_RDONLY))
        except OSError as error:
            covered.append((path.partition("/")[2].replace(str(pid), "N"), error.errno == procfs.COVERED))
    print(covered)
    print(procfs.read_record(f"{pid}/comm"), procfs.read_link(f"{pid}/exe") == os.readlink(f"/proc/{pid}/exe").encode())
    try:
        procfs.read_cover(f"{pid}/status")
    except OSError as error:
        print(error.errno == errno.EINVAL)
    child.kill()
"""


@pytest.mark.ptrace
@pytest.mark.parametrize("how", ["with", "without"])
def test_what_is_mounted_over_a_file_is_told_and_not_opened(how: str, tmp_path: Path) -> None:
    command = [*PRIVATE, sys.executable, "-c", CHECK, how, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=True)
    covered, own, cover = done.stdout.splitlines()
    assert covered == str([("status", True), ("task/N", True), ("net", True)])
    assert own == "b'sleep\\n' True"
    assert cover == "True"


@pytest.mark.parametrize("works", [True, False], ids=["with", "without"])
def test_files_say_what_they_say(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if works and not procfs.openat2_works():
        pytest.fail("openat2(2) is expected of every kernel that is supported")
    monkeypatch.setattr(procfs, "openat2_works", lambda: works)
    before = set(os.listdir("/proc/self/fd"))
    own = os.getpid()
    assert procfs.read_file(f"{own}/cmdline") == Path("/proc/self/cmdline").read_bytes()
    assert procfs.read_file(f"{own}/cmdline", limit=3) == Path("/proc/self/cmdline").read_bytes()[:3]
    assert procfs.read_record(f"{own}/comm") == Path("/proc/self/comm").read_bytes()
    assert procfs.read_link(f"{own}/ns/pid") == os.readlink(b"/proc/self/ns/pid")
    assert set(procfs.list_folder(f"{own}/task")) == set(os.listdir("/proc/self/task"))
    with pytest.raises(FileNotFoundError):
        procfs.read_file("4194305/stat")
    assert set(os.listdir("/proc/self/fd")) == before


def test_whoever_closed_all_descriptors_can_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a daemon does when it leaves its terminal: nothing is kept open from one call to the next."""
    script = (
        "import os; from cptbpf import procfs; procfs.read_file('self/stat'); os.closerange(3, 100);"
        "print(procfs.read_record('self/comm'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("b'python")
