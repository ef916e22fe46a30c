"""criu dump --leave-running, and what its own stats image says of the frozen time."""

import os
import shutil
import struct
import subprocess
import time
from typing import NamedTuple

_MAGIC = struct.pack("<II", 0x55105940, 0x57093306)  # IMG_SERVICE_MAGIC, STATS_MAGIC of criu/include/magic.h


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
        stats = _stats(stream.read())
    shutil.rmtree(images)
    freezing, frozen, dumped, written = (stats.get(number, 0) / 1e6 for number in (1, 2, 3, 4))
    return Dump(wall, freezing, frozen, dumped + written, size)


def _stats(image: bytes) -> dict[int, int]:
    """The numbers of a dump_stats_entry (criu's images/stats.proto), times in us: the fields of a message within a message."""
    if image[:8] != _MAGIC:
        raise RuntimeError("criu's stats-dump is not what it was up to 4.2")
    (size,) = struct.unpack_from("<I", image, 8)
    (message,) = (value for value in _fields(image[12 : 12 + size]).values() if isinstance(value, bytes))
    return {number: value for number, value in _fields(message).items() if isinstance(value, int)}


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
