"""Where a sampler's events go beside lines: a recording, which SIGUSR1 brings to the disk."""

import signal
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, BinaryIO

from cptbpf.errors import TargetError

if TYPE_CHECKING:
    from cptbpf.conductors.events import Event
    from cptbpf.conductors.sample import Sampler
    from cptbpf.image.recording_writer import Rotation


class Recorded:
    """A recording of a sampler's events. Left without an error it ends in order; else it stays as far as it was written."""

    def __init__(self, sampler: "Sampler", output: str | BinaryIO, force: bool, rotation: "Rotation") -> None:
        from cptbpf.conductors.record import Recorder

        self._recorder = Recorder(sampler, output, force, rotation)
        self._asked = False
        self._before = signal.signal(signal.SIGUSR1, self._ask)

    def __enter__(self) -> "Recorded":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGUSR1, self._before)
        try:
            if kind is None:
                self._recorder.finish()
        finally:
            self._recorder.close()

    def take(self, events: "Iterable[Event]") -> None:
        """Write a batch."""
        self._recorder.take(events)
        if self._asked:
            self._asked = False
            self._recorder.sync()

    @property
    def files(self) -> list[str]:
        """The names of what was written."""
        return self._recorder.files

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def rotation(text: str | None) -> "Rotation":
    """What ``--rotate`` says: a size (``64M``) or a time (``1h``); ``5m`` is minutes, ``5M`` mebibytes. Raises BadParameter."""
    import re

    from cptbpf.cli.quantities import TIME, duration, size
    from cptbpf.image.recording_writer import Rotation

    if text is None:
        return Rotation()
    if re.fullmatch(TIME, text.strip()):
        made = Rotation(time=round(duration(text) * 1e9))
    else:
        made = Rotation(size=size(text))
    if made == Rotation():
        raise TargetError(f"--rotate {text} is nothing", "write a size such as 64M, or a time such as 1h")
    return made
