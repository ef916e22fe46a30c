"""``cptbpf top``: a target's tasks as they run."""

import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cptbpf.cli import options
from cptbpf.cli.output import telling_where, text_stdout
from cptbpf.cli.quantities import duration as duration_type
from cptbpf.errors import PrivilegeError

if TYPE_CHECKING:
    from cptbpf.cli.live.terminal import Terminal
    from cptbpf.cli.live.usage import Look
    from cptbpf.conductors.events import Event
    from cptbpf.conductors.sample import Sampler
    from cptbpf.kernel.sampler import Cost, CostWindow

_MEASURE_EVERY, _MEASURE_FOR = 5.0, 0.1  # seconds: measuring itself costs
_INTERVAL = (0.1, 3600.0)

_EPILOG = """\b
Examples:
  cptbpf top --pidns 4711
  cptbpf top --pid 4711 --interval 2s
  cptbpf top --pidns 4711 --count 5 > log        without a terminal: five tables, one after the other

CPU% is by the scheduler's account, USR% and SYS% are as the kernel splits it, perhaps by ticks. DLY% is time that a task was
runnable but had no cpu, CRED how often its credentials were changed. The key h shows what keys there are."""


@click.command(epilog=_EPILOG)
@options.target
@click.option(
    "--interval", metavar="TIME", type=duration_type, default="1s", show_default=True, help="From one look to the next."
)
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after N tables.")
@click.pass_context
def command(ctx: click.Context, pidns: str | None, pid: int | None, interval: float, count: int | None) -> int:
    """Show what the tasks of a pid namespace, or of a process tree, do now: state, cpu, switches, faults, delay, credentials.

    Sorted and filtered by keys on a terminal, plain tables elsewhere. The head says what looking costs and what was lost.
    """
    if not _INTERVAL[0] <= interval <= _INTERVAL[1]:
        raise click.UsageError(f"--interval is {_INTERVAL[0]} to {_INTERVAL[1]:.0f} seconds", ctx)
    from cptbpf.cli.live.terminal import Terminal, interactive
    from cptbpf.conductors.sample import Sampler

    with Sampler(pidns=pidns, pid=pid, interval=interval) as sampler:
        top = _Top(sampler, interval)
        if not interactive():
            return top.plain(count)
        with Terminal() as terminal:
            return top.show(terminal, count)


class _Top:
    def __init__(self, sampler: "Sampler", interval: float) -> None:
        from cptbpf.cli.live.screen import Choice

        self._sampler, self._interval = sampler, interval
        self._choice, self._help = Choice(), False
        self._before: Look = {}
        self._now: Look = {}
        self._events: Counter[str] = Counter()
        self._rates: dict[str, float] = {}
        self._credentials: Counter[int] = Counter()
        self._window: CostWindow | None = None
        self._cost: Cost | None = None
        self._own, self._looked = time.process_time(), time.monotonic()
        self._share = 0.0
        self._next_measure = 0.0
        self._take(sampler.poll(0))
        self._look()

    def plain(self, count: int | None) -> int:
        """Tables, one after the other."""
        stream = text_stdout()
        number = 0
        while not self._sampler.ended and (count is None or number < count):
            self._wait_plainly()
            self._look()
            lines, _ = self._lines(200, 1 << 20)
            with telling_where():
                stream.write("\n".join([*lines, "", ""]))
                stream.flush()
            number += 1
        return 0

    def _wait_plainly(self) -> None:
        until = time.monotonic() + self._interval
        while (left := until - time.monotonic()) > 0 and not self._sampler.ended:
            self._take(self._sampler.poll(left))

    def show(self, terminal: "Terminal", count: int | None) -> int:
        """The live view."""
        number, due = 0, time.monotonic() + min(self._interval, 0.5)
        while not self._sampler.ended:
            now = time.monotonic()
            if now >= due:
                if count is not None and number >= count:
                    break
                self._look()
                number, due = number + 1, now + self._interval
            terminal.draw(*self._lines(*terminal.size()))
            for key in terminal.keys(min(due - time.monotonic(), 0.1)):
                if key == "q" and not self._choice.typing:
                    return 0
                self._help = not self._help if key in ("h", "?") and not self._choice.typing else self._help
                self._choice.key(key)
            self._take(self._sampler.poll(0))
        return 0

    def _take(self, events: "Iterable[Event]") -> None:
        for event in events:
            self._events[event.event] += 1
            if event.event == "cred":
                self._credentials[event.task.pid] += 1  # type: ignore[union-attr]
            elif event.event == "fork":
                self._credentials.pop(event.task.pid, None)  # type: ignore[union-attr]
        self._measure()

    def _measure(self) -> None:
        now = time.monotonic()
        if self._window is not None and now >= self._next_measure + _MEASURE_FOR:
            self._cost = self._window.finish()
            self._window, self._next_measure = None, now + _MEASURE_EVERY
        elif self._window is None and now >= self._next_measure:
            try:
                self._window, self._next_measure = self._sampler.measure(), now
            except PrivilegeError:  # statistics take CAP_SYS_ADMIN: without it, the cost is not shown
                self._next_measure = math.inf

    def _look(self) -> None:
        """A full sample of everyone."""
        self._take(self._sampler.sample())
        now, own = time.monotonic(), time.process_time()
        passed = max(now - self._looked, 1e-6)
        when = time.monotonic_ns()
        self._before, self._now = self._now, {state.pid: (when, state) for state in self._sampler.tasks()}
        self._rates = {name: self._events[name] / passed for name in ("fork", "exec", "exit", "cred")}
        self._share = 100 * (own - self._own) / passed
        self._own, self._looked = own, now
        self._events.clear()

    def _lines(self, width: int, height: int) -> tuple[list[str], int]:
        from cptbpf.cli.live.screen import HELP, lines
        from cptbpf.cli.live.usage import arranged, usage

        rows = usage(self._before, self._now, self._credentials)
        letters = Counter(row.letter for row in rows)
        states = " ".join(f"{letter} {count}" for letter, count in sorted(letters.items()))
        rates = " ".join(f"{name} {rate:.1f}" for name, rate in self._rates.items())
        cost = "measuring" if math.isfinite(self._next_measure) else "cost not measured without CAP_SYS_ADMIN"
        if self._cost is not None:
            cost = f"{self._cost.ns_per_switch:.0f} ns a switch"
        head = [
            f"pid:[{self._sampler.target.inode}]: {len(rows)} tasks ({states})  a second: {rates}",
            f"sampler: {cost}, {self._share:.1f} % of a cpu, lost {self._sampler.dropped} reports",
            f"{self._choice.told()}  (h: keys, q: quit)",
        ]
        if self._help:
            head[2:] = [*HELP]
        return lines(head, arranged(rows, self._choice.order, self._choice.matches), self._choice, width, height)
