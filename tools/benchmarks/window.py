"""The frozen window: cptbpf's against a bare loop that does only what cannot be left out."""

import ctypes
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from cptbpf.conductors.snapshot import snapshot
from cptbpf.cpu import layout
from cptbpf.trace import ptrace
from tests.harness import Target
from tools.benchmarks import crowd
from tools.benchmarks.measure import Row, rounds, rows

_DETACH, _GETREGS = 17, 12
_BARE, _PTRACE, _BPF = "bare ctypes loop", "cptbpf, registers by ptrace", "cptbpf, registers by bpf"


def run(quick: bool) -> Iterator[Row]:
    """A thousand threads, then what a thread that looks at the clock sees."""
    count, turns = (200, 7) if quick else (1000, 25)
    with crowd.threads(count) as target, tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/image"
        ways = {
            _BARE: lambda: _in_thread(lambda: _bare(target.host_pid)),
            _PTRACE: _frozen(target, file, "ptrace"),
            _BPF: _frozen(target, file, "bpf"),
        }
        taken = rounds(ways, turns)
        yield from rows("frozen window", len(target.tids()), taken, _BARE, {_PTRACE: "<= 1.2", _BPF: "<= 0.7"})
    yield from _gap(count, turns)


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


def _gap(count: int, turns: int) -> Iterator[Row]:
    """The longest time between two looks of a thread of the target at the clock, around each freeze."""
    with crowd.threads(count, "clockwatch") as target, tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/image"
        said: list[float] = []

        def ours() -> float:
            crowd.gap(target)
            said.append(_frozen(target, file, "ptrace")())
            return crowd.gap(target)

        def bare() -> float:
            crowd.gap(target)
            _in_thread(lambda: _bare(target.host_pid))
            return crowd.gap(target)

        taken = rounds({_BARE: bare, _PTRACE: ours}, turns)
        tasks = len(target.tids())
        for row in rows("the same, as a thread of the target sees it", tasks, taken, _BARE, {_PTRACE: "<= 1.2"}):
            if row.what == _PTRACE:
                over = statistics.median(gap / frozen for gap, frozen in zip(taken[_PTRACE], said[1:], strict=True))
                yield row._replace(note=f"{over:.2f} of frozen_ms")
            else:
                yield row
