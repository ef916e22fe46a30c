"""Text for people: strings from elsewhere made harmless, columns, times, sizes.

A name that a task gave itself may hold anything: escape sequences that rewrite the screen, text that runs backwards, bytes that
are no text at all. Everything that came from a task or from a file goes through :func:`escape` before it is printed.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_[](){}<>~^!?#*|&;")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def escape(value: str | bytes, quote: bool = True) -> str:
    """The string with everything that does not print as itself written as ``\\n``, ``\\xNN``, ``\\uNNNN`` or ``\\UNNNNNNNN``.

    That are control characters, bytes that are not UTF-8, marks that reverse or hide text, separators of lines, and characters
    that Unicode does not assign; with ``quote`` the backslash as well, so that the result is unambiguous.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isprintable() and (not quote or "\\" not in text):
        return text
    return "".join(char if char.isprintable() and (char != "\\" or not quote) else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    number = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def comm(name: bytes) -> str:
    """A task's name as the kernel keeps it, in 16 bytes that end with a NUL."""
    return escape(name.partition(b"\0")[0])


def command_line(data: bytes) -> str:
    """A command line as /proc/PID/cmdline has it, as one would type it."""
    arguments = data.removesuffix(b"\0").split(b"\0") if data else []
    return " ".join(map(_argument, arguments))


def _argument(data: bytes) -> str:
    shown = escape(data)
    return shown if shown and _BARE.issuperset(shown) else "'" + shown.replace("'", "'\\''") + "'"


def width(text: str) -> int:
    """How many cells of a terminal a printable string takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


@lru_cache(maxsize=4096)
def _cells(char: str) -> int:
    from unicodedata import combining, east_asian_width

    return 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1


def clip(text: str, limit: int) -> str:
    """The string in at most ``limit`` cells, with an ellipsis where something was cut off."""
    if width(text) <= limit:
        return text
    kept, used = [], 1
    for char in text:
        used += width(char)
        if used > limit:
            break
        kept.append(char)
    return "".join(kept) + "…"


def columns(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows as lines with aligned columns, those of ``right`` to the right; the last column is as long as it is."""
    table = list(rows)
    if not table:
        return []
    aligned_right = set(right)
    widths = [max(width(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        cells = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - width(cell))
            cells.append(space + cell if column in aligned_right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return lines


def duration(nanoseconds: int) -> str:
    """A time that was used: ``0.012s``, ``3.4s``, ``2m05s``, ``1h02m``."""
    seconds = nanoseconds / 1e9
    if seconds < 1:
        return f"{seconds:.3f}s"
    return f"{seconds:.1f}s" if seconds < _MINUTE else age(nanoseconds)


def age(nanoseconds: int) -> str:
    """A time that has passed, in two units: ``12s``, ``2m05s``, ``1h02m``, ``3d04h``."""
    seconds = max(nanoseconds, 0) // 1_000_000_000
    if seconds < _MINUTE:
        return f"{seconds}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}m{seconds % _MINUTE:02d}s"
    if seconds < _DAY:
        return f"{seconds // _HOUR}h{seconds % _HOUR // _MINUTE:02d}m"
    return f"{seconds // _DAY}d{seconds % _DAY // _HOUR:02d}h"


def size(count: int) -> str:
    """A number of bytes: ``512 bytes``, ``14.0 KiB``."""
    if count < 1024:
        return f"{count} bytes"
    value, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"


def instant(nanoseconds: int) -> str:
    """A CLOCK_REALTIME in ns as UTC, to the ms."""
    from time import gmtime, strftime

    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        return f"{strftime('%Y-%m-%d %H:%M:%S', gmtime(seconds))}.{rest // 1_000_000:03d} UTC"
    except (ValueError, OverflowError, OSError):  # an image may hold any number
        return f"{seconds} s after 1970"


def plural(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``, ``0 processes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}es" if noun.endswith("s") else f"{count} {noun}s"
