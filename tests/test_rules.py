"""Every rule from both sides: the smallest wrong value that means something is reported, and what has to differ is not."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cptbpf.fields import ARRAYS, FIELDS, REGISTERS, RULES, Field
from cptbpf.kernel.record import TASK_VTIME, TaskState
from cptbpf.rules import AGREE, DISAGREE, EXPLAINED, JUDGES, MOVED, Context, IdMap, Sight, judge
from cptbpf.rules.cputime import Times, adjusted, bounds, times
from cptbpf.rules.page import render

EVERY = {field.name: field for field in (*FIELDS, *ARRAYS, *REGISTERS)}
WHOLE = IdMap(((0, 0, 1 << 32),), 65534)
CONTEXT = Context(100, 0, WHOLE, WHOLE, groups={50: 40, 60: 60}, pids={50: 5, 60: 6})
TICK = 10_000_000
NAME = b"name\0older text\0"
DESCRIPTOR = 0x00CFF2000000FFFF  # flat, 32-bit, data, writable, limit in pages


def state(**values: Any) -> TaskState:
    return TaskState._make([0] * len(TaskState._fields))._replace(**values)


def see(
    name: str, before: Any, shown: Any, after: Any = None, context: Context = CONTEXT, new: TaskState | None = None, **old: Any
) -> str:
    """The verdict on one sight; ``steady``, ``file_system`` and ``spec`` are the sight's, other keywords the record's."""
    rest = {key: old.pop(key) for key in ("steady", "file_system", "spec") if key in old}
    after = before if after is None else after
    record = state(**old)
    return judge(Sight(EVERY[name], before, after, shown, record, new or record, context, **rest)).verdict


def test_every_rule_of_the_catalogue_is_a_function_and_the_other_way_round() -> None:
    assert set(JUDGES) == set(RULES) - {""}
    assert {field.rule for field in EVERY.values() if field.witnesses} == set(JUDGES)
    assert all(field.rule for field in EVERY.values() if field.witnesses)


# field, kernel, what has to agree, what is explained, what has to be reported
STILL: list[tuple[str, Any, list[Any], list[Any], list[Any], dict[str, Any]]] = [
    ("pid", 7, [7], [], [6, 8], {}),
    ("exit_signal", 0xFFFFFFFF, [-1], [], [17, 0], {}),
    ("cap_effective", 0x1FF, [0x1FF], [], [0x1FE, 0x3FF], {}),
    ("sig_blocked", 1 << 63, [1 << 63], [], [0, 1 << 62, 1 << 63 | 1], {}),
    ("nvcsw", 10, [10], [], [9, 11], {}),
    ("state", 0x1, ["S"], [], ["R", "D", "T"], {}),
    ("state", 0x0, ["R"], [], ["S"], {}),
    ("state", 0x2, ["D"], [], ["S", "I"], {}),
    ("state", 0x402, ["I"], [], ["D"], {}),
    ("state", 0x104, ["T"], [], ["t"], {}),
    ("state", 0x8, ["t"], [], ["T"], {}),
    ("state", 0x8000, ["D"], ["R"], ["S", "I"], {}),
    ("state", 0x80 | 0x20, ["Z"], [], ["X", "R"], {}),
    ("state", 0x80 | 0x10, ["X"], [], ["Z"], {}),
    ("state", 0x40, ["P"], [], ["I"], {}),
    ("flags", 0x4, [0x400100], [], [0x400140, 0x400000, 0x400104], {}),
    ("rppid", 5, [40], [], [50, 5, 41], {"host_rppid": 50}),
    ("rppid", 4, [], [], [40, 50, 4], {"host_rppid": 50}),
    ("rppid", 0, [0], [], [1, 40], {"host_rppid": 0}),
    ("host_rppid", 50, [40], [], [50, 41], {"host_rppid": 50}),
    ("ppid", 6, [0], [], [60, 6], {"rppid": 6, "host_ppid": 60}),
    ("ppid", 6, [], [], [0, 60], {"rppid": 5, "host_ppid": 60}),
    ("ppid", 6, [60], [], [0, 6, 61], {"ptrace": 1, "rppid": 5, "host_ppid": 60}),
    ("host_ppid", 60, [60], [], [0, 59], {"ptrace": 1, "host_rppid": 50, "host_ppid": 60}),
    ("exit_code", 0, [0], [], [19, 1], {"group_exit_code": 19, "spec": "stat 52"}),
    ("exit_code", 0, [0], [19], [1, 18], {"group_exit_code": 19, "signal_flags": 1, "spec": "group stat 52"}),
    ("exit_code", 0, [0], [19], [1, 18], {"group_exit_code": 19, "signal_flags": 4, "spec": "group stat 52"}),
    ("exit_code", 0, [0], [], [19, 1], {"group_exit_code": 19, "signal_flags": 2, "spec": "group stat 52"}),
    ("group_exit_code", 19, [19], [256], [0, 18], {"exit_code": 256, "signal_flags": 1}),
    ("group_exit_code", 19, [19], [256], [0, 18], {"exit_code": 256, "signal_flags": 4}),
    ("group_exit_code", 19, [], [256], [0, 18, 19], {"exit_code": 256, "signal_flags": 2}),
    ("group_exit_code", 256, [256], [], [0, 255], {"exit_code": 256}),
    ("uid", 1000, [1000], [], [1001, 0, 65534], {}),
    ("comm", NAME, [b"name"], [], [b"nam", b"name2", b"namf", b""], {}),
    (
        "comm",
        b"kworker/u8:1\0\0\0\0",
        [b"kworker/u8:1"],
        [b"kworker/u8:1-events"],
        [b"kworker/u8:2", b"kworker/u8:11"],
        {"pf_flags": 0x20},
    ),
    ("comm", b"fifteen-letters\0", [b"fifteen-letters"], [b"fifteen-letters-long"], [b"fifteen-letter"], {"pf_flags": 1 << 21}),
    ("comm", b"kworker/u8:1\0\0\0\0", [], [], [b"kworker/u8:1-events"], {}),
    ("comm", b"rcu_gp\0", [b"rcu_gp"], [], [b"rcu_gp-anything", b"rcu_gpx"], {"pf_flags": 1 << 21}),
    ("gtime", 3 * TICK, [3], [], [2, 4], {}),
    ("gtime", 3 * TICK + 1, [], [3], [2, 4], {}),
    ("real_start_time", 5 * TICK, [5], [], [4, 6], {}),
    ("real_start_time", 6 * TICK - 1, [], [5], [4, 6], {}),
    ("prev_utime", 3 * TICK + 5, [], [3], [2, 4], {"steady": True}),
    ("prio", 120, [20], [], [19, 21, 120], {}),
    ("prio", -1, [-101], [], [-1], {}),
    ("static_prio", 139, [19], [], [20, 139], {}),
    ("ngroups", 2, [(1, 2)], [], [(), (1,), (1, 2, 3)], {}),
    ("groups", (3001, 3002), [(3001, 3002)], [], [(3001,), (3001, 3003), (3002, 3001), ()], {}),
    ("pids", (900, 31, 1), [(900, 31, 1)], [], [(31, 1), (1,), (900, 31), (900, 32, 1), (900, 31, 2), ()], {}),
    ("nr_cpus_allowed", 2, [0b11, 0b101], [], [0b1, 0b111], {}),
    ("exe_ino", 12, [12], [], [13], {"file_system": "ext4"}),
    ("exe_ino", 12, [12], [13], [], {"file_system": "overlay"}),
    ("exe_ino", 12, [12], [], [13], {"file_system": "btrfs"}),
    ("exe_dev", 12, [12], [13], [], {"file_system": "btrfs"}),
    ("exe_dev", 12, [12], [], [13], {"file_system": "ext4"}),
    ("rax", -38 & (1 << 64) - 1, [-38 & (1 << 64) - 1], [], [-512 & (1 << 64) - 1], {"steady": True}),
    ("rax", -38 & (1 << 64) - 1, [], [-512 & (1 << 64) - 1, -516 & (1 << 64) - 1], [0, -4 & (1 << 64) - 1], {}),
    ("rax", -37 & (1 << 64) - 1, [], [], [-512 & (1 << 64) - 1], {}),
    ("rip", 0x401000, [0x401000], [], [0x401001, 0x400FFF], {"steady": True}),
    ("tls", (0, 0, 0), [], [((0, 0, 0x28),) * 3], [((0, 0, 0),) * 3, ((1, 0, 0x28),) * 3], {}),
    ("tls", (DESCRIPTOR,) * 3, [((0, 0xFFFFF, 0x11),) * 3], [], [((0, 0xFFFFE, 0x11),) * 3, ((0, 0xFFFFF, 0x51),) * 3], {}),
]


@pytest.mark.parametrize(("name", "kernel", "agree", "explained", "wrong", "more"), STILL)
def test_a_value_that_stands_still(
    name: str, kernel: Any, agree: list[Any], explained: list[Any], wrong: list[Any], more: dict[str, Any]
) -> None:
    assert [see(name, kernel, shown, **more) for shown in agree] == [AGREE] * len(agree)
    assert [see(name, kernel, shown, **more) for shown in explained] == [EXPLAINED] * len(explained)
    assert [see(name, kernel, shown, **more) for shown in wrong] == [DISAGREE] * len(wrong)


def test_every_rule_has_been_tried() -> None:
    tried = {EVERY[row[0]].rule for row in STILL}
    assert tried | {"cputime", "software", "xstate"} == set(JUDGES), "cputime is below, the FPU areas are with their conductor"


# field, kernel before and after, what agrees, what cannot be said yet, what is reported
MOVING: list[tuple[str, Any, Any, list[Any], list[Any], list[Any]]] = [
    ("nvcsw", 10, 20, [10, 15, 20], [], [9, 21]),
    ("nvcsw", 20, 10, [], [9, 15, 21], []),
    ("pid", 5, 6, [5, 6], [4, 7], []),
    ("state", 0, 1, ["R", "S"], ["D"], []),
    ("sig_pending", 0b001, 0b101, [0b001, 0b101], [0b011, 0b000, 0b100], []),
    ("sig_pending", 0b01, 0b10, [0b01, 0b10, 0b00, 0b11], [0b100], []),
    ("exe_ino", 0b01, 0b10, [0b01, 0b10], [0b00, 0b11], []),
    ("cap_effective", 0b01, 0b10, [0b01, 0b10], [0b00, 0b11, 0b100], []),
    ("comm", b"a\0", b"bc\0", [b"a", b"bc"], [b"ac"], []),
    ("gtime", TICK, 3 * TICK, [1, 2, 3], [], [0, 4]),
    ("prev_stime", TICK, 3 * TICK - 1, [], [], [0, 3]),
    ("uid", 0, 1000, [0, 1000], [1], []),
]


@pytest.mark.parametrize(("name", "before", "after", "agree", "moved", "wrong"), MOVING)
def test_a_value_that_moves(name: str, before: Any, after: Any, agree: list[Any], moved: list[Any], wrong: list[Any]) -> None:
    assert [see(name, before, shown, after) for shown in agree] == [AGREE] * len(agree)
    assert [see(name, before, shown, after) for shown in moved] == [MOVED] * len(moved)
    assert [see(name, before, shown, after) for shown in wrong] == [DISAGREE] * len(wrong)


def test_ids_are_mapped_as_a_user_namespace_shows_them() -> None:
    context = CONTEXT._replace(
        uid_map=IdMap(((0, 100000, 65536),), 65534), gid_map=IdMap(((0, 200000, 10), (50, 300000, 1)), 65533)
    )
    assert see("uid", 101000, 1000, context=context) == EXPLAINED
    assert see("uid", 101000, 1001, context=context) == DISAGREE
    assert see("uid", 101000, 101000, context=context) == DISAGREE
    assert see("uid", 99999, 65534, context=context) == EXPLAINED, "no place in the namespace"
    assert see("uid", 165536, 65534, context=context) == EXPLAINED
    assert see("uid", 165535, 65534, context=context) == DISAGREE
    assert see("egid", 300000, 50, context=context) == EXPLAINED
    assert see("egid", 300001, 65533, context=context) == EXPLAINED, "kernel.overflowgid"
    assert see("egid", 300001, 65534, context=context) == DISAGREE
    assert see("groups", (200001, 300000), (1, 50), context=context) == EXPLAINED
    assert see("groups", (200001, 300000), (1, 51), context=context) == DISAGREE


def test_ids_are_shown_from_the_level_of_proc_inwards() -> None:
    context = CONTEXT._replace(own_level=1)
    assert see("pids", (900, 31, 1), (31, 1), context=context) == AGREE
    assert see("pids", (900, 31, 1), (900, 31, 1), context=context) == DISAGREE
    assert see("pids", (900, 31, 1), (1,), context=context) == DISAGREE


def test_times_that_the_kernel_has_not_counted_yet_can_be_told_from_nothing() -> None:
    """On a cpu without a tick /proc adds what the task used since it last entered the kernel; off the cpu there is nothing."""
    spinning = {"utime": 10 * TICK, "stime": 30 * TICK, "sum_exec_runtime": 1040 * TICK}
    assert see("utime", 10 * TICK, 1010, valid=TASK_VTIME, **spinning) == MOVED
    assert see("stime", 30 * TICK, 29, valid=TASK_VTIME, **spinning) == MOVED
    assert see("gtime", 3 * TICK, 4, valid=TASK_VTIME) == MOVED
    assert see("gtime", 3 * TICK, 4, valid=TASK_VTIME, steady=True) == DISAGREE
    assert see("utime", 10 * TICK, 1010, **spinning) == DISAGREE
    assert see("gtime", 3 * TICK, 4) == DISAGREE


def test_the_start_is_shifted_by_the_offset_of_the_time_namespace() -> None:
    context = CONTEXT._replace(boottime_offset=86400 * 10**9)
    assert see("real_start_time", 5 * TICK, 8640005, context=context) == EXPLAINED
    assert see("real_start_time", 5 * TICK, 8640004, context=context) == DISAGREE
    assert see("real_start_time", 5 * TICK, 5, context=context) == DISAGREE
    earlier = CONTEXT._replace(boottime_offset=-86400 * 10**9)  # the clock of the namespace starts later than the task
    wrapped = (2**64 + 5 * TICK - 86400 * 10**9) // TICK
    assert see("real_start_time", 5 * TICK, wrapped, context=earlier) == EXPLAINED
    assert see("real_start_time", 5 * TICK, wrapped + 1, context=earlier) == DISAGREE
    assert see("real_start_time", 5 * TICK, 5 - 8640000, context=earlier) == DISAGREE


# -- cputime_adjust() ---------------------------------------------------------------------------------------------------------


def test_the_scaling_of_times() -> None:
    assert adjusted(Times(30, 10, 400, 0, 0)) == (300, 100)
    assert adjusted(Times(30, 0, 400, 0, 0)) == (400, 0), "no tick in the kernel: all is user time"
    assert adjusted(Times(0, 10, 400, 0, 0)) == (0, 400)
    assert adjusted(Times(30, 10, 400, 390, 10)) == (390, 10), "as much was shown before"
    assert adjusted(Times(30, 10, 400, 0, 200)) == (200, 200), "system time does not fall"
    assert adjusted(Times(30, 10, 400, 350, 0)) == (350, 50), "nor does user time"


amounts = st.integers(0, 10**15)


@given(amounts, amounts, amounts, amounts, amounts)
def test_the_bounds_of_a_task_that_stands_still_are_exact(u: int, s: int, r: int, pu: int, ps: int) -> None:
    now = Times(u, s, r, pu, ps)
    user, system = adjusted(now)
    assert bounds(now, now) == ((user, user), (system, system))


@given(st.lists(amounts, min_size=5, max_size=5), st.lists(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), max_size=6))
def test_whoever_reads_in_between_is_within_the_bounds(start: list[int], steps: list[list[int]]) -> None:
    """Other readers of /proc come and go meanwhile; ours is the last one that was seen."""
    first = now = Times(*start)
    seen = []
    for utime, stime, rtime in steps:
        now = now._replace(utime=now.utime + utime, stime=now.stime + stime, rtime=now.rtime + rtime)
        user, system = adjusted(now)
        now = now._replace(prev_utime=user, prev_stime=system)
        seen.append((user, system))
    (u_low, u_high), (s_low, s_high) = bounds(first, now)
    for user, system in seen:
        assert u_low <= user <= u_high
        assert s_low <= system <= s_high


def timed(u: int, s: int, r: int, pu: int = 0, ps: int = 0) -> TaskState:
    return state(utime=u, stime=s, sum_exec_runtime=r, prev_utime=pu, prev_stime=ps)


def seen_times(old: TaskState, new: TaskState, shown: tuple[int, int], steady: bool) -> list[str]:
    return [
        judge(Sight(EVERY[name], getattr(old, name), getattr(new, name), value, old, new, CONTEXT, steady)).verdict
        for name, value in zip(("utime", "stime"), shown, strict=True)
    ]


def test_times_are_compared_exactly_while_the_task_stands_still() -> None:
    old = timed(30 * TICK, 10 * TICK, 400 * TICK)
    new = timed(30 * TICK, 10 * TICK, 400 * TICK, 300 * TICK, 100 * TICK)
    assert seen_times(old, new, (300, 100), True) == [EXPLAINED, EXPLAINED]
    assert seen_times(old, new, (299, 101), True) == [DISAGREE, DISAGREE]
    assert seen_times(old, new, (301, 99), True) == [DISAGREE, DISAGREE]
    assert seen_times(old, new, (30, 10), True) == [DISAGREE, DISAGREE], "not scaled"
    wrong = old._replace(utime=31 * TICK)
    assert DISAGREE in seen_times(wrong, new._replace(utime=31 * TICK), (300, 100), True), (
        "a tick too much in the kernel's view"
    )


def test_times_are_compared_within_bounds_while_the_task_runs() -> None:
    old = timed(30 * TICK, 10 * TICK, 400 * TICK, 290 * TICK, 100 * TICK)
    new = timed(32 * TICK, 10 * TICK, 402 * TICK, 301 * TICK, 100 * TICK)
    (low, high), _ = bounds(times(old), times(new))
    assert low < high
    assert seen_times(old, new, (low // TICK, 100), False)[0] == EXPLAINED
    assert seen_times(old, new, (high // TICK, 100), False)[0] == EXPLAINED
    assert seen_times(old, new, (low // TICK - 1, 100), False)[0] == DISAGREE
    assert seen_times(old, new, (high // TICK + 1, 100), False)[0] == DISAGREE
    assert seen_times(new, old, (300, 100), False) == [MOVED, MOVED], "an execve by another thread"


def test_the_page_of_rules_is_the_catalogue() -> None:
    page = (Path(__file__).parents[1] / "docs" / "rules.md").read_text()
    assert page == render()
    assert all(f"| {name} |" in page for name in RULES if name)


def fields_of(rule: str) -> list[Field]:
    return [field for field in EVERY.values() if field.rule == rule]


def test_a_rising_counter_is_never_forgiven_what_lies_outside() -> None:
    for field in fields_of("bracket"):
        assert see(field.name, 5, 4, 9) == see(field.name, 5, 10, 9) == DISAGREE
