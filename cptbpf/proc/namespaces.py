"""cptbpf's own user and time namespace, through which /proc shows ids and times; and where /proc itself is veiled."""

import os


def id_map(kind: str) -> tuple[tuple[int, int, int], ...]:
    """The lines (inside, outside, count) of /proc/self/uid_map or gid_map, by ``kind`` ``uid`` or ``gid``.

    ``outside`` are ids of the parent user namespace. Who may load BPF programs is in the initial one or right below it, so that
    these are the kernel's own ids.
    """
    with open(f"/proc/self/{kind}_map") as stream:
        return tuple((int(inside), int(outside), int(count)) for inside, outside, count in map(str.split, stream))


def boottime_offset() -> int:
    """What cptbpf's time namespace adds to the boottime clock, in ns; 0 in the initial one, or without time namespaces."""
    try:
        # The file is about the namespace of children to come, which unshare(2) makes another one; ours then is the initial one.
        if os.readlink("/proc/self/ns/time") != os.readlink("/proc/self/ns/time_for_children"):
            return 0
        with open("/proc/self/timens_offsets") as stream:
            for line in stream:
                clock, seconds, nanoseconds = line.split()
                if clock in ("boottime", "7"):
                    return int(seconds) * 1_000_000_000 + int(nanoseconds)
    except FileNotFoundError:
        pass
    return 0


def veil(pid: int) -> str:
    """What hides a process from who looks at /proc: a mount over its directory, or the option hidepid; "" for neither."""
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            lines = [line.split() for line in stream]
    except OSError:
        return ""
    covers = [line for line in lines if line[4].startswith(b"/proc/") and line[4].split(b"/")[2] == b"%d" % pid]
    if covers:
        return f"a mount over /proc/{pid}"
    for line in reversed(lines):
        if line[4] == b"/proc":
            options = line[line.index(b"-") + 3].split(b",")
            for option in options:
                if option.startswith(b"hidepid=") and option not in (b"hidepid=0", b"hidepid=off"):
                    return f"/proc is mounted with {option.decode('ascii', 'replace')}"
            return ""
    return ""
