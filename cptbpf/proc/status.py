"""Lines of /proc/PID/status."""


def words(pid: int, name: bytes) -> list[bytes]:
    """The words of the line that begins with ``name``; none where there is no such line, or no such task to be seen.

    Not for Name, the one line that holds what a task chose.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            return stream.read().partition(b"\n" + name + b":")[2].partition(b"\n")[0].split()
    except OSError:
        return []
