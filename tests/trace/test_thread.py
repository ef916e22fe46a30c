"""The thread that is gone when its caller goes on."""

import _thread
import os
import signal
import threading
import time

import pytest

from cptbpf.errors import UnsupportedError
from cptbpf.trace import freezer as freezer_module
from cptbpf.trace import ptrace
from cptbpf.trace.thread import run_and_end
from tests.harness import SLOWNESS, often


def nothing() -> None:
    pass


def test_what_it_returns_and_that_it_is_gone() -> None:
    for _ in range(often(200)):
        tid = run_and_end(threading.get_native_id, nothing, nothing, 1)
        assert tid != os.getpid()
        assert not ptrace.thread_exists(os.getpid(), tid)


def test_a_limit_lets_no_thread_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with pytest.raises(UnsupportedError, match="starts no further thread") as caught:
        run_and_end(nothing, nothing, nothing, 1)
    assert "RLIMIT_NPROC" in caught.value.remedy


def test_what_it_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        run_and_end(lambda: 1 // 0, nothing, nothing, 1)


def test_the_caller_is_called_while_it_takes_long() -> None:
    calls: list[int] = []
    go_on = threading.Event()

    def stuck() -> None:
        calls.append(1)
        if len(calls) == 3:
            go_on.set()

    assert run_and_end(lambda: go_on.wait(20 * SLOWNESS), nothing, stuck, 0.01)
    assert len(calls) >= 3


def test_interruptions_of_the_caller_wait_for_the_end() -> None:
    interruptions: list[int] = []
    go_on = threading.Event()
    main = threading.get_ident()
    ended: list[float] = []

    def function() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        go_on.wait(20 * SLOWNESS)
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.05)
        ended.append(time.monotonic())

    def interrupted() -> None:
        interruptions.append(1)
        go_on.set()

    with pytest.raises(KeyboardInterrupt):
        run_and_end(function, interrupted, nothing, 1)
    assert len(ended) == 1
    assert interruptions == [1]


def test_a_seizing_that_gets_on_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else thousands of threads, which take longer than the patience, would each be looked at for each of them."""
    looked: list[int] = []

    def is_dead(tid: int) -> bool:
        looked.append(tid)
        freezer._seizing += looked == [7, 1]  # gets on after the second look
        return False

    monkeypatch.setattr(freezer_module, "_is_dead", is_dead)
    freezer = freezer_module.Freezer()
    freezer._ever = [1, 2, 3]
    for seizing in (5, 6, 7):
        freezer._seizing = seizing
        freezer._unblock()
    assert looked == []
    freezer._unblock()
    assert looked == [7, 1]
    freezer._seizing = 0
    freezer._unblock()
    freezer._unblock()
    assert looked == [7, 1]


def test_a_terminal_does_not_stop_it_in_the_midst() -> None:
    """Ctrl-Z waits until everybody runs again: else they would stand still as long as the tracer does."""
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            _stop_in_the_midst(number, writing)
        os.close(writing)
        _, status = os.waitpid(child, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == number, "it is stopped in the end"
        assert os.read(reading, 100) == b"thawed", "and not before"
        os.kill(child, signal.SIGCONT)
        assert os.waitpid(child, 0)[1] == 0
        os.close(reading)


def _stop_in_the_midst(number: int, writing: int) -> None:
    def window() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.05)
        os.write(writing, b"thawed")

    try:
        run_and_end(window, nothing, nothing, 1)
    except BaseException:
        os._exit(1)
    os._exit(0)
