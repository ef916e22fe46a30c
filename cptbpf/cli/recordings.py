"""What commands that read recordings share: how they end, and the instants that people name."""

import re
import sys
from typing import TYPE_CHECKING

from cptbpf.cli.quantities import TIME
from cptbpf.cli.quantities import duration as seconds
from cptbpf.cli.text import escape
from cptbpf.errors import ImageError, TargetError

if TYPE_CHECKING:
    from cptbpf.image.recording import Ending, Recording

_DAMAGED = 4  # as the exit status of an image that is damaged
_RELATIVE = re.compile(rf"([+-]?)({TIME})")


def ended(ending: "Ending | None", name: str) -> int:
    """Says on standard error how the recording of this name ended, unless in order. Returns the exit status: 4 for damage."""
    from cptbpf.image.recording import CLEAN, DAMAGED

    if ending is None or ending.how == CLEAN:
        return 0
    if sys.stderr is not None:
        until = "all before that has been read"
        sys.stderr.write(
            f"cptbpf: {escape(name, quote=False)}: {escape(ending.why, quote=False)} (at byte {ending.offset}); {until}\n"
        )
    return _DAMAGED if ending.how == DAMAGED else 0


def instant(recording: "Recording", text: str) -> int:
    """The CLOCK_MONOTONIC, in ns, that ``--at`` names.

    ``3s`` is from the recording's start, ``-1m`` from its end; a date and time as of ISO 8601 (local time where it names no
    zone) and seconds since 1970 are absolute. Raises TargetError for what is none of it, or outside of the recording;
    ImageError for what is behind where the recording is damaged.
    """
    from cptbpf.cli.text import duration
    from cptbpf.cli.text import instant as shown
    from cptbpf.image.recording import CLEAN, DAMAGED

    first, last = recording.span()
    time = _named(recording, text.strip(), first.time, last.until)
    if not first.time <= time <= last.until:
        start, length = first.realtime - first.until + first.time, last.until - first.time
        ending = recording.ending
        if ending is not None and ending.how == DAMAGED and time > first.time:
            raise ImageError(f"{text} cannot be read: {ending.why}", ending.offset, f"0s to {length / 1e9:.3f}s can")
        early = f"; {ending.why}" if ending is not None and ending.how != CLEAN else ""
        raise TargetError(
            f"{text} is not within the recording",
            f"it begins {shown(start)} and holds {duration(length)}: 0s to {length / 1e9:.3f}s{early}",
        )
    # the tasks that are there when it begins are seen one after another: 0s is when all of them have been
    return time if first.tasks else max(time, first.until)


def _named(recording: "Recording", text: str, start: int, end: int) -> int:
    if match := _RELATIVE.fullmatch(text):
        span = round(seconds(match[2]) * 1e9)
        return end - span if match[1] == "-" else start + span
    return recording.monotonic(_absolute(text))


def _absolute(text: str) -> int:
    """A CLOCK_REALTIME in ns."""
    from datetime import UTC, datetime

    if re.fullmatch(r"\d{1,11}(\.\d*)?", text):
        seconds, _, rest = text.partition(".")
        return int(seconds) * 1_000_000_000 + int(rest[:9].ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC") + "+00:00" if text.endswith(" UTC") else text).astimezone(UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise TargetError(
            f"{text!a} is no time", "write 3s from the start, -1m from the end, 2026-01-31T12:00:00Z, or seconds since 1970"
        ) from None
    return (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
