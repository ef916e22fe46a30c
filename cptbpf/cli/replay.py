"""``cptbpf replay``: a recording, step by step."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit
from cptbpf.cli.quantities import duration as duration_type

if TYPE_CHECKING:
    from cptbpf.cli.live.terminal import Terminal
    from cptbpf.cli.live.usage import Look
    from cptbpf.image.model import RecordedEvent
    from cptbpf.image.recording import Recording

_SECOND = 1_000_000_000
_NEWS = 4  # lines for what happened in a step
_STEPS = (10_000_000, 100_000_000, 500_000_000, _SECOND, 5 * _SECOND, 30 * _SECOND, 60 * _SECOND, 600 * _SECOND, 3600 * _SECOND)

_EPILOG = """\b
Examples:
  cptbpf replay web.cpt                        step through it: space plays, arrows step, ] goes to the next event
  cptbpf replay web.cpt --start -1m            from a minute before its end
  cptbpf replay web.cpt | grep ' exit '        births, execs, ends, changes of credentials and losses as lines

A recording that was cut short is replayed as far as it goes, with a note. Exit status 4: it is damaged."""


@click.command(epilog=_EPILOG)
@options.image
@click.option("--start", metavar="TIME", help="Where to begin, as show --at takes it. Default: its start.")
@click.option("--step", metavar="TIME", type=duration_type, default="1s", show_default=True, help="From one look to the next.")
@click.option("--samples", is_flag=True, help="Without a terminal: the states of tasks as lines as well.")
def command(file: str, start: str | None, step: float, samples: bool) -> int:
    """Step through the recording FILE: who was there, what they used, and what happened to them.

    On a terminal, a table as top shows it, with keys; elsewhere a line for each event. It needs no privilege and no BPF.
    """
    from cptbpf.cli.live.terminal import Terminal, interactive
    from cptbpf.cli.recordings import ended, instant
    from cptbpf.image.recording import Recording

    with Recording(options.source(file)) as recording:
        begin = instant(recording, start or "0s")
        if file == "-" or not interactive():
            emit(_plain(recording, begin if start else 0, samples))
        else:
            with Terminal() as terminal:
                _Replay(recording, begin, max(round(step * _SECOND), 1_000_000)).show(terminal)
            for _ in recording.places():
                pass
        return ended(recording.ending, file)


def _plain(recording: "Recording", begin: int, samples: bool) -> Iterator[str]:
    first = recording.span()[0].time
    for event in recording.events():
        if event.time >= begin and (samples or event.kind):
            yield _line(event, first)


def _line(event: "RecordedEvent", first: int) -> str:
    """One event: seconds since the recording began, what, who, and what belongs to it."""
    from cptbpf.cli.text import comm
    from cptbpf.image import model
    from cptbpf.image.rows import INDEX

    when = f"{(event.time - first) / _SECOND:+12.6f}"
    if event.row is None:
        return f"{when} drop   {event.lost} reports lost ({model.drop_reason(event.flags)})"
    row = event.row
    name = model.EVENT_NAMES[event.kind]
    pid, tgid = row[INDEX["pid"]], row[INDEX["tgid"]]
    who = f"{when} {name:6} {pid}" + ("" if pid == tgid else f" of {tgid}") + f" {comm(row[INDEX['comm']])}"
    return who + _more(event, {name: row[INDEX[name]] for name in _SHOWN})


_SHOWN = ("rppid", "exit_code", "uid", "euid", "cap_effective", "utime", "stime", "nvcsw", "nivcsw")


def _more(event: "RecordedEvent", values: dict[str, int]) -> str:
    from cptbpf.cli.text import duration
    from cptbpf.cli.view.state import exit_words
    from cptbpf.image import model

    used = f"cpu {duration(values['utime'] + values['stime'])}, switches {values['nvcsw'] + values['nivcsw']}"
    if event.kind == model.EVENT_EXIT:
        return f": {exit_words(values['exit_code'])}; {used}"
    if event.kind == model.EVENT_CRED:
        return f": uid {values['uid']}, euid {values['euid']}, capabilities {values['cap_effective']:#x}"
    if event.kind == model.EVENT_FORK:
        return f": child of {values['rppid']}"
    if event.kind == model.EVENT_EXEC:
        return f": it was {event.old_pid} before" if event.old_pid else ""
    return f": {used}" if event.kind == model.EVENT_SAMPLE else ""


class _Replay:
    def __init__(self, recording: "Recording", begin: int, step: int) -> None:
        from cptbpf.cli.live.screen import Choice

        self._recording = recording
        first, last = recording.span()
        self._first, self._end, self._ahead = first.time, last.until, last.realtime - last.until
        self._time, self._step = begin, step
        self._choice, self._playing = Choice(), False
        self._lines: tuple[int, int, list[str]] = (-1, -1, [])
        self._looks: tuple[int, int, Look, Look] = (-1, -1, {}, {})

    def show(self, terminal: "Terminal") -> None:
        """Until the user has seen enough."""
        due = 0.0
        while True:
            terminal.draw(*self._screen(*terminal.size()))
            keys = terminal.keys(max(due - time.monotonic(), 0) if self._playing else 3600)
            for key in keys:
                if not self._choice.typing and key == "q":
                    return
                self._key(key)
            if self._playing and time.monotonic() >= due:
                due = time.monotonic() + min(self._step / _SECOND, 1.0)
                self._move(self._time + self._step)
                self._playing = self._time < self._end

    def _key(self, key: str) -> None:
        if self._choice.typing:
            self._choice.key(key)
        elif key == " ":
            self._playing = not self._playing
        elif key in ("right", "left"):
            self._move(self._time + (self._step if key == "right" else -self._step))
        elif key in ("home", "g", "end", "G"):
            self._move(self._first if key in ("home", "g") else self._end)
        elif key in ("]", "["):
            self._move(self._event(1 if key == "]" else -1))
        elif key in ("+", "="):
            self._step = next((step for step in _STEPS if step > self._step), self._step)
        elif key == "-":
            self._step = next((step for step in reversed(_STEPS) if step < self._step), self._step)
        else:
            self._choice.key(key)

    def _move(self, when: int) -> None:
        self._time = min(max(when, self._first), self._end)

    def _event(self, direction: int) -> int:
        """When the next, or the last, event was that is no sample."""
        if direction > 0:
            return next((event.time for event in self._recording.between(self._time, self._end) if event.kind), self._end)
        span = self._step
        while True:
            start = max(self._time - span, self._first - 1)
            times = [event.time for event in self._recording.between(start, self._time - 1) if event.kind]
            if times or start < self._first:
                return times[-1] if times else self._first
            span *= 4

    def _look(self, when: int) -> "Look":
        from cptbpf.conductors.record import state_of
        from cptbpf.image.rows import from_image

        image = self._recording.at(when)
        return {task.task.pid: (when, state_of(from_image(task), task.provenance)) for task in image.tasks}

    def _news(self) -> list[str]:
        """What happened in the step that ends now."""
        if self._lines[:2] != (self._time, self._step):
            happened = [event for event in self._recording.between(self._time - self._step, self._time) if event.kind]
            told = [_line(event, self._first) for event in happened[-_NEWS:]]
            if len(happened) > _NEWS:
                told[0] = f"  and {len(happened) - _NEWS + 1} events before"
            self._lines = (self._time, self._step, told)
        return self._lines[2]

    def _screen(self, width: int, height: int) -> tuple[list[str], int]:
        from cptbpf.cli.live.screen import lines
        from cptbpf.cli.live.usage import arranged, usage
        from cptbpf.cli.text import clip, duration, instant

        if self._looks[:2] != (self._time, self._step):
            before = self._look(max(self._time - self._step, self._first))
            self._looks = (self._time, self._step, before, self._look(self._time))
        rows = usage(self._looks[2], self._looks[3], {})
        at, whole = (self._time - self._first) / _SECOND, (self._end - self._first) / _SECOND
        playing = "playing" if self._playing else "paused"
        when = f"{instant(self._time + self._ahead)}  {at:.3f} of {whole:.3f} s"
        head = [
            f"{when}  step {duration(self._step)}  {playing}  {len(rows)} tasks",
            "space play  arrows step  [ ] events  home end  + - step  / filter  q quit",
            self._choice.told(),
        ]
        news = [clip(line, width) for line in self._news()][: max(height - 8, 0)]
        made, title = lines(
            head, arranged(rows, self._choice.order, self._choice.matches), self._choice, width, height - len(news)
        )
        made += [""] * (height - len(news) - len(made))
        return made + news, title
