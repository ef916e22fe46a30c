"""Standard output: lines and pieces of text, JSON, bytes."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO

from cptbpf.errors import TargetError


def emit(lines: Iterable[str], cut: bool = False) -> None:
    """Writes lines to standard output; with ``cut``, and on a terminal, none is longer than that is wide."""
    from cptbpf.cli.text import clip

    limit = terminal_width() if cut else 0
    emit_text((clip(line, limit) if limit else line) + "\n" for line in lines)


def emit_text(pieces: Iterable[str]) -> None:
    """Writes pieces of text, which need not be whole lines, to standard output."""
    stream = text_stdout()
    for piece in pieces:
        with telling_where():
            stream.write(piece)


@contextmanager
def telling_where(remedy: str = "") -> Iterator[None]:
    """Has an error of standard output say of what it is one. A reader that has seen enough is none: BrokenPipeError stays."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TargetError(f"cannot write standard output: {error.strerror or error}", remedy) from error


def emit_styled(lines: Iterable[tuple[str, str]]) -> None:
    """Writes lines, each with a style of rich's that it has on a terminal, to standard output."""
    if not terminal_width():
        emit(line for line, _ in lines)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for line, style in lines:
        console.print(Text(line, style=style))


def emit_json(value: object) -> None:
    """Writes one JSON document, in ASCII, to standard output."""
    emit([dumps(value)])


def dumps(value: object) -> str:
    """JSON on one line, in ASCII that no terminal takes for anything else."""
    import json

    return json.dumps(value).replace("\x7f", "\\u007f")


def text_stdout() -> TextIO:
    """Standard output for text; its ``buffer`` takes bytes that are text. Raises TargetError where it is closed."""
    if sys.stdout is None:
        raise TargetError("standard output is closed", "redirect it to a file or a pipe, or to /dev/null")
    return sys.stdout


def binary_stdout() -> BinaryIO:
    """Standard output for an image. Raises TargetError where it is a terminal, or closed."""
    stream = text_stdout()
    if stream.isatty():
        raise TargetError("an image is not written to a terminal", "redirect standard output, or name a file with -o FILE")
    return stream.buffer


def terminal_width() -> int:
    """Columns of the terminal that standard output is, 0 where it is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return 0
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        return 0
