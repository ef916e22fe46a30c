"""The state of every task of a namespace: a kernel pass, /proc, psutil."""

from collections.abc import Iterator

from cptbpf.conductors.target import resolve
from cptbpf.kernel.record import TASK_COLUMNS
from cptbpf.kernel.tasks import TaskReader
from tools.benchmarks import crowd
from tools.benchmarks.measure import Row, rounds, rows, timed

_PSUTIL_FIELDS = ["pid", "ppid", "name", "status", "uids", "cpu_times", "num_ctx_switches", "num_threads"]
_COLUMNS = ("pid", "ppid", "comm", "state", "uid", "utime", "nvcsw", "nr_threads")


def run(quick: bool) -> Iterator[Row]:
    """Threads against /proc, then processes against psutil."""
    for count in (100, 1000) if quick else (100, 1000, 10000):
        yield from _threads(count, 5 if count > 1000 else 9)
    yield from _processes(100 if quick else 400)


def _threads(count: int, turns: int) -> Iterator[Row]:
    with crowd.threads(count) as target, TaskReader() as reader:
        resolve(reader, target.ns_inode, None)
        ways = {
            "/proc stat + status, not parsed": timed(lambda: crowd.read_proc(target.host_pid)),
            "kernel pass, not decoded": timed(reader.states),
            "kernel pass, 8 fields as columns": timed(lambda: list(reader.states().columns(*_COLUMNS))),
            "kernel pass, every field as columns": timed(lambda: _every_column(reader)),
            "kernel pass, an object per task": timed(lambda: list(reader.states())),
        }
        goals = {
            "kernel pass, not decoded": ">= 60",
            "kernel pass, 8 fields as columns": ">= 60",
            "kernel pass, an object per task": ">= 25",
        }
        taken = rounds(ways, turns)
        yield from rows("state of threads, times faster", count + 1, taken, next(iter(ways)), goals, upward=True)


def _every_column(reader: TaskReader) -> list[list[object]]:
    table = reader.states()
    return [table.column(name) for name in TASK_COLUMNS]


def _processes(count: int) -> Iterator[Row]:
    try:
        import psutil
    except ImportError:
        yield Row("state of processes, times faster", "psutil, 8 fields", count, 0, note="skipped: psutil is not installed")
        return
    with crowd.processes(count) as target, TaskReader() as reader:
        resolve(reader, target.ns_inode, None)
        pids = target.members()
        ways = {
            "psutil, 8 fields": timed(lambda: [psutil.Process(pid).as_dict(_PSUTIL_FIELDS) for pid in pids]),
            "kernel pass, 8 fields as columns": timed(lambda: list(reader.states().columns(*_COLUMNS))),
            "kernel pass, an object per task": timed(lambda: list(reader.states())),
        }
        goals = {"kernel pass, 8 fields as columns": ">= 150", "kernel pass, an object per task": ">= 60"}
        taken = rounds(ways, 7)
        yield from rows("state of processes, times faster", len(pids), taken, next(iter(ways)), goals, upward=True)
