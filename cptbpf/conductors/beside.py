"""A call in another thread, beside what this one does."""

import _thread
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_TURN = 50e-6  # seconds that the interpreter is left to the other thread, to begin with


class Beside(Generic[T]):
    """Makes a call ready in a thread of its own, starts it there and gives back what it returned.

    ``ready`` is entered in the thread at once, and gives the function that is called at :meth:`start`. The call has to give
    the interpreter's lock away while it works, or it would not be beside anything. Use it as a context manager, which waits
    for the end of the thread. Raises RuntimeError where no thread is to be had.
    """

    def __init__(self, ready: Callable[[], AbstractContextManager[Callable[[], T]]]) -> None:
        self._ready = ready
        self._begin, self._end = _locked(), _locked()
        self._wanted = False
        self._results: list[T] = []
        self._failures: list[BaseException] = []
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            with self._ready() as call:
                self._begin.acquire()
                if self._wanted:
                    self._results.append(call())
        except BaseException as error:  # whatever it is, it is for who asks for the result
            self._failures.append(error)
        self._end.release()

    def start(self) -> None:
        """Has the call begin. It may be started once."""
        self._wanted = True
        self._begin.release()
        time.sleep(_TURN)

    def result(self) -> T:
        """Waits for the call, and returns what it returned or raises what it raised."""
        self._end.acquire()
        self._end.release()
        if self._failures:
            raise self._failures[0]
        return self._results[0]

    def __enter__(self) -> "Beside[T]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._wanted:
            self._begin.release()
        self._end.acquire()
        self._end.release()


def _locked() -> _thread.LockType:
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock
