"""Each change of credentials, and what the task has afterwards."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from cptbpf.conductors import cred_watch
from cptbpf.conductors.cred_watch import (
    AGREE,
    DISAGREE,
    GONE,
    SUPERSEDED,
    CredentialWatch,
    Judged,
    changed,
    shown,
)
from cptbpf.errors import TargetError
from tests.features import missing
from tests.harness import Target, often, until

pytestmark = pytest.mark.bpf

hooks = pytest.mark.parametrize(
    "hook",
    [
        pytest.param("fentry", marks=pytest.mark.kprobe),
        pytest.param("kprobe", marks=pytest.mark.kprobe),
        pytest.param("sched_switch", marks=pytest.mark.needs("task_storage")),
        "sched_switch-hash",
        "sched_switch-raw",
    ],
)


@pytest.fixture
def changer(target: Callable[..., Target]) -> Target:
    return target("credchange", init=True)


@pytest.fixture
def watching(changer: Target, hook: str) -> Iterator[CredentialWatch]:
    with CredentialWatch(pidns=f"pid:[{changer.ns_inode}]", hook=hook) as opened:
        yield opened


def tell(changer: Target, *commands: str) -> None:
    for command in commands:
        changer.say(command)
        assert changer.read_line() == "done"


def found(watching: CredentialWatch, duration: float = 0, passes: bool = True) -> list[tuple[str, str]]:
    """What was changed, by its effective uid before and after, and its verdict. ``passes``: what only a pass saw as well."""
    seen = [judged for judged in watching.changes(duration) if passes or judged.change.hook != "pass"]
    return [(f"{j.change.old.euid} {j.change.new.euid}", j.verdict) for j in seen]


@hooks
def test_agree(changer: Target, watching: CredentialWatch) -> None:
    tell(changer, "seteuid 1006")
    (judged,) = watching.changes(0)
    assert judged.verdict == AGREE
    assert judged.after is not None
    assert judged.after.same(judged.change.new)
    assert judged.change.pid == changer.pid
    assert changed(judged.change) == ["euid", "fsuid", "cap_effective"]
    assert list(watching.changes(0)) == []


@hooks
def test_superseded(changer: Target, watching: CredentialWatch) -> None:
    tell(changer, "seteuid 1006", "seteuid 0")
    assert found(watching) == [("0 1006", SUPERSEDED), ("1006 0", AGREE)]


@hooks
def test_gone(changer: Target, watching: CredentialWatch) -> None:
    tell(changer, "leave")
    assert found(watching) == [("0 1007", GONE)]


@hooks
def test_a_wrong_report_disagrees(changer: Target, watching: CredentialWatch) -> None:
    """A report that is off by one in one id, or one bit in one set."""
    tell(changer, "seteuid 1006")
    real: list[Judged] = list(watching.changes(0))
    change = real[0].change
    for name in ("uid", "fsgid", "securebits", "cap_bset", "user_ns", "ngroups"):
        planted = change._replace(new=change.new._replace(**{name: getattr(change.new, name) ^ 1}))
        watching._waiting.append((planted, 0))
        watching._last[planted.host_pid, planted.start_boottime] = planted
        (judged,) = watching.changes(0)
        assert judged.verdict == DISAGREE
        assert judged.after is not None
        assert getattr(judged.after, name) == getattr(change.new, name)


@hooks
def test_a_change_that_nobody_reported(changer: Target, watching: CredentialWatch, hook: str) -> None:
    """Credentials that a pass shows and no report explains: a finding, where none can be overlooked."""
    identity = next(identity for identity in watching._known if identity[0] == changer.host_pid)
    credentials, exec_id = watching._known[identity]
    watching._known[identity] = credentials._replace(egid=1), exec_id
    (judged,) = watching.changes(0)
    assert judged.change.hook == "pass"
    assert changed(judged.change) == ["egid"]
    assert judged.verdict == (AGREE if hook.startswith("sched_switch") else DISAGREE)


@hooks
@pytest.mark.parametrize(("depth", "lost"), [(20, False), (300, True)])
def test_what_is_too_far_down_a_tree_to_be_told_is_counted(
    target: Callable[..., Target], hook: str, depth: int, lost: bool
) -> None:
    one = target("deep", depth)
    with CredentialWatch(pid=one.host_pid, hook=hook) as watching:
        one.say("change")
        assert one.read_line() == "done"
        seen = [*watching.changes(0), *watching.changes(0)]  # its turn may end when the first one is over
        assert bool(watching.dropped) == lost
        assert {judged.verdict for judged in seen} <= {AGREE, SUPERSEDED}
        assert [judged.change.new.euid for judged in seen][-1:] == [1001]
        assert {judged.change.hook for judged in seen[-1:]} == {"pass"} or not lost


ZOMBIES = """
import os, sys
for _ in range(40):
    if not os.fork():
        os._exit(0)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    os.wait()
print("done", flush=True)
sys.stdin.readline()
"""


@hooks
def test_who_gets_the_memory_of_the_dead_is_not_taken_for_them(spawn: Callable[..., Target], hook: str) -> None:
    """A zombie has no switch to come: what is kept of it must not be found by a stranger whose task_struct lies there."""
    parent = spawn([sys.executable, "-c", ZOMBIES], ready=True)
    with CredentialWatch(pidns=f"pid:[{parent.ns_inode}]", hook=hook) as watching:
        parent.say("")
        assert parent.read_line() == "done"
        for _ in range(often(60)):
            subprocess.run(["setpriv", "--reuid", "1234", "--clear-groups", "true"], check=True)
        assert list(watching.changes(0)) == []


@pytest.mark.parametrize("hook", ["sched_switch-raw"])
def test_a_task_that_keeps_its_cpu(changer: Target, watching: CredentialWatch) -> None:
    """Its change is seen when it loses the cpu, or by the last pass; once in either case."""
    tell(changer, "burn")
    (judged,) = list(watching.changes(0)) or list(watching.changes(0))  # its turn may end when the first one is over
    assert judged.change.hook in ("sched_switch", "pass")
    assert judged.verdict == AGREE
    assert (judged.change.old.euid, judged.change.new.euid) == (0, 1005)


@hooks
def test_a_storm(changer: Target, watching: CredentialWatch, hook: str) -> None:
    """Every change once, and in its order, while they go on; nothing disagrees.

    Where switches are followed, each look ends with a pass, which may show a change before the task leaves its cpu with it.
    """
    passes = not hook.startswith("sched_switch")
    changer.say("storm 300")
    verdicts: list[tuple[str, str]] = []
    until(lambda: verdicts.extend(found(watching, 0.2, passes)) or len(verdicts) >= 300, "300 changes", 30)
    assert [pair for pair, _ in verdicts] == ["0 1004", "1004 0"] * 150
    assert {verdict for _, verdict in verdicts} <= {AGREE, SUPERSEDED}
    assert verdicts[-1][1] == AGREE
    assert watching.dropped == 0


@hooks
def test_there_and_back(changer: Target, watching: CredentialWatch, hook: str) -> None:
    """Within one turn on a cpu: a hook sees both changes; who follows switches sees that there was something, and says so."""
    tell(changer, *["back"] * 10)
    seen = found(watching)
    counted = watching.outcome(()).replaced
    if hook.startswith("sched_switch"):
        assert counted + len(seen) / 2 == 10  # it may lose the cpu in between
        assert counted
    else:
        assert [pair for pair, _ in seen] == ["0 1004", "1004 0"] * 10
        assert counted == 0


@hooks
def test_an_execve_is_not_counted(spawn: Callable[..., Target], hook: str) -> None:
    """It always gives the task other credentials, as a rule equal ones."""
    program = spawn(["sh", "-c", "read line; exec sleep 1000"])
    until(lambda: program.status("State").startswith("S"), "the shell to wait")
    with CredentialWatch(pid=program.host_pid, hook=hook) as watching:
        program.say("")
        until(lambda: program.status("Name") == "sleep" and program.status("State").startswith("S"), "the execve")
        assert found(watching) == []
        assert watching.outcome(()).replaced == 0


def test_it_ends_with_the_last_task(changer: Target) -> None:
    with CredentialWatch(pid=changer.host_pid) as watching:
        changer.close()
        assert list(watching.changes(3600)) == []


def test_the_outcome(changer: Target) -> None:
    """The tree below a process, for as long as asked; JSON can hold what it found."""
    with CredentialWatch(pid=changer.host_pid) as watching:
        # neither begun before nor left: an emulated CPU at times runs a breakpoint that the kernel has taken back
        tell(changer, "storm 100")
        told = list(watching.changes(0.3))
        outcome = watching.outcome(told)
    assert outcome.changes == tuple(told) != ()
    assert not outcome.finding
    assert outcome.hook == ("sched_switch" if missing("kprobe") else "fentry")
    value = json.loads(json.dumps(shown(outcome)))
    assert (value["hook"], value["dropped"]) == (outcome.hook, outcome.dropped)
    assert sum(value["summary"].values()) == len(told)
    assert value["summary"]["disagree"] == 0
    change = value["changes"][0]
    assert (change["pid"], change["host_pid"], change["hook"]) == (changer.pid, changer.host_pid, outcome.hook)
    assert change["changed"] == ["euid", "fsuid", "cap_effective"]
    assert {change["old"]["euid"], change["new"]["euid"]} == {0, 1004}
    assert change["new"]["cap_effective"].startswith("0x")


def test_interrupted(changer: Target) -> None:
    """It ends with what there is, not with the hour."""
    with CredentialWatch(pid=changer.host_pid) as watching:
        tell(changer, "seteuid 1006")
        watching.interrupt()
        assert found(watching, 3600) == [("0 1006", AGREE)]


def test_no_such_target() -> None:
    with pytest.raises(TargetError):
        CredentialWatch(pid=1 << 22)


@pytest.mark.parametrize("hook", ["sched_switch-raw"])
def test_what_it_changes_on_its_cpu_is_told_later(changer: Target, watching: CredentialWatch) -> None:
    """Who is on a cpu may have changed again, and been reported for the last time before; who has left it has been reported."""
    tell(changer, "seteuid 1006")
    (real,) = watching.changes(0)
    other = real.change._replace(new=real.change.new._replace(euid=1))
    ((identity, task),) = ((one, two) for one, two in watching._pass().items() if one[0] == changer.host_pid)
    verdicts = [
        watching._judge(other, cred_watch._LOOKS, {identity: task._replace(on_cpu=on_cpu)}).verdict for on_cpu in (1, 0)
    ]
    assert verdicts == [SUPERSEDED, DISAGREE]
