"""A snapshot of the same process by cptbpf, gdb's gcore and criu: how long tasks stand still, what it takes, what is written.

The process is in the initial namespaces: criu refuses one in a pid namespace that is not the root of a container.
"""

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator

from tests.harness import Target
from tools.benchmarks import commands, criu, crowd
from tools.benchmarks.measure import Row, rounds, rows

_PTRACE, _BPF, _RUNNING = "cptbpf snapshot", "cptbpf snapshot --registers bpf", "cptbpf snapshot --no-freeze"
_OPTIONS: dict[str, tuple[str, ...]] = {_PTRACE: (), _BPF: ("--registers", "bpf"), _RUNNING: ("--no-freeze",)}
_GCORE, _CRIU, _NET = "gcore", "criu dump", "criu dump, less memory"


def run(quick: bool) -> Iterator[Row]:
    """One task, then many threads, then how it looks to one of the threads."""
    for count in (0, 100) if quick else (0, 1000):
        with crowd.threads(count, namespace=False) as target, tempfile.TemporaryDirectory() as folder:
            yield from _compared(target, folder, 3 if quick else 7)
    yield from _gaps(100 if quick else 1000, 3 if quick else 7)


def _compared(target: Target, folder: str, turns: int) -> Iterator[Row]:
    tasks = len(target.tids())
    about = f"{tasks:,} task{'s' if tasks > 1 else ''}"
    frozen: dict[str, list[float]] = {}
    memory: list[criu.Dump] = []
    sizes: dict[str, int] = {}
    image = f"{folder}/image"

    def ours(name: str) -> Callable[[], float]:
        def once() -> float:
            taken = commands.snapshot(("--pid", str(target.host_pid)), image, *_OPTIONS[name])
            sizes[name] = taken.size
            frozen.setdefault(name, []).append(taken.frozen)
            return taken.wall

        return once

    ways: dict[str, Callable[[], float]] = {"python -c pass": lambda: commands.run([sys.executable, "-c", "pass"])}
    ways |= {name: ours(name) for name in _OPTIONS}
    shown = f"{folder}/shown"
    commands.snapshot(("--pid", str(target.host_pid)), shown)
    ways["cptbpf show"] = lambda: commands.run([commands.CPTBPF, "show", shown])
    skipped = {}
    for name, way in ((_GCORE, _gcore(target, folder, sizes)), (_CRIU, _dump(target, folder, sizes, memory))):
        if isinstance(way, str):
            skipped[name] = way
        else:
            ways[name] = way
    taken = rounds(ways, turns)
    yield from _frozen(about, tasks, {name: frozen[name] for name in (_PTRACE, _BPF)}, memory)
    group = f"a whole command, {about}"
    goals = {_PTRACE: "< 100 ms"} if tasks == 1 else {}
    for row in rows(group, tasks, taken, _PTRACE, goals):
        yield row._replace(size=sizes.get(row.what, 0), note="with memory" if row.what in (_GCORE, _CRIU) else "")
    for name, why in skipped.items():
        yield Row(group, name, tasks, 0, note=f"skipped: {why}")


def _frozen(about: str, tasks: int, ours: dict[str, list[float]], memory: list[criu.Dump]) -> Iterator[Row]:
    """Ours beside criu's own figures. Its time to freeze (ours has it in) is not counted, which is in its favour."""
    group = f"frozen, {about}"
    taken = dict(ours)
    if memory:
        taken[_CRIU] = [dump.frozen for dump in memory]
        taken[_NET] = [dump.frozen - dump.memory for dump in memory]
    goals = {_PTRACE: "<= 0.05", _BPF: "<= 0.05"} if tasks > 1000 else {}
    for row in rows(group, tasks, taken, _NET, goals):
        note = ""
        if row.what == _CRIU:
            best = min(memory, key=lambda dump: dump.frozen)
            note = f"by its stats; memory {best.memory * 1e3:.1f} ms; {best.freezing * 1e3:.1f} ms until frozen come on top"
        elif memory and row.what != _NET:
            note = f"{row.seconds / min(taken[_CRIU]):.3f} of criu's, memory included"
        yield row._replace(note=note)


def _gcore(target: Target, folder: str, sizes: dict[str, int]) -> Callable[[], float] | str:
    if not shutil.which("gcore"):
        return "gdb is not installed"

    def once() -> float:
        wall = commands.run(["gcore", "-o", f"{folder}/core", str(target.host_pid)])
        for file in glob.glob(f"{folder}/core.*"):
            sizes[_GCORE] = os.path.getsize(file)
            os.unlink(file)
        return wall

    return once


def _dump(target: Target, folder: str, sizes: dict[str, int], into: list[criu.Dump]) -> Callable[[], float] | str:
    if not shutil.which("criu"):
        return "criu is not installed"
    try:
        criu.dump(target.host_pid, folder)
    except RuntimeError as error:
        return str(error)

    def once() -> float:
        into.append(criu.dump(target.host_pid, folder))
        sizes[_CRIU] = into[-1].size
        return into[-1].wall

    return once


def _gaps(count: int, turns: int) -> Iterator[Row]:
    """The longest time between two looks of a thread at the clock while each of them is at work: nobody's own figure."""
    with crowd.threads(count, "clockwatch", namespace=False) as target, tempfile.TemporaryDirectory() as folder:
        tasks = len(target.tids())
        words = ("--pid", str(target.host_pid))

        def ours(name: str) -> Callable[[], object]:
            return lambda: commands.snapshot(words, f"{folder}/image", *_OPTIONS[name])

        works: dict[str, Callable[[], object]] = {name: ours(name) for name in _OPTIONS}
        works["python -c pass"] = lambda: commands.run([sys.executable, "-c", "pass"])
        others = {_GCORE: _gcore(target, folder, {}), _CRIU: _dump(target, folder, {}, [])}
        works |= {name: way for name, way in others.items() if not isinstance(way, str)}
        taken = rounds({name: _watched(target, work) for name, work in works.items()}, turns)
        yield from rows(f"the longest gap that one of {tasks:,} threads saw", tasks, taken, _PTRACE, {})


def _watched(target: Target, work: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        crowd.gap(target)
        work()
        return crowd.gap(target)

    return once
