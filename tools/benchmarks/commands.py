"""Whole commands, as a user starts them: a snapshot by cptbpf and by its peers."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.harness import Target
from tools.benchmarks import crowd
from tools.benchmarks.measure import Row, rounds, rows, timed

_CPTBPF = str(Path(sys.executable).with_name("cptbpf"))


def run(quick: bool) -> Iterator[Row]:
    """One task, then many threads."""
    for count in (0, 100) if quick else (0, 1000):
        with crowd.threads(count) as target, tempfile.TemporaryDirectory() as folder:
            yield from _compare(target, folder, 5)


def _compare(target: Target, folder: str, turns: int) -> Iterator[Row]:
    image, core = f"{folder}/image", f"{folder}/core"
    names = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "cptbpf snapshot": [_CPTBPF, "snapshot", "--pidns", str(target.ns_inode), "-o", image, "--force"],
        "cptbpf snapshot --registers bpf": [
            *(_CPTBPF, "snapshot", "--pidns", str(target.ns_inode), "-o", image, "--force", "--registers", "bpf"),
        ],
        "cptbpf snapshot --no-freeze": [
            *(_CPTBPF, "snapshot", "--pidns", str(target.ns_inode), "-o", image, "--force", "--no-freeze"),
        ],
        "cptbpf show": [_CPTBPF, "show", image],
    }
    tasks = len(target.tids())
    ways = {name: timed(_command(words)) for name, words in names.items()}
    group = f"whole commands, {tasks} task{'s' if tasks > 1 else ''}"
    skipped = []
    if shutil.which("gcore"):
        ways["gcore (with memory)"] = timed(_command(["gcore", "-o", core, str(target.host_pid)]))
    else:
        skipped.append(Row(group, "gcore", tasks, 0, note="skipped: gdb is not installed"))
    goals = {"cptbpf snapshot": "< 100 ms"} if tasks == 1 else {}
    yield from rows(group, tasks, rounds(ways, turns), "python -c pass", goals)
    yield from skipped
    yield from _criu(group, target, folder)
    for path in sorted(os.listdir(folder)):
        yield Row(group, f"bytes of {path.split('.')[0]}", tasks, 0, note=f"{os.path.getsize(f'{folder}/{path}'):,}")


def _command(words: list[str]) -> Callable[[], object]:
    # byte code is cached as it is for a user, whatever the environment of this run says
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _criu(group: str, target: Target, folder: str) -> Iterator[Row]:
    """criu's own figures of one dump: how long tasks were frozen, and how much of it went into memory."""
    if not shutil.which("criu"):
        yield Row(group, "criu dump", 1, 0, note="skipped: criu is not installed")
        return
    from tools.benchmarks.criu import dump

    yield from dump(group, target, folder)
