"""The table of tasks as lines of text, that fit a terminal of any size."""

from collections.abc import Sequence

from cptbpf.cli.live.usage import ORDERS, Order, Usage
from cptbpf.cli.text import clip, comm

_COLUMNS = (
    ("PID", 7, "pid"),
    ("S", 2, ""),
    ("CPU", 4, ""),
    ("CPU%", 6, "cpu"),
    ("USR%", 6, "user"),
    ("SYS%", 6, "system"),
    ("VOL/s", 7, "voluntary"),
    ("INV/s", 7, "involuntary"),
    ("FLT/s", 7, "faults"),
    ("DLY%", 6, "delay"),
    ("CRED", 5, "credentials"),
)


class Choice:
    """What the user chose: how to sort, what to show, from which line on."""

    def __init__(self) -> None:
        self.order: Order = ORDERS[0]
        self.text = ""
        self.typing = False
        self.top = 0
        self.idle = True

    def key(self, key: str) -> bool:
        """Takes a key; False for one that means nothing here."""
        if self.typing:
            return self._type(key)
        for order in ORDERS:
            if key == order.key:
                self.order, self.top = order, 0
                return True
        moves = {"down": 1, "up": -1, "pagedown": 10, "pageup": -10}
        if key in moves:
            self.top = max(self.top + moves[key], 0)
        elif key == "/":
            self.typing, self.text = True, ""
        elif key == "z":
            self.idle = not self.idle
        elif key == "escape":
            self.text, self.top = "", 0
        else:
            return False
        return True

    def _type(self, key: str) -> bool:
        if key in ("enter", "escape"):
            self.typing = False
            self.text = "" if key == "escape" else self.text
        elif key == "backspace":
            self.text = self.text[:-1]
        elif len(key) == 1 and key.isprintable():
            self.text += key
        self.top = 0
        return True

    def matches(self, row: Usage) -> bool:
        """Whether a task is to be shown."""
        if not self.idle and row.cpu == 0 and row.letter not in "RD":
            return False
        return not self.text or self.text == str(row.task.pid) or self.text.lower() in comm(row.task.comm).lower()

    def told(self) -> str:
        """It in words."""
        shown = f"sort {self.order.name}"
        if self.typing:
            return f"{shown}  filter: {self.text}_"
        return shown + (f"  filter '{self.text}'" if self.text else "") + ("" if self.idle else "  busy only")


HELP = (
    f"keys: sort by {' '.join(f'{order.key}={order.name}' for order in ORDERS[:5])}",
    f"{' '.join(f'{order.key}={order.name}' for order in ORDERS[5:])}",
    "/ filter by name or pid  z busy only  arrows scroll  q quit",
)


def lines(head: Sequence[str], rows: Sequence[Usage], choice: Choice, width: int, height: int) -> tuple[list[str], int]:
    """The screen, ``height`` lines of ``width`` cells at most, and which of them names the columns."""
    room = max(height - len(head) - 1, 1)
    choice.top = min(choice.top, max(len(rows) - room, 0))
    shown = rows[choice.top : choice.top + room]
    title = "".join(f"{('*' if name == choice.order.name else '') + word:>{size}}" for word, size, name in _COLUMNS)
    table = [_line(row) for row in shown]
    made = [*head, f"{title}  COMMAND", *table]
    return [clip(line, width) for line in made[:height]], len(head)


def _line(row: Usage) -> str:
    task = row.task
    numbers = (row.cpu, row.user, row.system, row.voluntary, row.involuntary, row.faults, row.delay)
    cells = [f"{task.pid:>7}", f"{row.letter:>2}", f"{task.cpu:>4}"]
    cells += [f"{_short(value, size):>{size}}" for value, (_, size, _) in zip(numbers, _COLUMNS[3:10], strict=True)]
    return f"{''.join(cells)}{row.credentials or '':>5}  {comm(task.comm)}"


def _short(value: float, size: int) -> str:
    """A number in fewer than ``size`` cells."""
    for text in (f"{value:.1f}", f"{value:.0f}", f"{value / 1000:.0f}k"):
        if len(text) < size:
            return text
    return f"{value / 1e6:.0f}M"
