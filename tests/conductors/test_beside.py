"""A call beside another thread's work."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cptbpf.conductors.beside import Beside
from tests.harness import until


class Work:
    """What a thread does, and what became of it."""

    def __init__(self, call: Callable[[], int]) -> None:
        self.steps: list[str] = []
        self.thread = 0
        self._call = call

    @contextmanager
    def ready(self) -> Iterator[Callable[[], int]]:
        self.thread = threading.get_native_id()
        self.steps.append("ready")
        yield self._called
        self.steps.append("left")

    def _called(self) -> int:
        self.steps.append("called")
        return self._call()


def test_it_works_while_this_one_goes_on() -> None:
    reading, writing = os.pipe()
    work = Work(lambda: len(os.read(reading, 8)))
    with Beside(work.ready) as beside:
        until(lambda: work.steps == ["ready"], "the thread")
        time.sleep(0.01)
        assert work.steps == ["ready"]
        beside.start()
        os.write(writing, b"four")  # what it waits for comes from here
        assert beside.result() == 4
    assert work.steps == ["ready", "called", "left"]
    assert work.thread != threading.get_native_id()
    os.close(reading)
    os.close(writing)


def test_an_error_is_that_of_who_asks() -> None:
    def fail() -> int:
        raise OSError("no pass")

    with Beside(Work(fail).ready) as beside:
        beside.start()
        with pytest.raises(OSError, match="no pass"):
            beside.result()


def test_what_is_not_started_is_put_away() -> None:
    work = Work(lambda: 1)
    with Beside(work.ready):
        until(lambda: work.steps == ["ready"], "the thread")
    until(lambda: work.steps == ["ready", "left"], "its end")


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    with pytest.raises(RuntimeError):
        Beside(Work(lambda: 1).ready)
