"""The live check: brackets of kernel pass, witnesses, kernel pass; in the frozen window first, then around what still moves."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple

from cptbpf.conductors.assemble import Omission, why_running
from cptbpf.conductors.crosscheck import KEPT_MOVING, Result, registers
from cptbpf.conductors.crosscheck.hooks import NOT_HOOKED, Hooks, Rendered
from cptbpf.conductors.crosscheck.values import (
    CHECKS,
    FILES,
    NOBODY,
    ORDER,
    Check,
    Frame,
    Identity,
    Outside,
    Pass,
    decode,
    exported,
    exported_witness,
    files_of,
    in_record,
    kernel_value,
    steady,
)
from cptbpf.conductors.freeze import frozen_window
from cptbpf.conductors.target import resolve
from cptbpf.errors import TargetError
from cptbpf.fields import FIELDS, Field
from cptbpf.kernel.tasks import FullPass, FullTask, TaskReader
from cptbpf.proc import witness
from cptbpf.proc.absent import Absent
from cptbpf.rules import DISAGREE, EXPLAINED, MOVED, Context, Judgement, Sight, judge
from cptbpf.sched import TASK_TRACED
from cptbpf.trace.freezer import Freezer

_LONGEST = 1.0  # seconds that the witnesses are read for while everybody stands still; who has not come up by then is bracketed
_CHUNK = 32  # tasks in one bracket of a running system, at least
_NARROW = 8  # and where something had moved before
_PASSES = 32  # at most, in one look at everybody: else the time would grow with the square of the tasks
_LOOKS = 40  # at what moves, before it is called moving
_PAUSE = 1e-3  # seconds; grows with every look
_TAKEOVER = 12  # looks in which an execve by another thread, which has taken over the id, shows in exec_id
_RISING = {"bracket", "ticks", "shown", "cputime"}
#: What nobody but the task itself changes: where it did not run, a difference is one at the first look.
_PRIVATE = {field.name for field in FIELDS if field.rule in {"userns", *_RISING} or field.name.startswith("cap_")}


class _Window(NamedTuple):
    """What was seen in the frozen window, still raw. ``late`` are those for whom there was no time."""

    present: Collection[int]
    shown: Mapping[int, witness.Shown | int]
    late: Collection[int]
    outside: Outside
    views: Mapping[int, registers.View]
    after: FullPass


class _Open:
    """A comparison that has not come to an end, and what was seen of it so far."""

    __slots__ = ("always", "last", "looks", "suspect", "unread", "waited")

    def __init__(self) -> None:
        self.looks = 0
        self.waited = 0
        self.suspect: Sight | None = None  # a counter outside its bracket, to be reported unless exec_id moves
        self.last: Sight | None = None
        self.unread: tuple[int, object] | None = None  # pid and the kernel's value, where the witness could not be read
        self.always = True  # the kernel's value stood still in every look, and the witness showed another one


class LiveCheck:
    """One check of one target. Use it as a context manager; :meth:`frozen` or :meth:`running`, then :meth:`repeat`."""

    def __init__(self, pidns: str | int | None, pid: int | None) -> None:
        self.reader = TaskReader()
        try:
            self._frame = Frame(self.reader)
            self.target = resolve(self.reader, pidns, pid)
        except BaseException:
            self.reader.close()
            raise
        self.hooks = Hooks(self.reader)
        self.frozen_ns = 0
        self.after_thaw = 0
        self.names: dict[int, bytes] = {}
        self.not_stopped: list[Omission] = []
        self._depth = self.target.level - self.reader.own_level
        self._results: dict[tuple[Identity, str, str], list[Result]] = {}
        self._open: dict[Identity, dict[Check, _Open]] = {}
        self._seen: set[Identity] = set()
        self._compared: set[Identity] = set()

    def __enter__(self) -> "LiveCheck":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.hooks.close()
        self.reader.close()

    @property
    def tasks(self) -> int:
        """Tasks that were compared."""
        return len(self._compared)

    @property
    def seen(self) -> set[int]:
        """Host pids of all tasks that there were."""
        return {tid for tid, _ in self._seen}

    @property
    def unseen(self) -> set[int]:
        """Host pids of tasks that ended, became others, or were hidden, before they could be compared."""
        return {tid for tid, _ in self._seen - self._compared}

    def results(self) -> Iterator[Result]:
        """Everything that was found, by task and in the order of the catalogue."""
        order = {name: index for index, name in enumerate(ORDER)}
        for key in sorted(self._results, key=lambda key: (key[0][0], order[key[1]], key[2])):
            yield from self._results[key]

    # -- the frozen window -----------------------------------------------------------------------------------------------

    def frozen(self, timeout: float) -> None:
        """Looks at everything while all tasks stand still that can."""
        freezer = Freezer()
        seen: list[_Window] = []

        until = 0.0

        def look(*tasks: Collection[int]) -> None:
            nonlocal until
            until = until or time.monotonic() + _LONGEST
            seen[:] = [self._look(freezer, until, *tasks)]

        raw = freezer.run(lambda: frozen_window(self.reader, freezer, self.target, "ptrace", timeout, look))
        self.frozen_ns = freezer.frozen_ns
        (window,) = seen
        self.after_thaw = len(window.late)
        before, after = decode(raw.b, self.target, window.present), decode(window.after, self.target, window.present)
        if not before.tasks:
            raise TargetError(f"no task is left in pid:[{self.target.inode}]", "'cptbpf list' shows the pid namespaces")
        self._seen |= before.tasks.keys()
        context = self._frame.context((before, after), window.outside)
        for identity, task in before.tasks.items():
            later = after.tasks.get(identity)
            tid = identity[0]
            if tid in raw.why_not:
                why = why_running(task.state, raw.why_not[tid])
                self.not_stopped.append(Omission(task.state.pid, tid, why))
            shown = window.shown.get(tid)
            if later is None or not isinstance(shown, witness.Shown):
                continue
            still = tid in raw.frozen and bool(task.state.state & later.state.state & TASK_TRACED) and steady(task, later)
            self._judge_all(task, later, shown, context, still)
            if still and tid in window.views:
                for result in registers.compare(task, later, freezer, window.views[tid], context):
                    self._results.setdefault((identity, result.field, result.witness), []).append(result)

    def _look(self, freezer: Freezer, until: float, present: Collection[int], seized: Collection[int]) -> _Window:
        """Reads the witnesses while everybody stands still. Not ``io`` of a task that does not: it waits for an execve."""
        table = self.reader.states()
        rows = [row for row in table.columns("host_pid", "host_tgid", "host_rppid", "state") if row[0] in present]
        others = [name for name in FILES if name != "io"]
        shown: dict[int, witness.Shown | int] = {}
        late = set()
        views = {}
        for tid, tgid, _, state in rows:
            if time.monotonic() > until:
                late.add(tid)
                shown[tid] = witness.Shown(tid, tgid, dict.fromkeys(FILES, witness.NOT_READ))
                continue
            shown[tid] = witness.read(tid, tgid, FILES if tid in seized and state & TASK_TRACED else others, True)
            if tid in seized and (view := registers.view(freezer, tid)):
                views[tid] = view
        known = set(table.column("host_pid"))
        outside = self._parents({row[2] for row in rows} - known - {0})
        return _Window(set(present), shown, late, outside, views, self.reader.full())

    # -- brackets ----------------------------------------------------------------------------------------------------------

    def running(self) -> None:
        """Looks at everything while everybody runs."""
        first = self._pass()
        if not first.tasks:
            raise TargetError(f"no task is left in pid:[{self.target.inode}]", "'cptbpf list' shows the pid namespaces")
        self._seen |= first.tasks.keys()
        identities = list(first.tasks)
        size = max(_CHUNK, len(identities) // _PASSES)
        for at in range(0, len(identities), size):
            wanted = dict.fromkeys(identities[at : at + size], CHECKS)
            first = self._bracket(first, wanted)

    def repeat(self) -> None:
        """Looks again at what moved, and at what could not be looked at before, until there is nothing left of it or it is
        clear what it is."""
        for look in range(_LOOKS):
            waiting = list(self._open)
            if not waiting:
                return
            time.sleep(_PAUSE * look)
            first = self._pass()
            size = max(_NARROW, len(waiting) // _PASSES)
            for at in range(0, len(waiting), size):
                wanted = {identity: tuple(self._open[identity]) for identity in waiting[at : at + size]}
                first = self._bracket(first, wanted)
        for identity, checks in self._open.items():
            for check, open_check in checks.items():
                self._conclude(identity, check, open_check)
        self._open.clear()

    def _parents(self, tids: Collection[int]) -> Outside:
        """Tasks that no pass over the target's namespace showed: by one over all that cptbpf's own shows; and, as some
        sandboxes keep tasks from the iterator, by /proc."""
        if not tids:
            return NOBODY
        self.reader.ask_own()
        try:
            everyone = dict(self.reader.states().columns("host_pid", "host_tgid"))
        finally:
            self.reader.ask(self.target.inode, self.target.level)
        groups = {tid: everyone[tid] for tid in tids if tid in everyone}
        pids = {}
        for tid, (group, levels) in witness.ids(tid for tid in tids if tid not in groups).items():
            groups[tid] = group
            if len(levels) > self._depth:  # a parent's namespace is its child's, or one above
                pids[tid] = levels[self._depth]
        return Outside(groups, pids)

    def _pass(self) -> Pass:
        return decode(self.reader.full(), self.target)

    def _bracket(self, before: Pass, wanted: Mapping[Identity, Iterable[Check]]) -> Pass:
        """Looks at some tasks between two passes; returns the later one."""
        tasks = {identity: before.tasks[identity] for identity in wanted if identity in before.tasks}
        shown: dict[Identity, witness.Shown | int] = {}
        rendered: dict[Identity, Rendered] = {}
        for identity, task in tasks.items():
            files = files_of(wanted[identity])
            seen = shown[identity] = witness.read(identity[0], task.state.host_tgid, self.hooks.plain(files))
            if isinstance(seen, witness.Shown):
                rendered[identity] = self.hooks.read(seen, files)
        outside = self._parents(before.parents_outside)
        after = self._pass()
        context = self._frame.context((before, after), outside)
        for identity in wanted:
            found, later, look = tasks.get(identity), after.tasks.get(identity), shown.get(identity)
            if found is None or later is None:
                self._open.pop(identity, None)  # it has ended
            elif isinstance(look, witness.Shown):
                self._judge_all(found, later, look, context, False, wanted[identity], rendered[identity])
            else:
                self._open.pop(identity, None)  # hidden: that is found in another way
        return after

    # -- verdicts ----------------------------------------------------------------------------------------------------------

    def _judge_all(
        self,
        task: FullTask,
        later: FullTask,
        shown: witness.Shown,
        context: Context,
        frozen: bool,
        checks: Iterable[Check] = CHECKS,
        rendered: Rendered = NOT_HOOKED,
    ) -> None:
        identity = task.state.host_pid, task.state.start_boottime
        self._compared.add(identity)
        self.names[later.state.pid] = later.state.comm.partition(b"\0")[0]
        around = task, later, frozen or steady(task, later)
        for check in checks:
            old, new, stood = around
            states = rendered.get(witness.file_of(check.spec))
            if states is not None and in_record(check.field):
                old, new = task._replace(state=states[0]), later._replace(state=states[1])
                stood = steady(old, new)
            before, after = kernel_value(check.field, old), kernel_value(check.field, new)
            other = shown.value(check.spec, self._depth)
            if before is None or after is None:
                self._close(identity, check)
            elif isinstance(other, Absent):
                if other == witness.NOT_READ or (other == witness.UNREADABLE and not frozen):
                    # perhaps the task had just ended, or another thread was taking over its id
                    self._reopen(identity, check).unread = (new.state.pid, after) if other == witness.UNREADABLE else None
                    continue
                self._close(identity, check)
                if other in (witness.WITHHELD, witness.UNREADABLE):
                    self._found(identity, check.field, new.state.pid, after, None, Judgement(DISAGREE, other.reason))
            else:
                sight = Sight(
                    check.field, before, after, other, old.state, new.state, context, stood, shown.file_system(), check.spec
                )
                self._settle(identity, check, sight, frozen)

    def _settle(self, identity: Identity, check: Check, sight: Sight, frozen: bool) -> None:
        """Files a verdict where there is one; keeps the comparison open where the value may have moved."""
        judgement = judge(sight)
        if sight.old.exec_id != sight.new.exec_id and judgement.verdict == DISAGREE:
            judgement = Judgement(MOVED, judgement.rule)  # an execve by another thread, which took over the id
        if check.field.rule in _RISING and not frozen:
            sight, judgement = self._confirmed(identity, check, sight, judgement)
        final = judgement.verdict != MOVED
        if judgement.verdict == DISAGREE:
            final = frozen or check.field.rule in _RISING or (sight.steady and check.field.name in _PRIVATE)
        if final:
            self._close(identity, check)
            self._file(identity, sight, judgement)
            return
        one = self._reopen(identity, check)
        one.looks += 1
        one.last = sight
        one.always &= judgement.verdict == DISAGREE

    def _confirmed(self, identity: Identity, check: Check, sight: Sight, judgement: Judgement) -> tuple[Sight, Judgement]:
        """A counter outside its bracket is reported a little later: where a thread takes over its leader's id by an execve,
        the id and the start time are the leader's at once, and exec_id moves only when the execve succeeds."""
        one = self._open.get(identity, {}).get(check)
        if judgement.verdict == DISAGREE and (one is None or one.suspect is None):
            one = self._reopen(identity, check)
            one.suspect, one.waited = sight, 0
        elif one is None or one.suspect is None:
            return sight, judgement
        elif sight.new.exec_id != one.suspect.new.exec_id:
            one.suspect = None
        else:
            one.waited += 1
            if one.waited == _TAKEOVER:
                return one.suspect, Judgement(DISAGREE, judgement.rule)
        return sight, Judgement(MOVED, judgement.rule)

    def _conclude(self, identity: Identity, check: Check, one: _Open) -> None:
        """The verdict on what never came to agree."""
        if one.last is None:
            if one.unread is not None:
                self._found(identity, check.field, *one.unread, None, Judgement(DISAGREE, witness.UNREADABLE.reason))
            return
        if not one.always:
            judgement = Judgement(EXPLAINED, f"{KEPT_MOVING}: in each of {one.looks} looks")
        elif check.field.name == "total_vm" and one.last.new.host_tgid == os.getpid() and one.last.shown < one.last.after:
            judgement = Judgement(EXPLAINED, "exact: cptbpf itself has more memory while it reads a pass")
        else:
            judgement = Judgement(DISAGREE, check.field.rule)
        self._file(identity, one.last, judgement)

    def _reopen(self, identity: Identity, check: Check) -> _Open:
        return self._open.setdefault(identity, {}).setdefault(check, _Open())

    def _close(self, identity: Identity, check: Check) -> None:
        checks = self._open.get(identity)
        if checks is not None:
            checks.pop(check, None)
            if not checks:
                del self._open[identity]

    def _file(self, identity: Identity, sight: Sight, judgement: Judgement) -> None:
        other = exported_witness(sight.field, sight.shown)
        self._found(identity, sight.field, sight.new.pid, sight.after, other, judgement)

    def _found(self, identity: Identity, field: Field, pid: int, kernel: object, other: object, judgement: Judgement) -> None:
        result = Result(pid, identity[0], field.name, "proc", exported(field, kernel), other, *judgement)
        self._results.setdefault((identity, field.name, "proc"), []).append(result)
