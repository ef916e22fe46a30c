"""What ``cptbpf crosscheck --watch`` prints: each change of credentials, and what became of it."""

import time
from typing import TextIO

from cptbpf.cli.output import emit, emit_json, telling_where, text_stdout
from cptbpf.cli.stopping import stopped_by_signals
from cptbpf.cli.text import escape, plural
from cptbpf.conductors.cred_watch import DISAGREE, GONE, SUPERSEDED, CredentialWatch, Judged, Outcome, changed, realtime, shown

_HEX = ("cap_", "securebits")
_VERDICTS = {GONE: "the task ended before it was looked at", SUPERSEDED: "changed again before it was looked at"}


def run(pidns: str | None, pid: int | None, duration: float, as_json: bool) -> int:
    """Watches for a while, or until a signal. Exit status: 1 where a task has other credentials than its changes explain."""
    stream = text_stdout()
    with CredentialWatch(pidns, pid) as watching, stopped_by_signals(watching.interrupt):
        kept = []  # for the one document; lines are told and forgotten, for it may be a watch of days
        for judged in watching.changes(duration):
            if as_json:
                kept.append(judged)
            else:
                _line(judged, stream)
        outcome = watching.outcome(kept)
    if as_json:
        emit_json(shown(outcome))
    else:
        emit([_summary(outcome)])
    return 1 if outcome.finding else 0


def _line(judged: Judged, stream: TextIO) -> None:
    change = judged.change
    when = time.strftime("%H:%M:%S", time.gmtime(realtime(change) / 1e9))
    values = [
        f"{name} {_value(name, getattr(change.old, name))} -> {_value(name, getattr(change.new, name))}"
        for name in changed(change)
    ]
    verdict = "DISAGREES with what a pass shows" if judged.verdict == DISAGREE else _VERDICTS.get(judged.verdict, "")
    comm = change.comm.partition(b"\0")[0]
    who = f"pid {change.pid} (here {change.host_pid}) {escape(comm)}"
    with telling_where():
        stream.write(f"{when} {who}: {', '.join(values) or 'the same values anew'}{f'; {verdict}' if verdict else ''}\n")
        stream.flush()


def _value(name: str, value: object) -> str:
    return f"{value:#x}" if name.startswith(_HEX) and isinstance(value, int) else str(value)


def _summary(outcome: Outcome) -> str:
    how = "sched_switch, at the end of each turn on a cpu" if outcome.hook == "sched_switch" else outcome.hook
    parts = [f"{plural(sum(outcome.verdicts.values()), 'change')} of credentials, seen by {how}"]
    bad = outcome.verdicts[DISAGREE]
    parts.append(f"{bad} disagree" if bad else "every task has what it was given")
    if outcome.replaced:
        parts.append(f"{plural(outcome.replaced, 'time')} replaced by equal ones: what they were in between was not seen")
    if outcome.dropped:
        parts.append(f"{outcome.dropped} lost: they came faster than they were read")
    return "; ".join(parts)
