"""The sampler's stream: who is told of, by which id, and that nothing is lost silently."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.conductors.events import Cred, Drop, Event, Exec, Exit, Fork, Sample
from cptbpf.conductors.sample import Sampler
from cptbpf.conductors.tasks import tasks
from cptbpf.errors import TargetError
from cptbpf.kernel.record import TaskState
from tests.harness import Target, until

pytestmark = pytest.mark.bpf
Start = Callable[..., Target]


def sampling(target: Target, interval: float = 3600, ring: int = 4 << 20) -> Sampler:
    return Sampler(pidns=f"/proc/{target.host_pid}/ns/pid", interval=interval, ring=ring)


def gather(sampler: Sampler, enough: Callable[[list[Event]], object], timeout: float = 30) -> list[Event]:
    """Events until there are enough of them."""
    events: list[Event] = []

    def more() -> object:
        events.extend(sampler.poll(0.02))
        return enough(events)

    until(more, "events", timeout)
    return events


def ends(events: list[Event]) -> list[Exit]:
    return [event for event in events if isinstance(event, Exit)]


def test_the_first_events_are_everyone(target: Start) -> None:
    threads = target("threads", 20)
    with sampling(threads) as sampler:
        first = sampler.poll()
        told = [(event.task.pid, event.task.host_pid) for event in first if isinstance(event, Sample)]
        assert len(told) == len(set(told)) == len(first)
        assert sorted(host for _, host in told) == threads.tids()
        assert sampler.poll() == []  # they sleep
        again = sampler.sample()  # and are in every sample on demand
        assert sorted(event.task.host_pid for event in again if isinstance(event, Sample)) == threads.tids()
        assert sorted(task.host_pid for task in sampler.tasks()) == threads.tids()
        assert {task.tgid for task in sampler.tasks()} == {threads.pid}


@pytest.mark.parametrize("kind", ["fork", "vfork", "thread", "mixed"])
def test_nobody_is_missing_or_told_twice_in_a_storm(target: Start, kind: str) -> None:
    """Begun in the midst of it: who ends was known, and ends once; who is left is what a pass shows."""
    storm = target("forkstorm", kind)
    with sampling(storm, ring=64 << 20) as sampler:
        attached = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        known: dict[int, int] = {}
        ended = 0
        events: list[Event] = []
        while ended < 300:
            events = sampler.poll(0.02)
            for event in events:
                if isinstance(event, Drop):
                    pytest.fail(f"lost {event}")
                task = event.task
                if isinstance(event, Fork):
                    # a pass may meet it before its birth is told
                    assert known.setdefault(task.pid, task.start_boottime) == task.start_boottime
                elif isinstance(event, Exit):
                    if task.pid in known or task.start_boottime > attached:  # else it may have ended while it was met
                        assert known.pop(task.pid) == task.start_boottime
                    assert task.exit_code in (0, 3 << 8)
                    ended += 1
                else:
                    assert known.setdefault(task.pid, task.start_boottime) == task.start_boottime
        assert sampler.dropped == 0
        storm.kill(19)  # SIGSTOP: it stands still
        until(lambda: storm.status("State")[0] == "T", "the stop", 60)
        until(lambda: not sampler.poll(0.02), "the rest of what it did", 120)

        def settled() -> bool:
            told = sampler.poll(0.02)
            seen = {state.pid for state in tasks(pidns=f"/proc/{storm.host_pid}/ns/pid") if not state.state & 0x30}
            return not told and seen == {state.pid for state in sampler.tasks() if not state.state & 0x30}

        until(settled, "the same as a pass shows", 60)


def test_a_thread_that_executes_is_followed_through_its_change_of_id(target: Start) -> None:
    program = target("threadexec", 3, 30)
    with sampling(program) as sampler:
        events = gather(sampler, lambda events: sum(isinstance(event, Exec) for event in events) >= 5)
        known: set[int] = set()
        for event in events:
            assert not isinstance(event, Drop)
            pid = event.task.pid
            if isinstance(event, Exec):
                assert pid == program.pid
                assert event.old_pid in known
                known.discard(event.old_pid)
                known.add(pid)
            elif isinstance(event, Exit):
                assert event.task.tgid == program.pid
                if event.old_pid:  # the old leader, by the id that it died with
                    assert event.old_pid == program.pid
                    assert pid not in known
                else:
                    known.discard(pid)
            else:
                known.add(pid)
        assert program.pid in known
        assert {state.tgid for state in sampler.tasks()} == {program.pid}
        until(lambda: sampler.poll(0.02) or {t.pid for t in sampler.tasks()} == {program.pid}, "the last thread", 30)


def test_changed_credentials_are_told_once_with_what_they_were(target: Start) -> None:
    changer = target("changer")
    with sampling(changer) as sampler:
        sampler.poll()
        changer.say("1234")
        tid = int(changer.read_line().split()[1])
        events = gather(sampler, lambda events: any(isinstance(event, Cred) for event in events))
        changed = [event for event in events if isinstance(event, Cred)]
        assert [event.task.pid for event in changed] == [tid]
        assert (changed[0].task.uid, changed[0].task.suid) == (1234, 0)
        assert changed[0].before is not None
        assert changed[0].before.uid == 0
        changer.say("0")
        assert changer.read_line() == f"changed {tid} 0"
        events = gather(sampler, lambda events: any(isinstance(event, Cred) for event in events))
        assert [(event.task.pid, event.before and event.before.uid) for event in events if isinstance(event, Cred)] == [
            (tid, 1234)
        ]


def test_an_exec_tells_what_it_did_to_credentials_only_where_it_did(target: Start, spawn: Start) -> None:
    shell = spawn(["sh", "-c", "read go; setpriv --reuid 1234 --clear-groups /bin/true; /bin/true; read end"])
    with sampling(shell) as sampler:
        sampler.poll()
        shell.say("go")
        events = gather(sampler, lambda events: len(ends(events)) >= 2)
        changed = [event for event in events if isinstance(event, Cred)]
        runs = [event.task.comm.partition(b"\0")[0] for event in events if isinstance(event, Exec)]
        assert runs == [b"setpriv", b"true", b"true"]
        assert {event.task.pid for event in changed} == {ends(events)[0].task.pid}
        assert changed[-1].task.uid == 1234


def test_a_burner_alone_on_its_cpu_is_reported_at_its_interval(target: Start) -> None:
    burner = target("burner", 2)
    with sampling(burner, interval=0.05) as sampler:
        events = gather(
            sampler,
            lambda events: all(len(of_task(events, tid)) >= 4 for tid in burner.tids() if tid != burner.host_pid),
        )
        for tid in burner.tids():
            used = [event.task.sum_exec_runtime for event in of_task(events, tid)]
            assert used == sorted(used)
            if tid != burner.host_pid:
                assert used[-1] > used[0]


def of_task(events: list[Event], host_pid: int) -> list[Sample]:
    return [event for event in events if isinstance(event, Sample) and event.task.host_pid == host_pid]


def test_the_last_thing_that_a_task_did_is_told_though_it_sleeps_since(target: Start) -> None:
    sleeper = target("sleeper")
    with sampling(sleeper, interval=0.1) as sampler:
        sampler.poll()
        for _ in range(5):
            sleeper.say("")
            sleeper.read_line()
        until(lambda: sleeper.status("State").startswith("S"), "sleep")
        switches = int(sleeper.status("voluntary_ctxt_switches"))
        gather(sampler, lambda _: sampler.tasks()[0].nvcsw >= switches)
        assert sampler.tasks()[0].nvcsw == switches
        assert sampler.poll() == []


def test_the_counters_of_an_end_are_what_proc_shows_of_the_zombie(target: Start) -> None:
    parent = target("children")
    with sampling(parent) as sampler:
        sampler.poll()
        parent.say("fork")
        child = int(parent.read_line().split()[1])
        born = gather(sampler, lambda events: any(isinstance(event, Fork) for event in events))
        host = next(event.task.host_pid for event in born if isinstance(event, Fork))
        os.kill(host, 9)
        end = ends(gather(sampler, ends))[0].task
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{host}/status").read_text().splitlines())
        stat = Path(f"/proc/{host}/stat").read_text().rpartition(") ")[2].split()
    assert status["State"].startswith("Z")
    assert end.pid == child
    assert end.exit_code == 9 == int(stat[49])
    assert end.nvcsw == int(status["voluntary_ctxt_switches"])
    assert end.nivcsw == int(status["nonvoluntary_ctxt_switches"])
    assert (end.min_flt, end.maj_flt) == (int(stat[7]), int(stat[9]))


def test_losses_are_told_and_who_lives_is_right_again_afterwards(target: Start) -> None:
    brief = target("brief")
    with sampling(brief, ring=4096) as sampler:
        sampler.poll()
        brief.say("60")
        assert brief.read_line() == "made 60"
        events = gather(sampler, lambda _: sampler.dropped)
        lost = [event for event in events if isinstance(event, Drop)]
        assert sum(event.lost for event in lost) == sampler.dropped
        assert {event.why for event in lost} == {"full"}
        told = sum(isinstance(event, Fork | Exit) for event in events)
        assert told + sampler.dropped >= 120
        until(lambda: sampler.poll(0.02) is not None and [t.pid for t in sampler.tasks()] == [brief.pid], "the roster", 30)


def test_a_process_tree_is_followed_and_nobody_else(spawn: Start) -> None:
    script = (
        "sh -c 'read go; sh -c \"exit 5\"; (sleep 100 & echo orphan); read end' & echo $!; "
        "while :; do sh -c 'exit 6'; sleep 0.01; done"
    )
    shell = spawn(["bash", "-c", f"exec 3<&0; {script.replace('read', 'read <&3')}"])
    followed = int(shell.read_line())
    host = next(task.host_pid for task in tasks(pidns=f"/proc/{shell.host_pid}/ns/pid") if task.pid == followed)
    with Sampler(pid=host, interval=3600) as sampler:
        assert [event.task.pid for event in sampler.poll() if isinstance(event, Sample)] == [followed]
        shell.say("go")
        assert shell.read_line() == "orphan"
        events = gather(sampler, lambda events: len(ends(events)) >= 2 and any(map(_sleeps, sampler.tasks())))
        assert 5 << 8 in {end.task.exit_code for end in ends(events)}
        assert 6 << 8 not in {end.task.exit_code for end in ends(events)}
        orphan = next(filter(_sleeps, sampler.tasks()))
        assert orphan.rppid != followed  # it is init's child by now, and followed all the same
        os.kill(orphan.host_pid, 9)
        gather(sampler, lambda events: orphan.pid in {end.task.pid for end in ends(events)})


def _sleeps(task: TaskState) -> bool:
    return task.comm.startswith(b"sleep")


def test_a_deeper_namespace_is_followed_with_the_ids_that_it_has_here(target: Start) -> None:
    brief = target("brief", nested=2)
    outer = brief.levels[0]
    with Sampler(pidns=str(outer.inode), interval=3600) as sampler:
        assert outer.pid in {event.task.pid for event in sampler.poll() if isinstance(event, Sample)}
        brief.say("5")
        events = gather(sampler, lambda events: len(ends(events)) >= 5)
        assert {end.task.pid_ns for end in ends(events)} == {brief.ns_inode}
        # it exits with its innermost id, which is another one than the one that is asked for
        assert {end.task.rppid for end in ends(events)} == {outer.pid}


def test_the_end_of_the_namespace_ends_the_stream(target: Start) -> None:
    sleeper = target("sleeper")
    with sampling(sleeper) as sampler:
        events = sampler.poll()
        sleeper.kill()
        events += list(sampler)
        assert sampler.ended
        assert [end.task.pid for end in ends(events)] == [sleeper.pid]
        assert ends(events)[0].task.exit_code == 9


def test_stop_ends_the_stream(target: Start) -> None:
    with sampling(target("sleeper")) as sampler:
        timer = threading.Timer(0.2, sampler.stop)
        timer.start()
        events = list(sampler)
        timer.join()
        assert [event.event for event in events] == ["sample"]
        assert not sampler.ended


def test_two_samplers_see_the_same(target: Start) -> None:
    brief = target("brief")
    with sampling(brief) as one, sampling(brief) as other:
        one.poll()
        other.poll()
        brief.say("50")
        seen = [
            {(end.task.pid, end.task.exit_code, end.task.sum_exec_runtime) for end in ends(events)}
            for events in (gather(sampler, lambda events: len(ends(events)) >= 50) for sampler in (one, other))
        ]
        assert seen[0] == seen[1]
        assert len(seen[0]) == 50


def test_no_such_target() -> None:
    with pytest.raises(TargetError):
        Sampler(pid=2**22 - 1)
