"""criu dump --leave-running, and what its own stats image says of the frozen time."""

import os
import shutil
import struct
import subprocess
import time
from typing import NamedTuple

_MAGIC = struct.pack("<II", 0x55105940, 0x57093306)  # IMG_SERVICE_MAGIC, STATS_MAGIC of criu/include/magic.h

_TIMES = {1: "freezing", 2: "frozen", 3: "memdump", 4: "memwrite"}  # fields of dump_stats_entry


class Dump(NamedTuple):
    """One dump: times in seconds as criu took them, and bytes of its images.

    ``freezing`` is until all tasks stood still, ``frozen`` from then on; ``memory`` what of it went into their memory, which
    cptbpf does not save; ``wall`` is the whole command.
    """

    wall: float
    freezing: float
    frozen: float
    memory: float
    size: int


def dump(pid: int, folder: str) -> Dump:
    """Dumps the process tree below ``pid`` and lets it run on. Raises RuntimeError with criu's last words where it cannot."""
    images = f"{folder}/criu"
    shutil.rmtree(images, ignore_errors=True)
    os.makedirs(images)
    command = ["criu", "dump", "--leave-running", "--shell-job", "--tree", str(pid), "--images-dir", images]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    if done.returncode:
        last = next((text for text in (done.stdout + done.stderr).splitlines() if text.startswith("Error")), "it failed")
        raise RuntimeError(f"criu cannot dump it here: {last}")
    size = sum(os.path.getsize(f"{images}/{name}") for name in os.listdir(images))
    with open(f"{images}/stats-dump", "rb") as stream:
        stats = {name: spent / 1e6 for name, spent in stats_of(stream.read()).items()}
    shutil.rmtree(images)
    return Dump(wall, stats["freezing"], stats["frozen"], stats["memdump"] + stats["memwrite"], size)


def stats_of(image: bytes) -> dict[str, int]:
    """The times of a stats-dump image in us, by their names in criu's images/stats.proto: a message within a message.

    Raises RuntimeError where it is none.
    """
    if image[:8] != _MAGIC:
        raise RuntimeError("criu's stats-dump is not what it was up to 4.2")
    (size,) = struct.unpack_from("<I", image, 8)
    (message,) = (value for value in _fields(image[12 : 12 + size]).values() if isinstance(value, bytes))
    numbers = _fields(message)
    return {name: int(numbers.get(number, 0)) for number, name in _TIMES.items()}


def _fields(message: bytes) -> dict[int, bytes | int]:
    """A protobuf message of varints and nested messages."""
    found: dict[int, bytes | int] = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        if key & 7 == 2:
            found[key >> 3], at = message[at : at + value], at + value
        else:
            found[key >> 3] = value
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not message[at - 1] & 0x80:
            return value, at
