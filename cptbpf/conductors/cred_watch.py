"""Follows the credentials of a target for a while, and looks whether each task has afterwards what it was given."""

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from cptbpf.conductors.target import members, resolve
from cptbpf.fields import FIELDS
from cptbpf.kernel.cred_watch import CredChange, Credentials, CredWatch
from cptbpf.kernel.record import TaskState
from cptbpf.kernel.tasks import TaskReader
from cptbpf.proc.system import ahead, clocks
from cptbpf.sched import EXITED

#: tid in cptbpf's own pid namespace and start_boottime: no two tasks have both.
Identity = tuple[int, int]

AGREE = "agree"  # a pass afterwards shows the new values
SUPERSEDED = "superseded"  # the task changed them again before a pass saw it
GONE = "gone"  # the task ended before a pass saw it
DISAGREE = "disagree"  # a pass shows others, and no change to them was reported
VERDICTS = (AGREE, SUPERSEDED, GONE, DISAGREE)

_ANYBODY = 1.0  # seconds from one look whether anybody is left to the next
_TURN = 0.25  # seconds from one look to the next, at most
_LOOKS = 8  # at a task that has not yet got what it was given; each waits twice as long as the last, from 1 ms
_HEX = {field.name for field in FIELDS if field.hex}


class Judged(NamedTuple):
    """A change, and what became of it. ``after`` are the credentials that a later pass saw, None where it saw none."""

    change: CredChange
    verdict: str
    after: Credentials | None


class Outcome(NamedTuple):
    """What a watch found. ``refused`` has (hook, reason) of those that the kernel did not take; ``replaced`` counts, where
    switches are followed, credentials that were replaced by equal ones: what they were in between was not seen. ``verdicts``
    counts all changes by verdict; ``changes`` are those that were kept."""

    hook: str
    refused: tuple[tuple[str, str], ...]
    dropped: int
    replaced: int
    verdicts: Mapping[str, int]
    changes: tuple[Judged, ...]

    @property
    def finding(self) -> bool:
        """Whether a task has other credentials than its changes explain."""
        return bool(self.verdicts[DISAGREE])


class CredentialWatch:
    """One watch of one target, from the moment that it is made. Use it as a context manager.

    ``hook``
        What shows the changes, as in :class:`cptbpf.kernel.cred_watch.CredWatch`, which takes it as well.

    Raises TargetError, PrivilegeError, UnsupportedError.
    """

    def __init__(self, pidns: str | int | None = None, pid: int | None = None, hook: str = "") -> None:
        self._reader = TaskReader()
        try:
            self._target = resolve(self._reader, pidns, pid)
            self._watch = CredWatch(self._reader, self._target.root, hook)
        except BaseException:
            self._reader.close()
            raise
        self.hook = self._watch.hook
        self.refused = self._watch.refused
        self._waiting: list[tuple[CredChange, int]] = []  # for a verdict, and how often it was looked for
        self._later: list[CredChange] = []  # seen when the time was over
        self._over = False
        self._last: dict[Identity, CredChange] = {}  # the latest change of each task in it
        self._known: dict[Identity, tuple[Credentials, int]] = {}  # what each task should have, as far as is known
        self._note(self._pass())
        self._verdicts = dict.fromkeys(VERDICTS, 0)
        self._ended = False

    def __enter__(self) -> "CredentialWatch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detaches the programs."""
        self._watch.close()
        self._reader.close()

    @property
    def dropped(self) -> int:
        """Changes that were lost so far because they came faster than they were read."""
        return self._watch.dropped

    def outcome(self, changes: Iterable[Judged]) -> Outcome:
        """What was found so far, with those of its changes that the caller kept."""
        return Outcome(self.hook, self.refused, self.dropped, self._watch.replaced, dict(self._verdicts), tuple(changes))

    def interrupt(self) -> None:
        """Has :meth:`changes` come to its end, the one at work or the next. For another thread, or a signal handler."""
        self._ended = True
        self._watch.interrupt()

    def changes(self, duration: float) -> Iterator[Judged]:
        """The changes of the next ``duration`` seconds, each as soon as it is judged; last, what only a pass shows. It ends
        before its time when nobody is left."""
        for judged in self._followed(duration):
            self._verdicts[judged.verdict] += 1
            yield judged

    def _followed(self, duration: float) -> Iterator[Judged]:
        self._over = False
        self._waiting += ((change, 0) for change in self._later)
        self._later.clear()
        end = time.monotonic() + duration
        due = time.monotonic() + _ANYBODY
        while not self._ended and (left := end - time.monotonic()) > 0:
            pause = 1e-3 * 2 ** self._waiting[0][1] if self._waiting else _TURN
            if self._watch.wait(min(left, _TURN, pause)) or self._waiting:
                yield from self._look()
            elif time.monotonic() > due:
                due = time.monotonic() + _ANYBODY
                tasks = self._pass()
                self._note(tasks)
                self._ended |= all(task.state & EXITED for task in tasks.values())
        yield from self._look()
        self._over = True  # what changes from here on is for the next call, and for what supersedes what
        while self._waiting:
            time.sleep(1e-3 * 2 ** self._waiting[0][1])
            yield from self._look()
        yield from self._unreported()

    def _pass(self) -> dict[Identity, TaskState]:
        table = self._reader.states()
        if (inside := members(table, self._target)) is not None:
            table = table.only(inside)
        return {(task.host_pid, task.start_boottime): task for task in table}

    def _note(self, tasks: Mapping[Identity, TaskState]) -> None:
        """Has it that tasks which are new to it, or have executed a program since, rightly have what a pass shows."""
        for identity, task in tasks.items():
            known = self._known.get(identity)
            if known is None or known[1] != task.exec_id:
                self._known[identity] = Credentials.of(task), task.exec_id
        if len(self._known) > 2 * len(tasks) + 1000:
            self._known = {identity: known for identity, known in self._known.items() if identity in tasks}

    def _read(self) -> None:
        for change in self._watch.read():
            if self._over:
                self._later.append(change)
            else:
                self._waiting.append((change, 0))
            self._last[_identity(change)] = change

    def _look(self) -> Iterator[Judged]:
        """Reads what was reported, takes a pass, and judges what can be judged by it."""
        self._read()
        if not self._waiting:
            return
        tasks = self._pass()
        self._read()  # the changes that the pass shows already: a report comes before its change
        waiting, self._waiting = self._waiting, []
        for change, looks in waiting:
            judged = self._judge(change, looks, tasks)
            if judged is None:
                self._waiting.append((change, looks + 1))
                continue
            if self._last.get(_identity(change)) is change:
                del self._last[_identity(change)]
            yield judged
        self._note(tasks)

    def _judge(self, change: CredChange, looks: int, tasks: Mapping[Identity, TaskState]) -> Judged | None:
        """The verdict on a change; None where the task may not have got round to it yet."""
        task = tasks.get(_identity(change))
        after = task and Credentials.of(task)
        if task and after and after.same(change.new):
            self._known[_identity(change)] = after, task.exec_id
            return Judged(change, AGREE, after)
        if self._last.get(_identity(change), change) is not change:
            return Judged(change, SUPERSEDED, after)
        if task is None:
            return Judged(change, GONE, None)
        if looks < _LOOKS:
            return None
        self._known[_identity(change)] = Credentials.of(task), task.exec_id
        # What a task does to its credentials is told by sched_switch when it leaves its cpu.
        untold = self.dropped or (self.hook == "sched_switch" and task.on_cpu)
        return Judged(change, SUPERSEDED if untold else DISAGREE, after)

    def _unreported(self) -> Iterator[Judged]:
        """What a last pass shows that was not reported. Where commit_creds is hooked, there is no such thing.

        Should it seem so, it is looked at again: a thread that takes over its leader's id by an execve has its own credentials
        there, and exec_id moves a little later.
        """
        found = list(self._differing())
        for look in range(_LOOKS):
            if not any(judged.verdict == DISAGREE for judged in found):
                break
            time.sleep(1e-3 * 2**look)
            found = list(self._differing())
        yield from found

    def _differing(self) -> Iterator[Judged]:
        """Whoever has other credentials in a pass than was reported."""
        tasks = self._pass()
        now = clocks().monotonic
        self._read()
        reported = set(map(_identity, self._later))
        for identity, (known, exec_id) in self._known.items():
            task = tasks.get(identity)
            if task is None or identity in reported or task.exec_id != exec_id:  # at an execve a thread takes its leader's id
                continue
            found = Credentials.of(task)
            if not found.same(known):
                ids = task.pid, task.tgid, task.host_pid, task.host_tgid, task.start_boottime, task.comm
                change = CredChange(now, *ids, known, found, "pass")
                expected = self.hook == "sched_switch" or self.dropped
                yield Judged(change, AGREE if expected else DISAGREE, found)


def shown(outcome: Outcome) -> dict[str, Any]:
    """What a watch found, as JSON has it. Times are decimal strings of ns since 1970, and since the machine's start."""
    return {
        "hook": outcome.hook,
        "refused": [{"hook": hook, "reason": reason} for hook, reason in outcome.refused],
        "dropped": outcome.dropped,
        "replaced": outcome.replaced,
        "changes": [shown_change(judged) for judged in outcome.changes],
        "summary": outcome.verdicts,
    }


def shown_change(judged: Judged) -> dict[str, Any]:
    """One change, as JSON has it; ``changed`` names the fields that differ."""
    change = judged.change
    return {
        "time_ns": str(realtime(change)),
        "pid": change.pid,
        "tgid": change.tgid,
        "host_pid": change.host_pid,
        "host_tgid": change.host_tgid,
        "start_boottime": str(change.start_boottime),
        "comm": change.comm.partition(b"\0")[0].decode("utf-8", "surrogateescape"),
        "hook": change.hook,
        "changed": changed(change),
        "old": _shown_credentials(change.old),
        "new": _shown_credentials(change.new),
        "verdict": judged.verdict,
        "after": judged.after and _shown_credentials(judged.after),
    }


def realtime(change: CredChange) -> int:
    """When a change was made or seen, in ns since 1970."""
    return change.time_ns + ahead()


def changed(change: CredChange) -> list[str]:
    """The names of the fields in which a change's old and new credentials differ."""
    return [name for name, old, new in zip(Credentials._fields, change.old, change.new, strict=True) if old != new]


def _shown_credentials(credentials: Credentials) -> dict[str, Any]:
    values = credentials._asdict()
    return {name: f"{value:#x}" if name in _HEX else value for name, value in values.items() if value is not None}


def _identity(change: CredChange) -> Identity:
    return change.host_pid, change.start_boottime
