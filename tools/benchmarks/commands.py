"""Whole commands, as a user starts them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

CPTBPF = str(Path(sys.executable).with_name("cptbpf"))
# byte code is cached as it is for a user, whatever the environment of this run says
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
# A process counts the memory that it had before its exec too: so it is started by one that is smaller than what is measured.
_LAUNCHER = (
    "import os, sys\n"
    "pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)\n"
    "_, status, used = os.wait4(pid, 0)\n"
    "print(os.waitstatus_to_exitcode(status), used.ru_maxrss)\n"
)


class Taken(NamedTuple):
    """One snapshot by a command: seconds that tasks were frozen and that the command took in all, tasks, bytes written."""

    frozen: float
    wall: float
    tasks: int
    size: int


def run(words: list[str]) -> float:
    """Seconds that a command takes; CalledProcessError where it fails."""
    started = time.perf_counter()
    subprocess.run(words, env=_ENVIRONMENT, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - started


def _snapshot(target: tuple[str, ...], file: str, options: tuple[str, ...]) -> list[str]:
    return [CPTBPF, "snapshot", *target, "-o", file, "--force", "--json", "--timeout", "20", *options]


def snapshot(target: tuple[str, ...], file: str, *options: str) -> Taken:
    """``cptbpf snapshot`` of a whole target: ``target`` are its words for it."""
    started = time.perf_counter()
    done = subprocess.run(_snapshot(target, file, options), env=_ENVIRONMENT, check=True, capture_output=True)
    wall = time.perf_counter() - started
    told = json.loads(done.stdout)
    return Taken(told["frozen_ms"] / 1e3, wall, told["tasks"], os.path.getsize(file))


def peak(target: tuple[str, ...], file: str) -> float:
    """MB that ``cptbpf snapshot`` had in memory at its most (ru_maxrss)."""
    words = [sys.executable, "-S", "-c", _LAUNCHER, *_snapshot(target, file, ())]
    done = subprocess.run(words, env=_ENVIRONMENT, check=True, capture_output=True, text=True)
    status, kilobytes = map(int, done.stdout.splitlines()[-1].split())
    if status not in (0, 1):
        raise RuntimeError(f"cptbpf snapshot failed: {done.stderr}")
    return kilobytes / 1024
