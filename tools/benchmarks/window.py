"""The frozen window: cptbpf's against a bare loop that does only what cannot be left out."""

import ctypes
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cptbpf.conductors.snapshot import snapshot
from cptbpf.cpu import layout
from cptbpf.trace import ptrace
from tests.harness import Target
from tools.benchmarks import crowd
from tools.benchmarks.measure import Row, rounds, rows

_DETACH, _GETREGS = 17, 12


def run(quick: bool) -> Iterator[Row]:
    """A thousand threads, then what a thread that looks at the clock sees."""
    with crowd.threads(200 if quick else 1000) as target, tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/image"
        ways = {
            "bare ctypes loop": lambda: _in_thread(lambda: _bare(target.host_pid)),
            "cptbpf, registers by ptrace": _frozen(target, file, "ptrace"),
            "cptbpf, registers by bpf": _frozen(target, file, "bpf"),
        }
        goals = {"cptbpf, registers by ptrace": "<= 1.2", "cptbpf, registers by bpf": "<= 0.7"}
        yield from rows("frozen window", len(target.tids()), rounds(ways, 11), "bare ctypes loop", goals)
    yield from _gap(200 if quick else 1000)


def _frozen(target: Target, file: str, registers: str) -> Callable[[], float]:
    def run() -> float:
        summary = snapshot(pidns=target.ns_inode, output=file, force=True, registers=registers)
        assert summary.consistent and not summary.partial, summary
        return summary.frozen_ms / 1e3

    return run


def _bare(pid: int) -> float:
    """Interrupt, wait, GETREGS, GETREGSET(xstate), detach: as plain as ctypes allows."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = libc.ptrace
    call.argtypes, call.restype = [ctypes.c_long] * 4, ctypes.c_long
    tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    area = layout()
    size = area.size if area else 512
    buffers = [(ctypes.create_string_buffer(216), ctypes.create_string_buffer(size)) for _ in tids]
    vectors = [(ctypes.c_size_t * 2)(ctypes.addressof(fpu), size) for _, fpu in buffers]
    for tid in tids:
        call(ptrace.SEIZE, tid, 0, 0)
    start = time.perf_counter()
    for tid in tids:
        call(ptrace.INTERRUPT, tid, 0, 0)
    for tid in tids:
        os.waitpid(tid, ptrace.WALL)
    for tid, (regs, _), vector in zip(tids, buffers, vectors, strict=True):
        call(_GETREGS, tid, 0, ctypes.addressof(regs))
        call(ptrace.GETREGSET, tid, ptrace.NT_X86_XSTATE, ctypes.addressof(vector))
    for tid in tids:
        call(_DETACH, tid, 0, 0)
    return time.perf_counter() - start


def _in_thread(work: Callable[[], float]) -> float:
    result: list[float] = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    thread.join()
    return result[0]


def _gap(count: int) -> Iterator[Row]:
    """The longest time between two looks of a thread at the clock, over what the summary says."""
    with crowd.threads(count, "clockwatch") as target, tempfile.TemporaryDirectory() as folder:
        seen, said = [], []
        for _ in range(9):
            _ask(target)
            summary = snapshot(pidns=target.ns_inode, output=str(Path(folder) / "image"), force=True)
            seen.append(_ask(target))
            said.append(summary.frozen_ms / 1e3)
        ratio = statistics.median(gap / frozen for gap, frozen in zip(seen, said, strict=True))
        note = "the longest gap that a thread of the target saw, over frozen_ms"
        yield Row("frozen window", "seen from inside", count + 2, statistics.median(seen), ratio, "frozen_ms", "<= 1", note)


def _ask(target: Target) -> float:
    target.say("gap")
    return int(target.read_line().split()[1]) / 1e9
