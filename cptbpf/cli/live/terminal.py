"""A terminal that is drawn on as a whole and read key by key; as it was before, whatever happens."""

import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Any

_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1b[H": "home",
    b"\x1b[F": "end",
    b"\x1b[1~": "home",
    b"\x1b[4~": "end",
}
_SINGLE = {b"\r": "enter", b"\n": "enter", b"\x7f": "backspace", b"\x08": "backspace", b"\x1b": "escape", b"\x04": "q"}


def interactive() -> bool:
    """Whether there is a terminal to draw on and to read keys from."""
    return sys.stdin is not None and sys.stdout is not None and sys.stdin.isatty() and sys.stdout.isatty()


class Terminal:
    """Draws by rich, on the terminal's other screen."""

    def __enter__(self) -> "Terminal":
        from rich.console import Console
        from rich.live import Live

        self._fd = sys.stdin.fileno()
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._suspended = signal.getsignal(signal.SIGTSTP)
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back()

    def _take(self) -> None:
        self._before: list[Any] = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        try:
            self._live.start()
        except BaseException:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            raise
        if self._suspended == signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)

    def _give_back(self) -> None:
        signal.signal(signal.SIGTSTP, self._suspended)
        try:
            self._live.stop()
        finally:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, and we take it again when we are let go on."""
        self._give_back()
        signal.raise_signal(signal.SIGTSTP)
        self._take()

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        return self._console.size

    def draw(self, lines: list[str], title: int) -> None:
        """Shows lines, the one that names the columns reversed."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="crop", end="")
        for number, line in enumerate(lines):
            text.append(line.ljust(self._console.size.width) if number == title else line, "reverse" if number == title else "")
            text.append("\n" if number < len(lines) - 1 else "")
        self._live.update(text, refresh=True)

    def keys(self, timeout: float) -> list[str]:
        """What was typed within ``timeout`` seconds."""
        if not select.select([self._fd], [], [], max(timeout, 0))[0]:
            return []
        data = os.read(self._fd, 1024)
        return parse(data) if data else ["q"]


def parse(data: bytes) -> list[str]:
    """The keys of what a terminal sent."""
    keys = []
    while data:
        for length in (4, 3):
            if data[:length] in _SEQUENCES:
                keys.append(_SEQUENCES[data[:length]])
                break
        else:
            length = 1
            while data[0] >= 0xC0 and length < len(data) and data[length] & 0xC0 == 0x80:
                length += 1
            first = data[:length]
            keys.append(_SINGLE.get(first) or first.decode("utf-8", "replace"))
        data = data[length:]
    return keys
