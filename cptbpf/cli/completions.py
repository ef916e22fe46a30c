"""Completions for bash, zsh and fish, made from the parser, so that a tab starts no python."""

import click

from cptbpf.cli.described import FILES, Option, arguments, options, subcommands
from cptbpf.cli.main import cli

_NOTE = "Made from the parser by tools/generate: edit cptbpf/cli/."


def _takes_file(command: click.Command) -> bool:
    return any(metavar in FILES for metavar in arguments(command))


def _short(option: Option) -> str:
    return option.help.partition(".")[0].partition(":")[0]


def _summary(command: click.Command) -> str:
    return (command.help or "").strip().partition("\n\n")[0].replace("\n", " ").partition(":")[0].partition(". ")[0].rstrip(".")


def render_bash() -> str:
    """The text of ``docs/completions/cptbpf.bash``."""
    names = " ".join(str(command.name) for command in subcommands())
    top = " ".join(name for option in options(cli) for name in option.names)
    lines = [f"# {_NOTE}", "_cptbpf() {", "    local word=$2 before=$3 i command="]
    lines += ["    COMPREPLY=()", "    for ((i = 1; i < COMP_CWORD; i++)); do"]
    lines += ["        case ${COMP_WORDS[i]} in -*) ;; *) command=${COMP_WORDS[i]}; break ;; esac", "    done"]
    lines += ["    case $command:$before in"]
    for command in subcommands():
        for option in options(command):
            if option.value:
                patterns = "|".join(f"{command.name}:{name}" for name in option.names)
                lines.append(f"        {patterns}) {_bash_value(option)} ;;")
    lines += ["    esac", "    case $command in"]
    lines.append(f"        '') COMPREPLY=($(compgen -W '{names} {top}' -- \"$word\")) ;;")
    for command in subcommands():
        flags = " ".join(name for option in options(command) for name in option.names)
        files = '; [[ $word == -?* ]] || COMPREPLY+=($(compgen -f -- "$word"))' if _takes_file(command) else ""
        lines.append(f"        {command.name}) COMPREPLY=($(compgen -W '{flags}' -- \"$word\")){files} ;;")
    return "\n".join([*lines, "    esac", "}", "complete -o filenames -F _cptbpf cptbpf"]) + "\n"


def _bash_value(option: Option) -> str:
    if option.choices:
        return f"COMPREPLY=($(compgen -W '{' '.join(option.choices)}' -- \"$word\")); return"
    if option.value in FILES:
        return 'COMPREPLY=($(compgen -f -- "$word")); return'
    return "return"


def render_zsh() -> str:
    """The text of ``docs/completions/_cptbpf``."""
    lines = [
        "#compdef cptbpf",
        f"# {_NOTE}",
        "_cptbpf() {",
        "    local context state state_descr line",
        "    typeset -A opt_args",
    ]
    lines += ["    _arguments -C \\", *(f"        {_zsh_option(option)} \\" for option in options(cli))]
    lines += ["        '1: :->command' '*:: :->argument'", "    case $state in", "        command)"]
    pairs = " ".join(_quoted(f"{command.name}:{_summary(command)}") for command in subcommands())
    lines += [f"            local -a commands=({pairs})", "            _describe command commands ;;", "        argument)"]
    lines += ["            case $line[1] in"]
    for command in subcommands():
        words = [_zsh_option(option) for option in options(command)] + (["'*:file:_files'"] if _takes_file(command) else [])
        lines += [f"                {command.name})", "                    _arguments \\"]
        lines += [f"                        {word} \\" for word in words[:-1]] + [f"                        {words[-1]} ;;"]
    return "\n".join([*lines, "            esac ;;", "    esac", "}", '_cptbpf "$@"']) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_option(option: Option) -> str:
    text = _short(option).replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    value = ""
    if option.choices:
        value = f":value:({' '.join(option.choices)})"
    elif option.value:
        value = f":{option.value.lower()}:" + ("_files" if option.value in FILES else "")
    if len(option.names) == 1:
        return _quoted(f"{option.names[0]}[{text}]{value}")
    names = " ".join(option.names)
    return f"'({names})'{{{','.join(option.names)}}}" + _quoted(f"[{text}]{value}")


def render_fish() -> str:
    """The text of ``docs/completions/cptbpf.fish``."""
    lines = [f"# {_NOTE}", "complete -c cptbpf -f"]
    lines += [_fish_option(option, "__fish_use_subcommand") for option in options(cli)]
    for command in subcommands():
        lines.append(f"complete -c cptbpf -n __fish_use_subcommand -a {command.name} -d {_fish_quoted(_summary(command))}")
    for command in subcommands():
        seen = f"__fish_seen_subcommand_from {command.name}"
        lines += [_fish_option(option, f'"{seen}"') for option in options(command)]
        if _takes_file(command):
            lines.append(f'complete -c cptbpf -n "{seen}" -F')
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(option: Option, condition: str) -> str:
    words = [f"complete -c cptbpf -n {condition}"]
    words += [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.choices:
        words.append(f"-x -a '{' '.join(option.choices)}'")
    elif option.value:
        words.append("-r -F" if option.value in FILES else "-x")
    return " ".join([*words, f"-d {_fish_quoted(_short(option))}"])
