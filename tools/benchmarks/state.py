"""The state of every task of a namespace: a kernel pass, /proc, psutil. All of it is work of one thread: CPU times."""

from collections.abc import Iterator

from cptbpf.conductors.target import resolve
from cptbpf.kernel.record import TASK_COLUMNS
from cptbpf.kernel.tasks import TaskReader
from tools.benchmarks import crowd
from tools.benchmarks.measure import Row, computing, rounds, rows

_PSUTIL_FIELDS = ["pid", "ppid", "name", "status", "uids", "cpu_times", "num_ctx_switches", "num_threads"]
_COLUMNS = ("pid", "ppid", "comm", "state", "uid", "utime", "nvcsw", "nr_threads")
_SHORT, _WHOLE = "/proc: stat and status", "/proc: the same fields (15 files and links)"
_PASS, _ARRAYS, _LISTS = "kernel pass, not decoded", "every field as an array", "every field as a list of ints"
_EIGHT, _OBJECTS = "8 fields as a list of tuples", "every field, an object per task"


def run(quick: bool) -> Iterator[Row]:
    """Threads against /proc, then processes against psutil."""
    for count in (100, 1000) if quick else (100, 1000, 10000):
        yield from _threads(count, 5 if count > 1000 else 15)
    for count in (100,) if quick else (100, 1000):
        yield from _processes(count)


def _threads(count: int, turns: int) -> Iterator[Row]:
    with crowd.threads(count) as target, TaskReader() as reader:
        resolve(reader, target.ns_inode, None)
        ways = {
            _WHOLE: computing(lambda: crowd.read_proc(target.host_pid, crowd.FILES, crowd.LINKS)),
            _SHORT: computing(lambda: crowd.read_proc(target.host_pid)),
            _PASS: computing(reader.states),
            _ARRAYS: computing(lambda: _arrays(reader)),
            _EIGHT: computing(lambda: list(reader.states().columns(*_COLUMNS))),
            _LISTS: computing(lambda: _lists(reader)),
            _OBJECTS: computing(lambda: list(reader.states())),
        }
        goals = {_ARRAYS: ">= 60", _EIGHT: ">= 60", _OBJECTS: ">= 25"}
        taken = rounds(ways, turns)
        short = min(taken[_SHORT])
        for row in rows("whole state of threads, CPU time, times faster", count + 1, taken, _WHOLE, goals, upward=True):
            ours = row.what not in (_WHOLE, _SHORT)
            yield row._replace(note=f"{short / row.seconds:.1f} times stat and status" if ours else "raw, not parsed")


def _arrays(reader: TaskReader) -> list[object]:
    table = reader.states()
    return [table.column(name) if name == "comm" else table.array(name) for name in TASK_COLUMNS]


def _lists(reader: TaskReader) -> list[object]:
    table = reader.states()
    return [table.column(name) for name in TASK_COLUMNS]


def _processes(count: int) -> Iterator[Row]:
    group = "state of processes, CPU time, times faster"
    try:
        import psutil
    except ImportError:
        yield Row(group, "psutil, 8 fields", count, 0, note="skipped: psutil is not installed (pip install -e '.[bench]')")
        return
    with crowd.processes(count) as target, TaskReader() as reader:
        resolve(reader, target.ns_inode, None)
        pids = target.members()
        ways = {
            "psutil, 8 fields": computing(lambda: [psutil.Process(pid).as_dict(_PSUTIL_FIELDS) for pid in pids]),
            _ARRAYS: computing(lambda: _arrays(reader)),
            _EIGHT: computing(lambda: list(reader.states().columns(*_COLUMNS))),
            _OBJECTS: computing(lambda: list(reader.states())),
        }
        goals = {_ARRAYS: ">= 150", _EIGHT: ">= 150", _OBJECTS: ">= 60"}
        yield from rows(group, len(pids), rounds(ways, 9), "psutil, 8 fields", goals, upward=True)
