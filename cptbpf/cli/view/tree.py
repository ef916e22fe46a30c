"""The process tree: a line for each process and for each of its few threads, and what stands out below it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cptbpf.cli.text import age, columns, comm, duration, plural
from cptbpf.cli.view.context import Context
from cptbpf.cli.view.state import doing, letter
from cptbpf.cli.view.unusual import notes
from cptbpf.image.model import TaskImage

_HEADER = ("PID COMMAND", "HOST", "USER", "S", "AGE", "CPU", "SWITCHES", "FAULTS", "DOING")
_RIGHT = (1, 4, 5, 6, 7)
_FEW = 4  # threads beside the leader that have a line each; more are counted
_KINDS = 6  # lines of counted threads
_DEPTH = 30  # levels that are drawn: a chain of thousands of processes is no tree that anyone could read


class _Process(NamedTuple):
    """A thread group; ``leader`` is its first task where the image has not the leader itself."""

    leader: TaskImage
    threads: list[TaskImage]

    def sum(self, names: Sequence[str]) -> int:
        return sum(task.value(name) or 0 for task in (self.leader, *self.threads) for name in names)


class _Line(NamedTuple):
    """A row of the table or, with no more than one cell, a remark between rows."""

    cells: tuple[str, ...]


def lines(context: Context, tasks: Sequence[TaskImage], narrow: bool = False) -> Iterator[str]:
    """The tree of tasks, with a header; without switches and faults where it is to be ``narrow``."""
    drawn = [_Line(_HEADER), *_draw(context, tasks)]
    rows = [line.cells for line in drawn if len(line.cells) > 1]
    if narrow:
        rows = [(*cells[:6], cells[8]) for cells in rows]
    aligned = iter(columns(rows, _RIGHT[:3] if narrow else _RIGHT))
    for line in drawn:
        yield next(aligned) if len(line.cells) > 1 else line.cells[0]


def _processes(tasks: Sequence[TaskImage]) -> dict[int, _Process]:
    groups: dict[int, list[TaskImage]] = {}
    for task in tasks:
        groups.setdefault(task.task.tgid, []).append(task)
    found = {}
    for tgid, members in groups.items():
        leader = next((task for task in members if task.task.pid == tgid), members[0])
        found[tgid] = _Process(leader, [task for task in members if task is not leader])
    return found


def _draw(context: Context, tasks: Sequence[TaskImage]) -> Iterator[_Line]:
    processes = _processes(tasks)
    group_of = {task.task.pid: task.task.tgid for task in tasks}
    children: dict[int, list[int]] = {}
    for tgid, process in processes.items():
        children.setdefault(group_of.get(process.leader.task.rppid, 0), []).append(tgid)
    drawn: set[int] = set()
    # what hangs below nobody first; then what a forged image made its own ancestor
    for top in (*children.get(0, ()), *processes):
        pending = [(top, "", "", 0)]
        while pending:
            tgid, before, below, depth = pending.pop()
            if tgid in drawn:
                continue
            drawn.add(tgid)
            heirs = [child for child in children.get(tgid, ()) if child not in drawn]
            bar = "│ " if heirs else "  "
            yield from _process(context, processes[tgid], before, below + bar)
            pending += _branches(heirs, below, depth)[::-1]


def _branches(heirs: list[int], below: str, depth: int) -> list[tuple[int, str, str, int]]:
    """The children with what is drawn before and below each."""
    if depth >= _DEPTH:
        return [(tgid, f"{below}└…", below, depth) for tgid in heirs]
    last = len(heirs) - 1
    return [
        (tgid, below + ("└─" if index == last else "├─"), below + ("  " if index == last else "│ "), depth + 1)
        for index, tgid in enumerate(heirs)
    ]


def _process(context: Context, process: _Process, before: str, below: str) -> Iterator[_Line]:
    leader = process.leader
    remarks = notes(leader, context.meta)
    sums = process.sum
    yield _Line(_cells(context, leader, f"{before}{leader.task.pid} {comm(leader.task.comm)}", sums))
    for remark in remarks:
        yield _Line((f"{below}  ! {remark}",))
    if len(process.threads) <= _FEW:
        for thread in process.threads:
            own = _Process(thread, [])
            yield _Line(_cells(context, thread, f"{below}· {thread.task.pid} {comm(thread.task.comm)}", own.sum))
            for remark in notes(thread, context.meta):
                if remark not in remarks:
                    yield _Line((f"{below}    ! {remark}",))
    else:
        yield from _counted(context, process.threads, below, remarks)


def _counted(context: Context, threads: list[TaskImage], below: str, said: list[str]) -> Iterator[_Line]:
    """Many threads, by what they do."""
    kinds: dict[tuple[str, str], list[TaskImage]] = {}
    for thread in threads:
        kinds.setdefault((letter(thread), _without_arguments(doing(thread))), []).append(thread)
    ordered = sorted(kinds.items(), key=lambda item: -len(item[1]))
    for (state, what), members in ordered[:_KINDS]:
        names = Counter(comm(task.task.comm) for task in members)
        name = next(iter(names)) if len(names) == 1 else plural(len(names), "name")
        sums = _Process(members[0], members[1:]).sum
        cells = _cells(context, members[0], f"{below}· {plural(len(members), 'thread')} {name}", sums)
        yield _Line((cells[0], "", cells[2] if _one_user(members) else "", state, "", *cells[5:8], what))
    rest = sum(len(members) for _, members in ordered[_KINDS:])
    if rest:
        yield _Line((f"{below}· {plural(rest, 'more thread')} in other states; --format table has them all",))
    remarks = Counter(remark for thread in threads for remark in notes(thread, context.meta) if remark not in said)
    for remark, count in remarks.most_common(_KINDS):
        yield _Line((f"{below}    ! {remark} ({plural(count, 'thread')})",))


def _one_user(members: list[TaskImage]) -> bool:
    return len({task.task.euid for task in members}) == 1


def _without_arguments(what: str) -> str:
    """Threads that wait in the same call for different things do the same."""
    name, bracket, rest = what.partition("(")
    return name + rest.partition(")")[2] if bracket else what


def _cells(context: Context, task: TaskImage, name: str, total: Callable[[Sequence[str]], int]) -> tuple[str, ...]:
    host = task.value("host_pid")
    return (
        name,
        "-" if host is None else str(host),
        context.user(task.task.euid),
        letter(task),
        age(context.age(task)),
        duration(total(("utime", "stime"))),
        str(total(("nvcsw", "nivcsw"))),
        str(total(("min_flt", "maj_flt"))),
        doing(task),
    )
