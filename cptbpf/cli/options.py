"""Arguments and options that several subcommands share, each written once."""

import sys
from typing import BinaryIO

import click

from cptbpf.errors import TargetError

image = click.argument("file", metavar="FILE")
force = click.option("-f", "--force", is_flag=True, help="Replace a file that exists.")
json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def source(file: str) -> str | BinaryIO:
    """What an image is read from: a path, or standard input for ``-``."""
    if file != "-":
        return file
    if sys.stdin is None:
        raise TargetError("standard input is closed")
    if sys.stdin.isatty():
        raise TargetError("standard input is a terminal, not an image", "redirect it, or name a file")
    return sys.stdin.buffer
