"""Stops tasks with ptrace, reads their registers, and lets them go whatever happens.

Why the tracer is a thread of its own that ends: only its end (``exit_ptrace``) surely releases a task that had not stopped yet,
such as the parent in a vfork, which DETACH does not reach and which would fall into the stop later. It also releases a thousand
stopped tasks in half the time that a thousand DETACHs take.

Why nothing here waits for a stop in a way that consumes it: a task in a signal-delivery-stop keeps its signal in
``task->exit_code``. wait4(2) clears that, and the tracer's death would then lose the signal. waitid with WNOWAIT leaves it.
For the same reason a program that uses cptbpf as a library must not call ``waitpid(-1)`` while a snapshot is taken.
"""

import contextlib
import ctypes
import errno
import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from cptbpf import procfs
from cptbpf.trace import ptrace, xstate
from cptbpf.trace.buffers import Slab, Slot
from cptbpf.trace.thread import run_and_end
from cptbpf.xsave import fxsave_of

T = TypeVar("T")

OPTIONS: Final = ptrace.O_TRACEFORK | ptrace.O_TRACEVFORK | ptrace.O_TRACECLONE
"""A child of a seized task is seized before its first instruction, unless it was cloned with CLONE_UNTRACED."""

AT_ONCE: Final = 1024
"""How many tasks are left to the thread's end. The kernel releases them in one go with interrupts off: some 1.5 µs each."""
FEW: Final = 64
"""Up to here DETACH of each is quicker than the end of a thread."""

_SPARE_SLOTS: Final = 64
_PATIENCE: Final = 0.01
_LOOK: Final = os.WSTOPPED | os.WNOHANG | os.WNOWAIT | ptrace.WALL


class AbortedError(Exception):
    """The thread that started the freezer was interrupted: the tasks are to be let go."""


class Freezer:
    """Seizes, interrupts, reads and releases tasks, by the thread ids of this process's own pid namespace.

    One freezer serves one freeze. :meth:`seize` to :meth:`release` work only in the function that :meth:`run` is given; what
    was read is there for every thread once :meth:`run` has returned. With ``registers`` false, no room is made for registers
    and :meth:`read` finds nothing to do.
    """

    def __init__(self, registers: bool = True) -> None:
        self.started_ns = 0
        """CLOCK_MONOTONIC before the first INTERRUPT; 0 before that."""
        self.ended_ns = 0
        """CLOCK_MONOTONIC when the last task had been released; 0 before that."""
        self.layout = xstate.layout() if registers else xstate.NONE
        """Of the extended state; ``size`` is 0 where there is none to be read."""
        self._registers = registers
        self._slab: Slab | None = None
        self._traced: dict[int, None] = {}  # a set that keeps its order
        self._ever: list[int] = []
        self._unread: list[Slot] = []
        self._read: dict[int, Slot] = {}
        self._whole: dict[int, bytes] = {}
        self._retrying = False
        self._unblocked = False
        self._aborted = False
        self._seizing = 0
        self._stuck = 0  # what was being seized when the starting thread last looked

    @property
    def frozen_ns(self) -> int:
        """From before the first INTERRUPT until every task had been released; 0 when nobody was interrupted."""
        return self.ended_ns - self.started_ns if self.started_ns else 0

    # -- the thread ------------------------------------------------------------------------------------------------------

    def run(self, function: Callable[[], T]) -> T:
        """Call ``function`` in the tracer thread, and return what it returned when every task has been released.

        What ``function`` raises is raised here, after the release. So is a KeyboardInterrupt (or what else a signal handler
        raises) in the calling thread, after :meth:`check` has ended ``function`` with :class:`AbortedError`.
        """
        collecting = gc.isenabled()

        def body() -> T:
            # A busy machine must not draw the window out; the thread's priority ends with it. Without CAP_SYS_NICE it stays.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, -20)
            return function()

        try:
            return run_and_end(body, self._abort, self._unblock, _PATIENCE)
        finally:
            if self._traced:
                self.ended_ns = time.monotonic_ns()
            if collecting:
                gc.enable()

    def check(self) -> None:
        """Raise :class:`AbortedError` when the thread that called :meth:`run` has been interrupted."""
        if self._aborted:
            raise AbortedError

    def _abort(self) -> None:
        self._aborted = True

    def _unblock(self) -> None:
        """Called in the starting thread while the tracer takes long: SEIZE of a task that is in execve waits for its
        cred_guard_mutex, and that execve for dead threads of its process that are the tracer's to reap.

        The task may have another id by now, or none, and a dead thread may have been seized at its birth and not be known: so
        it is all that was ever seized, and what stands beside the dead.
        """
        stuck, self._stuck = self._stuck, self._seizing
        if not stuck or stuck != self._seizing:
            return  # it takes long, but it gets on
        for tid in [stuck, *self._ever]:
            if self._seizing != stuck:
                return
            if _is_dead(tid):
                self._unblocked = True
                for thread in _threads_beside(tid):
                    _reap(thread)

    # -- the steps -------------------------------------------------------------------------------------------------------

    def seize(self, tids: Iterable[int]) -> dict[int, int]:
        """Seize tasks, which stops none of them, and make room for their registers. Children that the kernel seized at their
        birth belong here too, as soon as they are known; tasks that are seized already are passed over.

        Returns the errno of each that was refused: EPERM for one that someone else traces, a zombie, a kernel thread, a thread
        of this process, or one that may not be traced; ESRCH for one that is gone. :func:`refusal` has the words.
        Raises AbortedError.
        """
        self.check()
        new = [tid for tid in tids if tid not in self._traced]
        refused: dict[int, int] = {}
        for tid in new:
            self._seizing = tid
            if ptrace.waiting_request(ptrace.SEIZE, tid, 0, OPTIONS) < 0:
                error = ctypes.get_errno()
                # One that is ours from its birth answers to INTERRUPT, for which it need not have stopped.
                if error != errno.EPERM or ptrace.request(ptrace.INTERRUPT, tid, 0, 0) < 0:
                    refused[tid] = error
                    continue
            self._traced[tid] = None
            self._ever.append(tid)
        self._seizing = 0
        if self._registers:
            self._make_room([tid for tid in new if tid not in refused])
        return refused

    def _make_room(self, tids: list[int]) -> None:
        if self._slab is None or self._slab.free < len(tids):
            self._slab = Slab(len(tids) + _SPARE_SLOTS, self.layout.head)
        self._unread += map(self._slab.take, tids)

    def interrupt(self, tids: Iterable[int]) -> None:
        """Tell seized tasks to stop, without waiting until they have. The window begins here. Raises AbortedError."""
        self.check()
        gc.disable()
        quick, interrupt = ptrace.quick, ptrace.INTERRUPT
        for tid in tids:
            if not self.started_ns:
                self.started_ns = time.monotonic_ns()
            quick(interrupt, tid, 0, 0)  # ESRCH: gone since, as read() or the next list of tasks will show

    def read(self) -> list[int]:
        """Read the registers of every seized task that has not been read and has stopped: one sweep, which waits for none.

        Returns the tasks that have not stopped, to be tried again after a while. Some never will: the parent in a vfork, and a
        leader that ended before its threads. Dead threads are reaped and forgotten. Raises AbortedError.
        """
        self.check()
        note = 0
        get_fpu = ptrace.GETFPREGS
        if self.layout.head:
            get_fpu, note = ptrace.GETREGSET, ptrace.NT_X86_XSTATE
        quick, get_regs = ptrace.quick, ptrace.GETREGS
        read = self._read
        tail_mask = self.layout.tail_mask
        missed: list[Slot] = []
        for slot in self._unread:
            tid, regs, fpu, slab, place = slot
            # ESRCH from the first of them says that the task has not stopped: no need to wait for it, nor to poll.
            if quick(get_regs, tid, 0, regs) < 0 or quick(get_fpu, tid, note, fpu) < 0:
                missed.append(slot)
                continue
            read[tid] = slot
            if tail_mask and slab.xstate_bv[place] & tail_mask:
                self._whole[tid] = ptrace.regset(tid, ptrace.NT_X86_XSTATE)
        self._unread = missed
        if self._unblocked or (missed and self._retrying):
            # Some still have not stopped in a second sweep. One of them may be in an execve that waits for the end of threads
            # that had stopped and were read; one may have taken over a leader's id after that leader had been interrupted.
            # The starting thread may have let such an execve end already: then nobody is missed, and who was read is gone.
            self._unblocked = False
            self.reap(list(self._traced))
            for slot in self._unread:
                quick(ptrace.INTERRUPT, slot.tid, 0, 0)
        elif missed:
            self.reap([slot.tid for slot in missed])
        self._retrying = bool(missed)
        return [slot.tid for slot in self._unread]

    def reap(self, tids: Iterable[int]) -> list[int]:
        """Reap dead threads among ``tids``: until then an execve of another thread of their process waits for them.

        A dead leader is left to its parent. Returns those that live, stopped or not; the others are forgotten.
        """
        alive = []
        dead = set()
        for tid in tids:
            if _reap(tid):
                alive.append(tid)
            else:
                dead.add(tid)
        if dead:
            # A thread that executes a program takes over its leader's id, and what was read of the old leader is void.
            leaders = [tid for tid in self._read if ptrace.thread_exists(tid, tid)]
            self.forget(dead)
            self._read_again(leaders)
        return alive

    def _read_again(self, tids: Iterable[int]) -> None:
        for tid in tids:
            if slot := self._read.pop(tid, None):
                slot.slab.rewind(slot.place)
                self._whole.pop(tid, None)
                self._unread.append(slot)

    def forget(self, tids: Iterable[int]) -> None:
        """Take tasks for unknown again: gone, or, where they run although they had been read, another task with the same id.

        :meth:`seize` and :meth:`interrupt` serve the latter anew.
        """
        gone = set(tids)
        for tid in gone:
            self._traced.pop(tid, None)
            self._read.pop(tid, None)
            self._whole.pop(tid, None)
        self._unread = [slot for slot in self._unread if slot.tid not in gone]

    def release(self, exit_codes: Mapping[int, int] | None = None) -> None:
        """Let tasks go on, each with the signal that it was about to receive: all that have stopped where they are few; else
        some, and the rest when the thread ends, which is to follow at once.

        ``exit_codes`` are ``task->exit_code`` of tasks, read when they had stopped. Who is not among them is asked for it.
        """
        known = exit_codes or {}
        tids = list(self._traced)
        if len(tids) > FEW:
            tids = tids[: max(0, len(tids) - AT_ONCE)]
        for tid in tids:
            code = known.get(tid)
            signal = delivered_signal(tid) if code is None else _signal(code)
            if ptrace.quick(ptrace.DETACH, tid, 0, signal) == 0:
                del self._traced[tid]
        if not self._traced:
            self.ended_ns = time.monotonic_ns()

    # -- what was read ---------------------------------------------------------------------------------------------------

    def regs(self, tid: int) -> bytes | None:
        """``struct user_regs_struct`` of a task, 216 bytes; None where it was not read."""
        slot = self._read.get(tid)
        return slot and slot.slab.regs(slot.place)

    def xstate(self, tid: int) -> bytes | None:
        """The whole of NT_X86_XSTATE of a task, in the standard format; None where it was not read or there is no XSAVE."""
        slot = self._read.get(tid)
        if slot is None or not self.layout.head:
            return None
        return self._whole.get(tid) or slot.slab.fpu(slot.place).ljust(self.layout.size, b"\0")

    def fxsave(self, tid: int) -> bytes | None:
        """The fxsave area of a task, 512 bytes as PTRACE_GETFPREGS gives them; None where it was not read."""
        slot = self._read.get(tid)
        return slot and fxsave_of(slot.slab.fpu(slot.place))


def _is_dead(tid: int) -> bool:
    """Has it died, or is it no tracee?"""
    try:
        state = os.waitid(os.P_PID, tid, _LOOK | os.WEXITED)
    except ChildProcessError:
        return True
    return state is not None and state.si_code not in (os.CLD_TRAPPED, os.CLD_STOPPED)


def _reap(tid: int) -> bool:
    """Reap a tracee that has died, unless it is a leader: of that, its parent must learn. Returns whether it lives."""
    if not _is_dead(tid):
        return True
    if not ptrace.thread_exists(tid, tid):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | ptrace.WALL)
    return False


def _threads_beside(tid: int) -> list[int]:
    """The thread ids of a thread's process, the dead ones too that nobody has reaped; none where it is gone."""
    try:
        return [int(name) for name in procfs.list_folder(f"{tid}/task")]
    except OSError:
        return []


def delivered_signal(tid: int) -> int:
    """The signal that a stopped task is about to receive, for DETACH to carry on; 0 where it stopped for another reason, or has
    not stopped. It is task->exit_code, and stays there."""
    try:
        state = os.waitid(os.P_PID, tid, _LOOK)
    except ChildProcessError:
        return 0
    return 0 if state is None else _signal(state.si_status)


def _signal(exit_code: int) -> int:
    """The signal in a stopped task's exit_code, whose upper bytes tell of stops for other reasons."""
    return 0 if exit_code >> 8 else exit_code


def refusal(tid: int, error: int) -> str:
    """Why SEIZE refused a task, in a few words. It looks at /proc, so it is not for the frozen window."""
    if error != errno.EPERM:
        return "gone" if error == errno.ESRCH else os.strerror(error)
    try:
        status = procfs.read_file(f"{tid}/status")
    except OSError as error:
        return "gone" if error.errno in (errno.ENOENT, errno.ESRCH) else os.strerror(errno.EPERM)
    fields = dict(line.split(b":\t", 1) for line in status.split(b"\n") if b":\t" in line)
    if fields.get(b"State", b"")[:1] in (b"Z", b"X"):
        return "a zombie"
    if b"VmSize" not in fields:  # "Kthread: 1" is younger
        return "a kernel thread"
    tracer = fields.get(b"TracerPid", b"0").decode()
    if tracer != "0":
        return f"traced by task {tracer}"
    if int(fields[b"Tgid"]) == os.getpid():
        return "a thread of cptbpf itself"
    return "tracing is not permitted (CAP_SYS_PTRACE in its user namespace, or a security module)"
