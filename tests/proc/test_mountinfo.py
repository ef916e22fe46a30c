"""Mounts as the kernel lists them, against what stat(2) says of what is mounted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cptbpf.proc.mountinfo import mounts
from tests.conductors.checks import PRIVATE

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, subprocess, sys
from cptbpf.proc.mountinfo import mounts
place = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "a name", place], check=True)
found = os.stat(place)
(one,) = [mount for mount in mounts() if mount.point == place.replace(" ", chr(92) + "040").encode()]
same = one.device == os.major(found.st_dev) << 20 | os.minor(found.st_dev)
print(one.kind.decode(), same, b"size=1024k" in one.options.split(b","))
"""


def test_proc_is_among_our_own() -> None:
    found = os.stat("/proc")
    proc = [mount for mount in mounts() if mount.point == b"/proc"][-1]
    assert (proc.kind, proc.device) == (b"proc", os.major(found.st_dev) << 20 | os.minor(found.st_dev))
    assert len({mount.id for mount in mounts()}) == len(list(mounts()))


@pytest.mark.ptrace
def test_a_mount_whose_names_have_spaces(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    place.mkdir()
    command = [*PRIVATE, sys.executable, "-c", SCRIPT, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert done.stdout.split() == ["tmpfs", "True", "True"]
