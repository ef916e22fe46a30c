"""/proc/PID/task/TID/status: a witness for ids, signals, capabilities and context switches."""

import os
import re
from typing import NamedTuple


class Status(NamedTuple):
    """What a status file says, in the types of :mod:`cptbpf.fields`; None where this kernel has no such line.

    Uids and gids are (real, effective, saved, file system) in cptbpf's own user namespace; ``nspid`` and its kin have one entry
    for each pid namespace from that of /proc inwards; signal and capability sets are masks.
    """

    name: bytes
    state: str
    tgid: int
    pid: int
    ppid: int
    tracer_pid: int
    uid: tuple[int, ...]
    gid: tuple[int, ...]
    groups: tuple[int, ...]
    nstgid: tuple[int, ...] | None
    nspid: tuple[int, ...] | None
    nspgid: tuple[int, ...] | None
    nssid: tuple[int, ...] | None
    threads: int
    sig_pending: int
    sig_shared_pending: int
    sig_blocked: int
    sig_ignored: int
    sig_caught: int
    cap_inheritable: int
    cap_permitted: int
    cap_effective: int
    cap_bset: int
    cap_ambient: int | None
    no_new_privs: int | None
    seccomp_mode: int | None
    seccomp_filters: int | None
    cpus_allowed: int | None
    nvcsw: int
    nivcsw: int


_ESCAPE = re.compile(rb"\\(n|\\|[0-7]{3})")


def parse(text: bytes) -> Status:
    """The lines of one status file.

    Raises:
        ValueError: the text is not that of a status file.
    """
    # The kernel escapes newlines in the name, so that a line is a line.
    lines = dict(line.split(b":", 1) for line in text.split(b"\n") if b":" in line)

    def has(key: bytes) -> bool:
        return key in lines

    def number(key: bytes, base: int = 10) -> int:
        return int(lines[key], base)

    def numbers(key: bytes) -> tuple[int, ...]:
        return tuple(map(int, lines[key].split()))

    try:
        return Status(
            name=unescape(lines[b"Name"][1:]),
            state=lines[b"State"].split()[0].decode("ascii"),
            tgid=number(b"Tgid"),
            pid=number(b"Pid"),
            ppid=number(b"PPid"),
            tracer_pid=number(b"TracerPid"),
            uid=numbers(b"Uid"),
            gid=numbers(b"Gid"),
            groups=numbers(b"Groups"),
            nstgid=numbers(b"NStgid") if has(b"NStgid") else None,
            nspid=numbers(b"NSpid") if has(b"NSpid") else None,
            nspgid=numbers(b"NSpgid") if has(b"NSpgid") else None,
            nssid=numbers(b"NSsid") if has(b"NSsid") else None,
            threads=number(b"Threads"),
            sig_pending=number(b"SigPnd", 16),
            sig_shared_pending=number(b"ShdPnd", 16),
            sig_blocked=number(b"SigBlk", 16),
            sig_ignored=number(b"SigIgn", 16),
            sig_caught=number(b"SigCgt", 16),
            cap_inheritable=number(b"CapInh", 16),
            cap_permitted=number(b"CapPrm", 16),
            cap_effective=number(b"CapEff", 16),
            cap_bset=number(b"CapBnd", 16),
            cap_ambient=number(b"CapAmb", 16) if has(b"CapAmb") else None,
            no_new_privs=number(b"NoNewPrivs") if has(b"NoNewPrivs") else None,
            seccomp_mode=number(b"Seccomp") if has(b"Seccomp") else None,
            seccomp_filters=number(b"Seccomp_filters") if has(b"Seccomp_filters") else None,
            cpus_allowed=int(lines[b"Cpus_allowed"].replace(b",", b""), 16) if has(b"Cpus_allowed") else None,
            nvcsw=number(b"voluntary_ctxt_switches"),
            nivcsw=number(b"nonvoluntary_ctxt_switches"),
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"not a status file: no {error}") from None


def unescape(name: bytes) -> bytes:
    """comm as the kernel holds it, from its escaped form in the Name line."""
    return _ESCAPE.sub(lambda match: _plain(match[1]), name)


def _plain(escape: bytes) -> bytes:
    if len(escape) == 3:
        return bytes([int(escape, 8) & 0xFF])
    return b"\n" if escape == b"n" else escape


def read(tgid: int, tid: int) -> Status:
    """The lines of one thread.

    Raises:
        OSError: it is gone, or not ours to look at.
    """
    fd = os.open(f"/proc/{tgid}/task/{tid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        return parse(b"".join(pieces))
    finally:
        os.close(fd)
