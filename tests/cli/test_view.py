"""What show says of tasks that are made by hand."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from cptbpf import syscalls
from cptbpf.cli.view import calls, page, state, table, tree, unusual
from cptbpf.cli.view.context import Context
from cptbpf.errors import TargetError
from cptbpf.image.model import Image, Meta, PidLevel, TaskImage, X86Regs
from tests.cli.images import IDLE, STOPPED, TRACED, UNINTERRUPTIBLE, ZOMBIE, image, registers, task
from tests.image.strategies import images


def every_line(shown: Image) -> Iterator[str]:
    context = Context(shown, "file")
    yield from context.heading()
    yield from tree.lines(context, shown.tasks)
    yield from table.lines(context, shown.tasks)
    for one in shown.tasks:
        yield from page.lines(context, one)
    yield from table.field_lines(
        shown.tasks, ["pid", "comm", "exe", "cmdline", "kstack", "cgroup", "groups", "pids", "rip", "debugreg"]
    )
    yield from context.footing(shown.tasks)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(images)
def test_any_image_at_all_prints_harmlessly(shown: Image) -> None:
    for line in every_line(shown):
        assert line.replace("\n", "").isprintable(), ascii(line)


@pytest.mark.parametrize(
    ("bits", "letter"),
    [(0, "R"), (0x2001, "S"), (2, "D"), (IDLE, "I"), (STOPPED, "T"), (TRACED, "t"), (ZOMBIE, "Z"), (0x90, "X"), (0x8000, "D")],
)
def test_letters(bits: int, letter: str) -> None:
    assert state.letter(task(1, state=bits)) == letter


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (task(1, regs=registers(0, rdi=5, rsi=0x7000, rdx=4096)), "read(5, 0x7000, 4096)"),
        (task(1, regs=registers(202, rdi=0x10, rsi=128, rdx=2)), "futex(0x10, FUTEX_WAIT, 2)"),
        (task(1, regs=registers(61, rdi=2**64 - 1)), "wait4(-1, 0x0, 0)"),
        (task(1, regs=registers(230, rdi=1)), "clock_nanosleep(CLOCK_MONOTONIC, 0, 0x0)"),
        (task(1, regs=registers(257, rdi=2**32 - 100, rsi=16)), "openat(AT_FDCWD, 0x10)"),
        (task(1, regs=registers(34)), "pause()"),
        (task(1, regs=registers(5000)), "syscall_5000(…)"),
        (task(1, regs=registers(34), ext={"kstack": ("do_it.constprop.0+0x4", "x+0x1")}), "pause() [do_it]"),
        (task(1, regs=registers()), "an exception"),
        (task(1, state=0, on_cpu=1, cpu=3, regs=registers()), "on cpu 3, in user mode"),
        (task(1, state=0, regs=registers(1, rdi=2)), "waits for a cpu, in or leaving write(2, 0x0, 0)"),
        (task(1, state=STOPPED, group_exit_code=19, regs=registers()), "stopped by SIGSTOP"),
        (task(1, state=TRACED, regs=registers()), "stopped by its tracer"),
        (task(1, state=ZOMBIE, exit_code=7 << 8), "exited with status 7"),
        (task(1, state=ZOMBIE, exit_code=0x8B), "killed by SIGSEGV, core dumped"),
        (task(1, state=ZOMBIE, exit_code=9), "killed by SIGKILL"),
        (task(1, state=IDLE, pf_flags=0x00200000), "kernel thread"),
        (task(1, state=UNINTERRUPTIBLE, provenance={"regs": "absent: on a cpu"}), "no registers: on a cpu"),
    ],
)
def test_what_a_task_is_stuck_in(one: TaskImage, words: str) -> None:
    assert state.doing(one) == words


def test_32_bit_tasks_go_by_their_own_table() -> None:
    names = dict.fromkeys(X86Regs._fields, 0) | {"orig_ax": 7, "bx": 2**32 - 1, "debugreg": (0,) * 8}
    assert calls.call(task(1, regs=X86Regs(**names))) == "waitpid(-1, 0x0, 0)"  # type: ignore[arg-type]
    # int 0x80 in a 64-bit program: TS_COMPAT says so, and the arguments are elsewhere
    assert calls.call(task(1, thrstatus=2, regs=registers(3, rbx=4, rdi=9))) == "read(4, 0x0, 0)"


def test_every_call_with_arguments_exists() -> None:
    known = {*syscalls.names().values(), *syscalls.names(compat=True).values()}
    assert not calls._KINDS_OF.keys() - known


@pytest.mark.parametrize(
    ("one", "note"),
    [
        (task(1, uid=1000, euid=0), "uid 1000 euid 0 suid 0 fsuid 0"),
        (task(1, gid=5), "gid 5 egid 0 sgid 0 fsgid 0"),
        (task(1, uid=9, euid=9, suid=9, fsuid=9, cap_effective=1 << 13), "not root, yet has CAP_NET_RAW"),
        (task(1, no_new_privs=1), "no_new_privs"),
        (task(1, seccomp_mode=2, seccomp_filters=3), "seccomp filter (3)"),
        (task(1, user_ns=99), "user:[99]"),
        (task(1, ext={"pids": (PidLevel(1, 42, 1), PidLevel(2, 43, 8))}), "pid 8 in pid:[43]"),
        (task(1, ptrace=1, ppid=6), "traced by 6"),
        (task(1, sig_pending=1 << 8), "pending: SIGKILL"),
        (task(1, sig_shared_pending=1 << 14, sig_blocked=1 << 14), "pending and blocked: SIGTERM"),
        (task(1, policy=1, rt_priority=50), "SCHED_FIFO 50"),
        (task(1, static_prio=130), "nice 10"),
        (task(1, provenance={"regs": "absent: on a cpu"}), "no registers: on a cpu"),
        (
            task(1, regs=registers(), provenance={"regs": "kernel:B, not stopped: D"}),
            "was not stopped: D; registers from kernel memory, off-cpu",
        ),
    ],
)
def test_what_stands_out(one: TaskImage, note: str) -> None:
    assert unusual.notes(one, Meta(pid_ns=42, user_ns=7, freeze=1, registers=1)) == [note]


def test_nothing_stands_out_of_an_ordinary_task() -> None:
    ordinary = task(1, cap_effective=0x1FFFFFFFFFF, regs=registers(), provenance={"regs": "ptrace"})
    assert unusual.notes(ordinary, Meta(pid_ns=42, user_ns=7, freeze=1, registers=1)) == []


def test_absent_is_not_zero() -> None:
    one = task(1, state=0, regs=registers(), provenance={"regs": "ptrace", "sched.on_cpu": "absent: too old"})
    assert state.doing(one) == "running, in user mode"
    assert table.field_lines([one], ["on_cpu", "cpu"])[1].split() == ["-", "0"]


def drawn(*tasks: TaskImage) -> list[str]:
    shown = image(*tasks)
    return [re.split(r"  +\d", line)[0].rstrip() for line in tree.lines(Context(shown, "file"), shown.tasks)]


def test_the_tree_and_its_threads() -> None:
    lines = drawn(
        task(1, b"init"),
        task(2, b"shell", parent=1),
        task(3, b"helper", parent=1, leader=2),
        task(4, b"child", parent=3),  # of a thread: the child of its process
        task(5, b"other", parent=1),
    )
    assert lines[1:] == ["1 init", "├─2 shell", "│ │ · 3 helper", "│ └─4 child", "└─5 other"]


def test_many_threads_are_counted_by_what_they_do() -> None:
    sleepers = [task(10 + n, b"worker", leader=1, regs=registers(202, rsi=128, rdi=n)) for n in range(990)]
    readers = [task(2000 + n, b"worker", leader=1, regs=registers(0, rdi=n), no_new_privs=1) for n in range(10)]
    shown = image(task(1, b"server"), *sleepers, *readers)
    lines = list(tree.lines(Context(shown, "file"), shown.tasks))
    assert len(lines) == 5
    assert "· 990 threads worker" in lines[2] and lines[2].endswith("futex")
    assert "· 10 threads worker" in lines[3] and lines[3].endswith("read")
    assert lines[4].endswith("! no_new_privs (10 threads)")


def test_a_forged_family_ends() -> None:
    lines = drawn(task(1, parent=2), task(2, parent=1), task(3, parent=3), task(3, b"twin"), task(4, parent=99))
    assert sum(" prog" in line or " twin" in line for line in lines) == 5


def test_a_chain_of_ten_thousand_is_drawn() -> None:
    lines = drawn(*(task(pid, parent=pid - 1) for pid in range(1, 10_001)))
    assert len(lines) == 10_001
    assert max(map(len, lines)) < 200


def test_unknown_fields_are_named_with_a_guess() -> None:
    assert table.check_names("pid, comm,rip") == ["pid", "comm", "rip"]
    with pytest.raises(TargetError, match=r"'utme'.*utime"):
        table.check_names("pid,utme")
    with pytest.raises(TargetError):
        table.check_names(",")


def test_names_of_users_only_for_this_very_machine() -> None:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        here = stream.read().strip()
    assert Context(image(), "file").user(0) == "0"
    ours = Context(image(strings={"boot_id": here}), "file")
    assert ours.user(0) in ("0 root", "0")  # the latter in a user namespace of its own
    assert ours.user(4_000_000_000) == "4000000000"
