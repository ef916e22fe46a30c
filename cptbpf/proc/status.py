"""Lines of /proc/PID/status."""

from cptbpf import procfs


def words(pid: int, name: bytes) -> list[bytes]:
    """The words of the line that begins with ``name``; none where there is no such line, or no such task to be seen.

    Not for Name, the one line that holds what a task chose.
    """
    try:
        text = procfs.read_record(f"{pid}/status")
    except OSError:
        return []
    return text.partition(b"\n" + name + b":")[2].partition(b"\n")[0].split()
