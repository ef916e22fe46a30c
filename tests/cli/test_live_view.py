"""top and replay on a plain terminal of 80 columns and 24 lines, and without one."""

import os
import re
import signal
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.cli.live import screen, terminal
from cptbpf.cli.live.usage import ORDERS, Usage, arranged, usage
from cptbpf.conductors.record import state_of
from cptbpf.kernel.record import TaskState
from tests.cli.command import assert_failed, command
from tests.cli.terminals import Screen
from tests.harness import Target
from tests.image.recordings import row, saved, small

SECOND = 1_000_000_000


def state(pid: int, comm: bytes = b"prog", **values: int) -> TaskState:
    return state_of(row(pid, comm=comm.ljust(16, b"\0"), **values), {})


def rows(*states: TaskState) -> list[Usage]:
    return usage({}, {one.pid: (0, one) for one in states}, {})


def test_what_was_used_is_told_a_second() -> None:
    before, after = (
        state(1, sum_exec_runtime=SECOND),
        state(1, sum_exec_runtime=2 * SECOND, utime=SECOND // 2, nvcsw=10, maj_flt=6),
    )
    (used,) = usage({1: (0, before)}, {1: (2 * SECOND, after)}, {1: 3})
    assert (used.cpu, used.user, used.voluntary, used.faults, used.credentials) == (50.0, 25.0, 5.0, 3.0, 3)
    other = after._replace(start_boottime=77)
    assert usage({1: (0, before)}, {1: (2 * SECOND, other)}, {})[0].cpu == 0


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_every_order_sorts(order: object) -> None:
    some = rows(state(3, b"a"), state(1, b"c"), state(2, b"b"))
    pids = [one.task.pid for one in arranged(some, order, lambda one: True)]  # type: ignore[arg-type]
    assert pids == ([3, 2, 1] if order.name == "name" else [1, 2, 3])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (20, 3), (1, 1), (300, 100)])
def test_it_fits_and_is_harmless(width: int, height: int) -> None:
    hostile = [state(pid, b"\x1b[31m\xe2\x80\xae\n\xff" + bytes([pid]), nvcsw=2**64 - 1) for pid in range(1, 60)]
    made, _ = screen.lines(["head"], rows(*hostile), screen.Choice(), width, height)
    assert len(made) <= height
    assert all(len(line) <= width and line.isprintable() for line in made)


def test_a_filter_goes_by_name_or_pid() -> None:
    choice = screen.Choice()
    for key in ["/", *"web"]:
        choice.key(key)
    assert choice.typing and choice.text == "web"
    choice.key("backspace")
    choice.key("enter")
    assert [choice.matches(one) for one in rows(state(1, b"WEBserver"), state(2, b"db"))] == [True, False]
    choice.key("escape")
    assert all(choice.matches(one) for one in rows(state(1), state(2)))


def test_keys_of_terminals() -> None:
    assert terminal.parse(b"a\x1b[A\x1b[6~\xc3\xa9\x1b\r\x7f\x1bOB") == [
        *("a", "up", "pagedown", "é", "escape", "enter", "backspace", "down"),
    ]


@pytest.mark.bpf
def test_a_terminal_is_given_back_while_it_is_stopped(target: Callable[..., Target]) -> None:
    one = target("sleeper")
    with Screen("top", "--pidns", f"pid:[{one.ns_inode}]", "--interval", "200ms") as view:
        view.until(lambda lines: any(" sleeper" in line for line in lines), "the table")
        assert not view.modes() & termios.ICANON
        os.kill(view.pid, signal.SIGTSTP)
        # nobody is left in its session to let it go on: it is not stopped, and takes the terminal again at once
        view.until(lambda _: view.output.count(b"\x1b[?1049h") == 2, "the terminal to be taken again")
        assert not view.modes() & termios.ICANON
        between = view.output.split(b"\x1b[?1049h")[1]
        assert b"\x1b[?1049l" in between and b"\x1b[?25h" in between, "its own screen, and a cursor"
        view.until(lambda lines: any(" sleeper" in line for line in lines), "the table again")
        view.press("q")
        assert view.end() == 0


@pytest.mark.bpf
def test_top_on_a_terminal(target: Callable[..., Target]) -> None:
    burner = target("burner")
    with Screen("top", "--pidns", f"pid:[{burner.ns_inode}]", "--interval", "200ms") as view:
        shown = view.until(lambda lines: any(" burner-" in line for line in lines), "the table")
        assert all(len(line) <= 80 for line in shown)
        assert re.match(rf"pid:\[{burner.ns_inode}\]: \d+ tasks", shown[0])
        view.until(
            lambda lines: re.search(r"sampler: \d+ ns a switch, [\d.]+ % of a cpu, lost 0 reports", lines[1]), "the cost"
        )
        busy = view.until(lambda lines: any(_cpu(line) > 1 for line in lines), "a share of the cpu")
        assert any("*CPU%" in line for line in busy)
        view.press("f")
        view.until(lambda lines: any("*FLT/s" in line for line in lines), "another order")
        view.press("/nobody\r")
        view.until(lambda lines: not any(" burner-" in line for line in lines), "the filter")
        view.press("\x1b")
        view.until(lambda lines: any(" burner-" in line for line in lines), "no filter")
        view.press("q")
        assert view.end() == 0
    assert b"\x1b[?1049l" in view.output  # the screen is as it was


def _cpu(line: str) -> float:
    cells = line.split()
    return float(cells[3]) if " burner-" in line and len(cells) > 4 else 0.0


@pytest.mark.bpf
def test_top_ends_with_its_target(target: Callable[..., Target]) -> None:
    sleeper = target("sleeper")
    with Screen("top", "--pidns", f"pid:[{sleeper.ns_inode}]") as view:
        view.until(lambda lines: any(" sleeper-" in line for line in lines), "the table")
        sleeper.close()
        assert view.end() == 0


@pytest.mark.bpf
def test_top_without_a_terminal_prints_tables(target: Callable[..., Target]) -> None:
    burner = target("burner")
    done = command("top", "--pidns", f"pid:[{burner.ns_inode}]", "--interval", "200ms", "--count", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"COMMAND") == 2
    assert b"\x1b" not in done.stdout


def test_top_names_one_target() -> None:
    assert_failed(command("top"), 2, "--pidns", "--pid")


def test_replay_on_a_terminal(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.cpt", small(30))
    with Screen("replay", path, "--step", "500ms") as view:
        shown = view.until(lambda lines: "0.100 of 3.000 s" in lines[0], "the first screen")
        assert all(len(line) <= 80 for line in shown)
        view.press("\x1b[C")
        view.until(lambda lines: "0.600 of 3.000 s" in lines[0], "a step")
        view.until(lambda lines: any(line.endswith("name5") for line in lines), "the tasks of then")
        view.until(lambda lines: any("drop   3 reports lost (full)" in line for line in lines), "the events until then")
        view.press("G")
        view.until(lambda lines: "3.000 of 3.000 s" in lines[0], "the end")
        view.until(lambda lines: any("exit   2 of 1 prog: killed by SIGKILL" in line for line in lines), "the last event")
        view.press("[")
        view.until(lambda lines: "3.000 of 3.000 s" in lines[0], "the event before")
        view.press("\x1b[H")
        view.until(lambda lines: "0.000 of 3.000 s" in lines[0], "the start")
        view.press(" ")
        view.until(lambda lines: "3.000 of 3.000 s" in lines[0], "it plays")
        view.press("q")
        assert view.end() == 0


def test_replay_without_a_terminal_tells_events(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.cpt", small())
    done = command("replay", path)
    assert done.returncode == 0 and done.stderr == b""
    words = [line.split()[1] for line in done.stdout.decode().splitlines()]
    assert words == ["fork", "drop", "drop", "drop", "cred", "exec", "exit"]
    assert command("replay", path, "--samples").stdout.count(b" sample ") == 4
