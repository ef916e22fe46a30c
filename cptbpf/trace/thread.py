"""A thread that is gone, for the kernel too, when its caller goes on."""

import _thread
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from cptbpf.errors import UnsupportedError
from cptbpf.trace import ptrace

T = TypeVar("T")
#: Ctrl-Z, and a terminal that is another job's: the tracer must not be stopped while it keeps others so.
_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


@contextmanager
def _unstoppable() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # a new thread inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@_unstoppable()
def run_and_end(function: Callable[[], T], interrupted: Callable[[], None], stuck: Callable[[], None], patience: float) -> T:
    """Run ``function`` in a new thread, wait until the kernel has done away with that thread, and return what it returned.

    The order matters: python, pthread_join and ``clear_child_tid`` all call a thread ended before its ``exit_ptrace`` has run.
    Only when the kernel no longer knows the thread's id has it released its tracees.

    Raises UnsupportedError where a limit lets no thread be started. An exception of ``function`` is raised here. An exception
    that a signal handler raises here meanwhile (KeyboardInterrupt) makes ``interrupted()`` be called once, and is raised when
    the thread has ended. While the thread takes longer, ``stuck()`` is called every ``patience`` seconds. Signals of a terminal
    that stop a process wait until then, unless other threads of the process take them.
    """
    tid: list[int] = []
    results: list[T] = []
    failures: list[BaseException] = []
    returned = _thread.allocate_lock()
    returned.acquire()

    def body() -> None:
        tid.append(_thread.get_native_id())
        try:
            results.append(function())
        except BaseException as error:  # whatever it is, it is the starting thread's to handle
            failures.append(error)
        returned.release()

    try:
        _thread.start_new_thread(body, ())
    except RuntimeError as error:  # which has no errno
        raise UnsupportedError(
            "the kernel starts no further thread for cptbpf, which has to be the tracer",
            "look at RLIMIT_NPROC ('ulimit -u') and pids.max; after 'unshare --time' older kernels start none without --fork",
        ) from error
    signalled: BaseException | None = None
    while True:
        try:
            while not (results or failures):
                if not returned.acquire(timeout=patience):
                    stuck()
            _await_end(tid[0])
            break
        except BaseException as error:  # a second Ctrl-C must not leave the thread behind either
            if signalled is None:
                signalled = error
                interrupted()
    if signalled is not None:
        raise signalled
    if failures:
        raise failures[0]
    return results[0]


def _await_end(tid: int) -> None:
    """Return when thread ``tid`` of this process does not exist any more."""
    pid = os.getpid()
    polls = 0
    while ptrace.thread_exists(pid, tid):
        # The end of a thread without tracees is a matter of microseconds; one with many is given the CPU.
        polls += 1
        if polls < 20:
            os.sched_yield()
        else:
            time.sleep(50e-6)
