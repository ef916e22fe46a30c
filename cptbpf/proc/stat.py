"""/proc/PID/task/TID/stat, as proc(5) numbers its fields; a witness for the kernel's own view."""

from typing import NamedTuple

from cptbpf import procfs


class Stat(NamedTuple):
    """The 52 fields in their order. Times are in ticks of 1/USER_HZ s unless said; ``comm`` is raw."""

    pid: int
    comm: bytes
    state: str
    ppid: int
    pgrp: int
    session: int
    tty_nr: int
    tpgid: int
    flags: int
    minflt: int
    cminflt: int
    majflt: int
    cmajflt: int
    utime: int
    stime: int
    cutime: int
    cstime: int
    priority: int
    nice: int
    num_threads: int
    itrealvalue: int
    starttime: int
    vsize: int  # bytes
    rss: int  # pages
    rsslim: int
    startcode: int
    endcode: int
    startstack: int
    kstkesp: int
    kstkeip: int
    signal: int
    blocked: int
    sigignore: int
    sigcatch: int
    wchan: int
    nswap: int
    cnswap: int
    exit_signal: int
    processor: int
    rt_priority: int
    policy: int
    delayacct_blkio_ticks: int
    guest_time: int
    cguest_time: int
    start_data: int
    end_data: int
    start_brk: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    exit_code: int


_COUNT = len(Stat._fields)


def columns(text: bytes) -> list[bytes]:
    """The columns of one stat file as text. comm may hold anything, ``") R 1 "`` and newlines included: the last ``)`` ends it.

    Raises:
        ValueError: the text is not that of a stat file.
    """
    opening, closing = text.find(b" ("), text.rfind(b") ")
    rest = text[closing + 2 :].split()
    if opening < 0 or closing < 0 or len(rest) < _COUNT - 2:
        raise ValueError("not a stat file")
    return [text[:opening], text[opening + 2 : closing], *rest]


def parse(text: bytes) -> Stat:
    """The fields of one stat file.

    Raises:
        ValueError: the text is not that of a stat file.
    """
    pid, comm, state, *numbers = columns(text)
    return Stat(int(pid), comm, state.decode("ascii"), *map(int, numbers[: _COUNT - 3]))


def read(tgid: int, tid: int) -> Stat:
    """The fields of one thread, of this thread alone.

    Raises:
        OSError: it is gone, not ours to look at, or something is mounted over it.
    """
    return parse(procfs.read_record(f"{tgid}/task/{tid}/stat"))
