"""bpf(2) by ctypes: just the commands that are used, each a few words of ``union bpf_attr``.

The layouts are UAPI and do not change. Nothing here needs libbpf or bcc, so that a warm run imports neither.
"""

import ctypes
import errno
import fcntl
import os
import struct
from typing import NamedTuple

from cptbpf.errors import PrivilegeError, UnsupportedError

_SYS_BPF = 321  # x86-64

# enum bpf_cmd
_MAP_CREATE, _BTF_LOAD = 0, 18
_MAP_LOOKUP_ELEM, _MAP_UPDATE_ELEM, _MAP_DELETE_ELEM, _MAP_GET_NEXT_KEY = 1, 2, 3, 4
_PROG_LOAD, _OBJ_PIN, _OBJ_GET = 5, 6, 7
_OBJ_GET_INFO_BY_FD = 15
_RAW_TRACEPOINT_OPEN = 17
_LINK_CREATE = 28
_ENABLE_STATS = 32
_ITER_CREATE = 33

MAP_ARRAY, MAP_RINGBUF, MAP_TASK_STORAGE = 2, 27, 29  # enum bpf_map_type

# enum bpf_prog_type, enum bpf_attach_type
PROG_KPROBE, PROG_TRACEPOINT, PROG_RAW_TRACEPOINT, PROG_TRACING = 2, 5, 17, 26
TRACE_RAW_TP, TRACE_FENTRY, TRACE_FEXIT, TRACE_ITER = 23, 24, 25, 28

#: A program that does nothing: r0 = 0; exit.
RETURN_0 = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)

_SYS_PERF_EVENT_OPEN = 298
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_EVENT_IOC_ENABLE, _PERF_EVENT_IOC_SET_BPF = 0x2400, 0x40042408
_KPROBE_PMU = "/sys/bus/event_source/devices/kprobe"

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def auxiliary(number: int) -> int:
    """A value of the auxiliary vector that the kernel gave this process, by its AT_* number; 0 for none."""
    function = _libc.getauxval
    function.restype = ctypes.c_ulong
    value: int = function(ctypes.c_ulong(number))
    return value


def _bpf(command: int, attr: bytes) -> int:
    """One call. Raises OSError; EPERM as PrivilegeError, because nothing else of cptbpf can mend it."""
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result: int = _syscall(ctypes.c_long(_SYS_BPF), ctypes.c_long(command), buffer, ctypes.c_ulong(len(attr)))
    if result < 0:
        number = ctypes.get_errno()
        if number == errno.EPERM:
            raise PrivilegeError(
                "bpf(2) is not permitted",
                "run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE; 'cptbpf check' tells what is missing",
            )
        raise OSError(number, os.strerror(number))
    return result


def _address(data: bytes | bytearray | ctypes.Array[ctypes.c_char]) -> tuple[int, object]:
    """Address of a copy of ``data`` and the object that keeps it alive."""
    buffer = ctypes.create_string_buffer(bytes(data), len(data))
    return ctypes.addressof(buffer), buffer


def obj_get(path: str) -> int:
    """A descriptor of a pinned object."""
    address, _keep = _address(os.fsencode(path) + b"\0")
    return _bpf(_OBJ_GET, struct.pack("=QII", address, 0, 0))


def obj_pin(fd: int, path: str) -> None:
    """Pins a map, program or link at a path of a bpffs."""
    address, _keep = _address(os.fsencode(path) + b"\0")
    _bpf(_OBJ_PIN, struct.pack("=QII", address, fd, 0))


def map_create(name: str, kind: int, key_size: int, value_size: int, max_entries: int, flags: int) -> int:
    """Makes a map. Sizes are in bytes."""
    btf_fd, key_type, value_type = -1, 0, 0
    if kind == MAP_TASK_STORAGE:
        btf_fd, key_type, value_type = _btf_load(_value_btf(value_size)), 1, 2
    try:
        words = (
            kind,
            key_size,
            value_size,
            max_entries,
            flags,
            0,
            0,
            name.encode()[:15],
            0,
            max(btf_fd, 0),
            key_type,
            value_type,
        )
        return _bpf(_MAP_CREATE, struct.pack("=IIIIIII16sIIII", *words))
    finally:
        if btf_fd >= 0:
            os.close(btf_fd)


def _value_btf(size: int) -> bytes:
    """BTF of an int and of a struct of ``size`` bytes, which is all that a storage map wants to know of its key and value."""
    strings = b"\0int\0value\0"
    types = struct.pack("=IIII", 1, 1 << 24, 4, 0x01000020) + struct.pack("=III", 5, 4 << 24, size)
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def _btf_load(data: bytes) -> int:
    address, _keep = _address(data)
    return _bpf(_BTF_LOAD, struct.pack("=QQIII4x", address, 0, len(data), 0, 0))


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Sets one element."""
    key_at, _key = _address(key)
    value_at, _value = _address(value)
    _bpf(_MAP_UPDATE_ELEM, struct.pack("=I4xQQQ", fd, key_at, value_at, 0))


def map_lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value of one element (``size`` bytes), None where there is none."""
    key_at, _key = _address(key)
    value = ctypes.create_string_buffer(size)
    try:
        _bpf(_MAP_LOOKUP_ELEM, struct.pack("=I4xQQQ", fd, key_at, ctypes.addressof(value), 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw


def map_delete(fd: int, key: bytes) -> bool:
    """Removes one element; False where there was none."""
    key_at, _key = _address(key)
    try:
        _bpf(_MAP_DELETE_ELEM, struct.pack("=I4xQQQ", fd, key_at, 0, 0))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def map_keys(fd: int, size: int) -> list[bytes]:
    """Every key of a map, each ``size`` bytes."""
    keys: list[bytes] = []
    following = ctypes.create_string_buffer(size)
    while True:
        at, _key = _address(keys[-1]) if keys else (0, None)
        try:
            _bpf(_MAP_GET_NEXT_KEY, struct.pack("=I4xQQ", fd, at, ctypes.addressof(following)))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return keys
            raise
        keys.append(following.raw)


def map_value_size(fd: int) -> int:
    """Size of a map's values, in bytes."""
    return _map_info(fd)[3]


def map_max_entries(fd: int) -> int:
    """How many elements a map may have; of a ring buffer, its size in bytes."""
    return _map_info(fd)[4]


def _map_info(fd: int) -> tuple[int, ...]:
    """The head of struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags."""
    info = ctypes.create_string_buffer(24)
    _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, len(info), ctypes.addressof(info)))
    return struct.unpack("=6I", info.raw)


def prog_load(
    prog_type: int, instructions: bytes, name: str, attach_type: int = 0, attach_btf_id: int = 0, kern_version: int = 0
) -> int:
    """Loads a program and returns its descriptor.

    Raises OSError, with the verifier's last words in ``filename``, and PrivilegeError on EPERM.
    """
    code_at, _code = _address(instructions)
    licence_at, _licence = _address(b"GPL\0")

    def attr(log_level: int, log_size: int, log_at: int) -> bytes:
        return struct.pack(
            "=IIQQIIQII16sIIIIQIIQII",
            prog_type, len(instructions) // 8, code_at, licence_at, log_level, log_size, log_at, kern_version, 0,
            name.encode()[:15], 0, attach_type, 0, 0, 0, 0, 0, 0, 0, attach_btf_id,
        )  # fmt: skip

    try:
        return _bpf(_PROG_LOAD, attr(0, 0, 0))
    except OSError as error:
        log = ctypes.create_string_buffer(1 << 22)
        try:
            return _bpf(_PROG_LOAD, attr(1, len(log), ctypes.addressof(log)))
        except OSError:
            said = log.value.decode(errors="replace").strip()
            raise OSError(error.errno, error.strerror, said) from None


def link_iter(prog: int) -> int:
    """A link that makes an iterator of a program."""
    return _bpf(_LINK_CREATE, struct.pack("=IIII48x", prog, 0, TRACE_ITER, 0))


def iter_create(link: int) -> int:
    """One pass over an iterator: a descriptor to read until it is empty."""
    return _bpf(_ITER_CREATE, struct.pack("=II", link, 0))


def raw_tracepoint_open(prog: int, name: str = "") -> int:
    """Attaches to a raw tracepoint; a tp_btf, fentry or fexit program carries its target and takes no name."""
    at, _keep = _address(name.encode() + b"\0") if name else (0, None)
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI4x", at, prog))


def perf_event_open(attr: bytes) -> int:
    """An event of cpu 0, whichever task is on it, by its struct perf_event_attr. Raises OSError."""
    attr_at, _attr = _address(attr)
    words = [ctypes.c_long(word) for word in (_SYS_PERF_EVENT_OPEN, attr_at, -1, 0, -1, _PERF_FLAG_FD_CLOEXEC)]
    event: int = _syscall(*words)
    if event < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return event


def kprobe_open(prog: int, function: str, on_return: bool) -> int:
    """Attaches to the entry to a kernel function, or to its return; closing the descriptor detaches.

    Raises UnsupportedError where the kernel has no kprobes or no such function, OSError where it does not let this one be.
    """
    try:
        with open(f"{_KPROBE_PMU}/type", encoding="ascii") as stream:
            pmu = int(stream.read())
    except FileNotFoundError:
        raise UnsupportedError("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)") from None
    name_at, _name = _address(function.encode() + b"\0")
    # struct perf_event_attr: type, size, config (bit 0: retprobe), …, kprobe_func at config1, probe_offset at config2
    attr = struct.pack("=IIQQQQQIIQQ48x", pmu, 112, int(on_return), 0, 0, 0, 0, 0, 0, name_at, 0)
    try:
        event = perf_event_open(attr)
    except FileNotFoundError:  # register_kprobe (kernel/kprobes.c) found no such symbol
        raise UnsupportedError(f"the kernel has no {function}") from None
    try:
        fcntl.ioctl(event, _PERF_EVENT_IOC_SET_BPF, prog)
        fcntl.ioctl(event, _PERF_EVENT_IOC_ENABLE, 0)
    except OSError:
        os.close(event)
        raise
    return event


class ProgramStats(NamedTuple):
    """What the kernel counts of a program. Runs and their time only while statistics are switched on."""

    run_ns: int
    runs: int
    misses: int  # recursion_misses: runs left out because it ran already on that cpu, for a task that lost it; 0 before 5.12


def program_stats(prog: int) -> ProgramStats:
    """What the kernel counted of a program since it was loaded."""
    info = ctypes.create_string_buffer(216)  # struct bpf_prog_info up to recursion_misses
    _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", prog, len(info), ctypes.addressof(info)))
    return ProgramStats(*struct.unpack_from("=192xQQQ", info.raw))


def enable_stats() -> int:
    """Switches program statistics on, for the whole machine, until the descriptor is closed. Every run costs more meanwhile."""
    return _bpf(_ENABLE_STATS, struct.pack("=I", 0))  # BPF_STATS_RUN_TIME
