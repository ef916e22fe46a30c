"""The manual page and the completions, made from the parser."""

import subprocess
from pathlib import Path

import pytest

from cptbpf.cli import completions, manual
from cptbpf.cli.described import options, subcommands
from cptbpf.cli.main import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_manual_has_every_command_and_option() -> None:
    page = manual.render().replace("\\-", "-")
    for command in subcommands():
        assert f'.SS "{command.name} ' in page
        for option in options(command):
            assert option.spelled in page


def test_a_synopsis_shows_what_must_be_there() -> None:
    page = manual.render().replace("\\-", "-").splitlines()
    assert "encode [OPTIONS] -o FILE JSON" in page
    assert "export [OPTIONS] --format jsonl|csv|parquet|perfetto FILE" in page
    assert "decode [OPTIONS] FILE" in page


@pytest.mark.parametrize("render", [completions.render_bash, completions.render_zsh, completions.render_fish])
def test_completions_have_every_command(render: object) -> None:
    text = render()  # type: ignore[operator]
    for name in COMMANDS:
        assert name in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sn",), {"snapshot"}),
        (("snapshot", "--reg"), {"--registers"}),
        (("snapshot", "--registers", ""), {"ptrace", "bpf"}),
        (("--debug", "show", "--format", "t"), {"tree", "table"}),
        (("snapshot", "--pid", ""), set()),
    ],
)
def test_bash_completes(words: tuple[str, ...], expected: set[str]) -> None:
    script = (
        f'. "{DOCS}/completions/cptbpf.bash"; COMP_WORDS=(cptbpf "$@"); COMP_CWORD=$#\n'
        '_cptbpf cptbpf "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_fields_page_has_every_field() -> None:
    from cptbpf.cli import fields
    from cptbpf.fields import FIELDS

    page = fields.render()
    assert all(f"| `{field.name}` |" in page for field in FIELDS)
