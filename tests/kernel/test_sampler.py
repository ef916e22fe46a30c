"""The sampler's programs, each way that a kernel may take them in."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cptbpf.kernel import bpf, sources
from cptbpf.kernel.btf import Btf, Kind
from cptbpf.kernel.sample_record import SAMPLE_EXEC, SAMPLE_EXIT, SAMPLE_FORK, SAMPLE_NEW_CRED, SAMPLE_STATE
from cptbpf.kernel.sampler import Follower, Report
from cptbpf.kernel.tasks import TaskReader
from tests.harness import Target, until

pytestmark = pytest.mark.bpf
Start = Callable[..., Target]
SOON, NEVER = 1_000_000, 3600 * 10**9  # intervals, ns
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(params=["best", "hash", "raw"])
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the programs taken in by the kernel's best way, or by another one."""
    wanted: str = request.param
    if wanted != "best":
        whole = sources.SETS["sample"]
        only = tuple(variant for variant in whole.variants if variant.name == wanted)
        monkeypatch.setitem(sources.SETS, "sample", whole._replace(variants=only))
    return wanted


@contextmanager
def following(target: Target, interval: int = NEVER, ring: int = 4 << 20) -> Iterator[Follower]:
    """A follower of a target's namespace."""
    with TaskReader() as reader:
        own = reader.own_level
    with Follower(target.ns_inode, own + len(target.levels), own, interval, ring) as follower:
        yield follower


def gather(follower: Follower, enough: Callable[[list[Report]], object]) -> list[Report]:
    """Reports until there are enough of them."""
    reports: list[Report] = []

    def more() -> object:
        follower.wait(0.02)
        reports.extend(follower.read())
        return enough(reports)

    until(more, "reports", 30)
    return reports


def asleep(target: Target) -> Target:
    """The target, once it has nothing to do any more: it says that it is ready before it waits."""
    until(lambda: target.status("State").startswith("S"), "sleep")
    return target


def of(reports: list[Report], kind: int) -> list[Report]:
    return [report for report in reports if report.head.kind == kind]


def test_task_storage_is_taken_where_the_kernel_has_it(target: Start) -> None:
    btf = Btf()
    helpers = btf.find("bpf_func_id", Kind.ENUM)
    assert helpers is not None
    has_it = any(name == "BPF_FUNC_get_current_task_btf" for name, _ in btf.enumerators(helpers))
    with following(target("sleeper")) as follower:
        assert follower.variant == ("storage" if has_it else "hash")
        assert follower.ticks == has_it


def test_300_processes_of_a_millisecond(target: Start, variant: str) -> None:
    brief = target("brief")
    with following(brief) as follower:
        assert variant in ("best", follower.variant)
        assert [report.task.pid for report in follower.everyone()] == [brief.pid]
        brief.say("300")
        reports = gather(follower, lambda reports: len(of(reports, SAMPLE_EXIT)) >= 300)
        assert brief.read_line() == "made 300"
        births = [report.task.pid for report in of(reports, SAMPLE_FORK)]
        ends = {report.task.pid: report.task for report in of(reports, SAMPLE_EXIT)}
        assert len(births) == len(set(births)) == 300
        assert set(ends) == set(births)
        for pid, task in ends.items():
            assert task.exit_code == (pid & 127) << 8
            assert task.tgid == pid
            assert task.rppid == brief.pid
            assert task.sum_exec_runtime >= 1_000_000
            assert task.nvcsw >= 1  # its last switch
        assert all(cpu.dropped == 0 and cpu.missed == 0 for cpu in follower.stats())


def test_a_task_that_sleeps_is_in_every_pass_and_reports_nothing(target: Start, variant: str) -> None:
    sleeper = asleep(target("sleeper"))
    with following(sleeper, SOON) as follower:
        for _ in range(3):
            passed = follower.everyone()
            assert [(report.task.pid, report.task.host_pid) for report in passed] == [(sleeper.pid, sleeper.host_pid)]
            assert passed[0].task.comm.startswith(b"sleeper")
        assert follower.read() == []
        assert follower.overdue() == []


def test_what_a_task_did_after_its_report_is_overdue_once(target: Start, variant: str) -> None:
    sleeper = asleep(target("sleeper"))
    with following(sleeper, 400_000_000) as follower:
        before = follower.everyone()[0].task
        sleeper.say("")
        assert sleeper.read_line() == "interrupted 0"
        late = until(lambda: [*follower.overdue(), *follower.read()], "the overdue report")
        assert late[-1].task.nvcsw > before.nvcsw
        assert follower.overdue() == []


def test_a_thread_changes_its_credentials(target: Start, variant: str) -> None:
    changer = target("changer")
    with following(changer) as follower:
        first = follower.everyone()
        until(lambda: len(changer.tids()) == 2, "the thread")
        changer.say("1234")
        tid = int(changer.read_line().split()[1])
        reports = gather(follower, lambda reports: of(reports, SAMPLE_STATE))
        changed = [report for report in of(reports, SAMPLE_STATE) if report.head.flags & SAMPLE_NEW_CRED]
        assert {report.task.pid for report in changed} == {tid}
        assert (changed[0].task.uid, changed[0].task.euid, changed[0].task.suid) == (1234, 1234, 0)
        assert {report.task.uid for report in first} == {0}


def test_a_thread_that_executes_takes_its_leaders_id(target: Start, variant: str) -> None:
    program = target("threadexec", 2, 50)
    with following(program) as follower:
        follower.everyone()
        reports = gather(follower, lambda reports: len(of(reports, SAMPLE_EXEC)) >= 3)
    births = {report.task.pid for report in of(reports, SAMPLE_FORK)}
    for report in of(reports, SAMPLE_EXEC)[1:]:
        assert report.task.pid == report.task.tgid == program.pid
        assert report.head.old_pid in births


def test_what_finds_no_room_is_counted(target: Start, variant: str) -> None:
    brief = target("brief")
    with following(brief, ring=4096) as follower:
        follower.everyone()
        brief.say("40")
        assert brief.read_line() == "made 40"
        kept = follower.read()
        lost = sum(cpu.dropped for cpu in follower.stats())
        assert 0 < len(kept) <= 4096 // 600
        assert len(kept) + lost >= 80  # a birth and an end each
        brief.say("1")
        assert brief.read_line() == "made 1"
        last = {report.head.cpu: report.head.dropped for report in follower.read()}
        assert sum(last.values()) > 0


def test_every_switch_is_reported_or_counted(target: Start) -> None:
    players = asleep(target("pingpong", 0))
    with following(players, 0, 4 << 20) as follower:
        before = {report.task.pid: report.task for report in follower.everyone()}
        players.say("2000")
        reports: list[Report] = []

        def ended() -> bool:
            reports.extend(follower.read())
            return b"took" in _said(players)

        until(ended, "2000 round trips", 60)
        after = {report.task.pid: report.task for report in follower.everyone()}
        reports += follower.read()
        lost = sum(cpu.dropped for cpu in follower.stats())
    switches = sum(after[pid].nvcsw + after[pid].nivcsw - before[pid].nvcsw - before[pid].nivcsw for pid in before)
    seen = {(report.task.pid, report.task.nvcsw, report.task.nivcsw) for report in of(reports, SAMPLE_STATE)}
    seen -= {(task.pid, task.nvcsw, task.nivcsw) for task in before.values()}  # what a tick reports before the first switch
    assert switches >= 4000
    assert len(seen) + lost >= switches
    if not lost:
        assert len(seen) == switches


def _said(target: Target) -> bytes:
    """What a target said, without waiting."""
    try:
        return target.read_line(0).encode()
    except AssertionError:
        return b""


def test_others_are_not_reported_and_two_followers_do_not_meet(target: Start, variant: str) -> None:
    one, other = asleep(target("brief")), asleep(target("brief"))
    with following(one) as first, following(other, ring=4096) as second:
        first.everyone()
        second.everyone()
        one.say("20")
        reports = gather(first, lambda reports: len(of(reports, SAMPLE_EXIT)) >= 20)
        assert {report.task.pid_ns for report in of(reports, SAMPLE_FORK)} == {one.ns_inode}
        assert second.read() == []
        assert sum(cpu.reports + cpu.dropped for cpu in second.stats()) == 0
        second.close = lambda: None  # type: ignore[method-assign]
        Follower.close(second)
        one.say("20")
        gather(first, lambda reports: len(of(reports, SAMPLE_EXIT)) >= 20)


def test_cost_is_measured(target: Start) -> None:
    players = target("pingpong", 0)
    with following(players) as follower:
        follower.everyone()
        window = follower.measure()
        players.say("500")
        assert players.read_line().startswith("took ")
        cost = window.finish()
    assert cost.switches >= 1000
    assert cost.ns >= 0
    assert cost.ns_per_switch >= 0


def test_a_killed_sampler_leaves_nothing_attached(target: Start) -> None:
    script = (
        "import sys, time\nfrom cptbpf.kernel.sampler import Follower\n"
        "follower = Follower(int(sys.argv[1]), int(sys.argv[2]), 0, 10**8)\nfollower.everyone()\n"
        "print('ready', flush=True)\ntime.sleep(1000)\n"
    )
    sleeper = target("sleeper")
    with TaskReader() as reader:
        level = reader.own_level + 1
    command = [sys.executable, "-c", script, str(sleeper.ns_inode), str(level)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}) as sampler:
        assert sampler.stdout is not None
        assert sampler.stdout.readline() == b"ready\n"
        infos = [path.read_text() for path in Path(f"/proc/{sampler.pid}/fdinfo").iterdir()]
        ids = {int(line.split()[1]) for info in infos for line in info.splitlines() if line.startswith("prog_id:")}
        assert len(ids) >= 5
        sampler.send_signal(signal.SIGKILL)
        sampler.wait()
    until(lambda: not any(map(_loaded, ids)), "the programs to be gone")


def _loaded(program: int) -> bool:
    try:
        os.close(bpf._bpf(13, struct.pack("=III", program, 0, 0)))  # BPF_PROG_GET_FD_BY_ID
    except OSError:
        return False
    return True
