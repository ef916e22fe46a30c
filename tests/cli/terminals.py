"""A command in a terminal of its own: a pseudo-terminal whose screen is put together from what is drawn on it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable

from tests.cli.command import PROGRAM
from tests.harness import SLOWNESS

_CONTROL = re.compile(rb"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>]")


class Screen:
    """cptbpf on a terminal of 80 columns and 24 lines, or as many as given. Use it as a context manager."""

    def __init__(self, *arguments: object, columns: int = 80, lines: int = 24) -> None:
        self._lines, self._columns = lines, columns
        self.output = b""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLUMNS="", LINES="")
            os.environ.pop("COLUMNS"), os.environ.pop("LINES")
            os.execv(PROGRAM, [PROGRAM, *map(str, arguments)])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.status: int | None = None

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *error: object) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def press(self, keys: str) -> None:
        """Types keys."""
        os.write(self._fd, keys.encode())

    def modes(self) -> int:
        """The terminal's local modes: ECHO, ICANON and others."""
        return int(termios.tcgetattr(self._fd)[3])

    def until(self, condition: Callable[[list[str]], object], what: str, timeout: float = 30) -> list[str]:
        """The screen, once the condition holds of it."""
        deadline = time.monotonic() + timeout * SLOWNESS
        while not condition(shown := self.shown()):
            assert time.monotonic() < deadline, f"timed out: {what}: {shown}"
            assert self._read(0.2) or self.status is None, f"it ended: {what}: {shown}"
        return shown

    def end(self, timeout: float = 30) -> int:
        """Waits for it to end; returns its status."""
        deadline = time.monotonic() + timeout * SLOWNESS
        while self._read(0.1):
            assert time.monotonic() < deadline, "it does not end"
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def shown(self) -> list[str]:
        """What stands on the screen: enough of a terminal for a program that draws it as a whole."""
        screen = [[" "] * self._columns for _ in range(self._lines)]
        row = column = 0
        text = self.output.rpartition(b"\x1b[?1049h")[2]
        at = 0
        for match in [*_CONTROL.finditer(text), None]:
            plain = text[at : match.start() if match else len(text)].decode("utf-8", "replace")
            for char in plain:
                if char == "\n":
                    row, column = min(row + 1, self._lines - 1), 0
                elif char == "\r":
                    column = 0
                elif column < self._columns:
                    screen[row][column] = char
                    column += 1
            if match is None:
                break
            at = match.end()
            if match[2] == b"H":
                row = column = 0
            elif match[2] == b"J":
                screen = [[" "] * self._columns for _ in range(self._lines)]
        return ["".join(line).rstrip() for line in screen]

    def _read(self, timeout: float) -> bool:
        if not select.select([self._fd], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.output += data
        return bool(data)
