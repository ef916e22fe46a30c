"""What ``cptbpf crosscheck --watch`` prints: each change of credentials, and what became of it."""

import sys
import time
from typing import TextIO

from cptbpf.cli.output import emit_json
from cptbpf.cli.text import escape, plural
from cptbpf.conductors.cred_watch import DISAGREE, GONE, SUPERSEDED, Judged, Outcome, changed, shown, watch

_HEX = ("cap_", "securebits")
_VERDICTS = {GONE: "the task ended before it was looked at", SUPERSEDED: "changed again before it was looked at"}


def run(pidns: str | None, pid: int | None, duration: float, as_json: bool) -> int:
    """Watches for a while. Exit status: 1 where a task has other credentials than its changes explain."""
    stream = None if as_json else sys.stdout
    outcome = watch(pidns=pidns, pid=pid, duration=duration, report=(lambda judged: _line(judged, stream)) if stream else None)
    if as_json:
        emit_json(shown(outcome))
    elif stream is not None:
        stream.write(_summary(outcome) + "\n")
    return 1 if outcome.finding else 0


def _line(judged: Judged, stream: TextIO) -> None:
    change = judged.change
    since = time.time() - time.monotonic()
    when = time.strftime("%H:%M:%S", time.gmtime(change.time_ns / 1e9 + since))
    values = [
        f"{name} {_value(name, getattr(change.old, name))} -> {_value(name, getattr(change.new, name))}"
        for name in changed(change)
    ]
    verdict = "DISAGREES with what a pass shows" if judged.verdict == DISAGREE else _VERDICTS.get(judged.verdict, "")
    comm = change.comm.partition(b"\0")[0]
    who = f"pid {change.pid} (here {change.host_pid}) {escape(comm)}"
    stream.write(f"{when} {who}: {', '.join(values) or 'the same values anew'}{f'; {verdict}' if verdict else ''}\n")
    stream.flush()


def _value(name: str, value: object) -> str:
    return f"{value:#x}" if name.startswith(_HEX) and isinstance(value, int) else str(value)


def _summary(outcome: Outcome) -> str:
    parts = [f"{plural(len(outcome.changes), 'change')} of credentials, seen by {outcome.hook}"]
    bad = sum(judged.verdict == DISAGREE for judged in outcome.changes)
    parts.append(f"{bad} disagree" if bad else "every task has what it was given")
    if outcome.dropped:
        parts.append(f"{outcome.dropped} lost: they came faster than they were read")
    return "; ".join(parts)
