"""The parser as plain data, for what is made from it: the manual page and the completions.

Only what every version of click has alike is read, so that the same files come out everywhere.
"""

from typing import NamedTuple

import click

from cptbpf.cli.main import COMMANDS, cli

FILES = ("FILE", "JSON")  # metavars of what is a path


class Option(NamedTuple):
    """An option: its spellings, its help, what its value may be, and whether it must be there.

    ``value`` is "" for a flag, ``default`` for none.
    """

    names: tuple[str, ...]
    help: str
    value: str
    choices: tuple[str, ...]
    default: str
    required: bool

    @property
    def spelled(self) -> str:
        """``-o, --output FILE``."""
        return ", ".join(self.names) + self._shown

    @property
    def short(self) -> str:
        """``-o FILE``."""
        return self.names[0] + self._shown

    @property
    def _shown(self) -> str:
        value = "|".join(self.choices) or self.value
        return f" {value}" if value else ""


def subcommands() -> list[click.Command]:
    """Every subcommand, in the order of the help."""
    ctx = click.Context(cli)
    return [command for name in COMMANDS if (command := cli.get_command(ctx, name)) is not None]


def arguments(command: click.Command) -> list[str]:
    """The metavars of its arguments."""
    return [str(parameter.metavar) for parameter in command.params if isinstance(parameter, click.Argument)]


def options(command: click.Command) -> list[Option]:
    """Its options, ``--help`` last."""
    found = [_option(parameter) for parameter in command.params if isinstance(parameter, click.Option)]
    return [*found, Option(("-h", "--help"), "Show this message and exit.", "", (), "", False)]


def _option(option: click.Option) -> Option:
    choices = tuple(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else ()
    value = "" if option.is_flag else option.metavar or str(option.name).upper()
    default = str(option.default) if option.show_default else ""
    return Option(tuple(option.opts), option.help or "", value, choices, default, option.required)
