"""The manual page ``docs/cptbpf.1``, made from the parser."""

import inspect

import click

from cptbpf import __version__
from cptbpf.cli.described import arguments, options, subcommands
from cptbpf.cli.main import cli

_FILES = (
    ("/sys/fs/bpf/cptbpf", "Compiled programs, pinned. Removing it costs one compilation."),
    (
        "/run/cptbpf",
        "What is made once per boot: headers of the kernel's structs, compiled programs and why others do not compile here, "
        "symbols, build ids. May be removed.",
    ),
)
_ENVIRONMENT = (("CPTBPF_DEBUG", "With 1, errors come with a traceback, as with --debug."),)
_STATUS = (
    ("0", "Fine."),
    (
        "1",
        "A finding. snapshot: the image, which has been written, is partial or not consistent. diff: something differs. "
        "crosscheck: a value disagrees, or a task is hidden from /proc or shown by it alone. sample: reports were lost.",
    ),
    ("2", "Usage, or a bad target: no such process, a file in the way, an internal error."),
    ("3", "A privilege or something in the kernel is lacking; cptbpf check tells what."),
    ("4", "An image or a recording is unreadable or damaged; what export and replay could read of it has been written."),
    ("128+N", "Ended by signal N. No task is left stopped, and no half-written image."),
)


def render() -> str:
    """The text of ``docs/cptbpf.1``."""
    lines = [
        '.\\" Made from the parser by tools/generate: edit cptbpf/cli/.',
        f'.TH CPTBPF 1 "" "cptbpf {__version__}" "User Commands"',
        ".SH NAME",
        "cptbpf \\- the exact kernel\\-level state of every task of a pid namespace, as one file",
        ".SH SYNOPSIS",
    ]
    lines += [line for command in subcommands() for line in (".B cptbpf", _roff(_synopsis(command)), ".br")][:-1]
    lines += [".SH DESCRIPTION", *_paragraphs(cli.help or ""), ".SH OPTIONS", *_options(cli), ".SH COMMANDS"]
    for command in subcommands():
        lines += [f'.SS "{_roff(_synopsis(command))}"', *_paragraphs(command.help or ""), *_options(command)]
        lines += _epilog(command.epilog or "")
    lines += [".SH EXIT STATUS", *_list(_STATUS), ".SH ENVIRONMENT", *_list(_ENVIRONMENT), ".SH FILES", *_list(_FILES)]
    lines += [".SH SEE ALSO", ".BR proc (5),", ".BR ptrace (2),", ".BR bpf (2),", ".BR pid_namespaces (7),", ".BR criu (8)"]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    """Text as it is, whatever it begins with."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _synopsis(command: click.Command) -> str:
    required = (option.short for option in options(command) if option.required)
    return " ".join((str(command.name), "[OPTIONS]", *required, *arguments(command)))


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines += [".PP", *map(_roff, paragraph.splitlines())]
    return lines


def _options(command: click.Command) -> list[str]:
    lines = []
    for option in options(command):
        default = f" [default: {option.default}]" if option.default else ""
        lines += [".TP", f".B {_roff(option.spelled)}", _roff(option.help + default)]
    return lines


def _epilog(text: str) -> list[str]:
    """Paragraphs; one that is marked by \\b stays as it is written."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b\n"):
            title, *examples = paragraph.splitlines()[1:]
            lines += [".PP", _roff(title), ".PP", ".nf", ".RS 2", *(_roff(line.strip()) for line in examples), ".RE", ".fi"]
        elif paragraph:
            lines += [".PP", *map(_roff, paragraph.splitlines())]
    return lines


def _list(rows: tuple[tuple[str, str], ...]) -> list[str]:
    return [line for term, text in rows for line in (".TP", f".B {_roff(term)}", _roff(text))]
