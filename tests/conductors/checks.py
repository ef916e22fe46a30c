"""Cross-checks for tests: in this process, or by the command line under another command."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cptbpf
from cptbpf.conductors.crosscheck import Report, Result
from tests.cli.command import command
from tests.harness import SLOWNESS, Target

PATIENCE = 10 * SLOWNESS
PRIVATE = ("unshare", "--mount", "--propagation", "private", "--")
"""What a test mounts is seen by the command alone."""


def check(target: Target, **how: Any) -> Report:
    """The check of a target's namespace."""
    return cptbpf.crosscheck(pidns=f"pid:[{target.ns_inode}]", timeout=PATIENCE, **how)  # type: ignore[no-any-return]


def assert_agreed(report: Report) -> None:
    """Nothing disagreed, nobody was hidden, nothing was left undecided; but on an emulated machine a value may keep moving."""
    assert "\n".join(str(result) for result in report.results if result.verdict == "disagree") == ""
    assert (report.hidden, report.phantom) == ((), ())
    assert not report.finding
    moving = [result for result in report.results if result.rule.startswith("kept moving")]
    assert len(moving) <= (0 if SLOWNESS == 1 else 2), "\n".join(map(str, moving))


def of(report: Report, host_pid: int) -> dict[tuple[str, str], list[Result]]:
    """The results about one task, by field and witness."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in report.results:
        if result.host_pid == host_pid:
            found.setdefault((result.field, result.witness), []).append(result)
    return found


def under_mounts(mounts: Mapping[str, str], *arguments: object, before: Sequence[str] = (), **how: Any) -> tuple[int, Any]:
    """``cptbpf crosscheck --json`` where other files stand in for some of /proc: exit status and document.

    ``mounts`` gives, for a path of /proc, what is bound over it.
    """
    script = "".join(f"mount --bind {source} {place} && " for place, source in mounts.items()) + 'exec "$@"'
    return checked(*arguments, before=(*PRIVATE, "sh", "-c", script, "sh", *before), **how)


def checked(*arguments: object, before: Iterable[str] = (), **how: Any) -> tuple[int, Any]:
    """``cptbpf crosscheck --json``: exit status and document."""
    done = command("crosscheck", *arguments, "--json", before=tuple(before), **how)
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def disagreeing(document: Any) -> list[tuple[int, str]]:
    """Pid and field of each disagreement of a document."""
    return [(result["pid"], result["field"]) for result in document["results"] if result["verdict"] == "disagree"]
