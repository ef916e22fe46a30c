"""Strings from elsewhere, made harmless."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cptbpf.cli import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"sleep", "sleep"),
        (b"kworker/0:1-ev", "kworker/0:1-ev"),
        (b"\x1b[2J\x1b[31m", r"\x1b[2J\x1b[31m"),
        (b"a\nb\tc\rd", r"a\nb\tc\rd"),
        (b"back\\slash", r"back\\slash"),
        (b"\x7f\x00\x07", r"\x7f\x00\x07"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("\u202egnp.exe".encode(), r"\u202egnp.exe"),
        ("\u2066x\u2069\u200b\ufeff".encode(), r"\u2066x\u2069\u200b\ufeff"),
        ("\x9b31m".encode(), r"\u009b31m"),
        ("größe 漢".encode(), "größe 漢"),
        ("\U000e0041".encode(), r"\U000e0041"),
        ("line\u2028end".encode(), r"line\u2028end"),
        (b"[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_escape(raw: bytes, shown: str) -> None:
    assert text.escape(raw) == shown


def unescaped(shown: str) -> bytes:
    """What :func:`text.escape` was given, if it is as unambiguous as it says."""
    found = re.compile(r"\\(\\|[ntr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})|([^\\])").findall(shown)
    plain = {"\\": b"\\", "n": b"\n", "t": b"\t", "r": b"\r"}
    return b"".join(char.encode() if char else plain[code] if code in plain else _number(code) for code, char in found)


def _number(code: str) -> bytes:
    number = int(code[1:], 16)
    return bytes([number]) if code[0] == "x" else chr(number).encode()


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
def test_what_is_escaped_prints_and_can_be_told_back(raw: bytes) -> None:
    shown = text.escape(raw)
    assert shown.isprintable()
    assert unescaped(shown) == raw


@given(st.text(st.characters(), max_size=40))
def test_any_string_at_all(raw: str) -> None:
    """Lone surrogates as well, which no terminal's encoding takes."""
    shown = text.escape(raw)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_a_name_ends_at_its_nul() -> None:
    assert text.comm(b"short\0old rest\0") == "short"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"", ""),
        (b"sleep\x00100\x00", "sleep 100"),
        (b'sh\0-c\0echo "it\'s"\0', "sh -c 'echo \"it'\\''s\"'"),
        (b"a\0\0b\0", "a '' b"),
        (b"a\x1b[0m\0", "'a\\x1b[0m'"),
    ],
)
def test_command_line(raw: bytes, shown: str) -> None:
    assert text.command_line(raw) == shown


@given(st.lists(st.tuples(*[st.text("ab漢\u0301 ", max_size=6)] * 3), min_size=1, max_size=5))
def test_columns_are_aligned(rows: list[tuple[str, ...]]) -> None:
    lines = text.columns([(*row, "|") for row in rows], right=(1,))
    assert len({text.width(line) for line in lines}) == 1


@given(st.text("ab漢", max_size=30), st.integers(1, 20))
def test_clip(line: str, limit: int) -> None:
    assert text.width(text.clip(line, limit)) <= limit
    assert text.width(line) > limit or text.clip(line, limit) == line


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0s"),
        (59 * 10**9, "59s"),
        (125 * 10**9, "2m05s"),
        (3720 * 10**9, "1h02m"),
        (100 * 3600 * 10**9, "4d04h"),
        (-5, "0s"),
    ],
)
def test_age(nanoseconds: int, shown: str) -> None:
    assert text.age(nanoseconds) == shown


def test_sizes_times_and_counts() -> None:
    assert (text.size(512), text.size(14336), text.size(3 << 20)) == ("512 bytes", "14.0 KiB", "3.0 MiB")
    assert (text.duration(12_000_000), text.duration(3_400_000_000), text.duration(125 * 10**9)) == ("0.012s", "3.4s", "2m05s")
    assert text.instant(1_700_000_000_123_000_000) == "2023-11-14 22:13:20.123 UTC"
    assert "1970" in text.instant(1 << 200)
    assert (text.plural(1, "task"), text.plural(0, "process"), text.plural(2, "task")) == ("1 task", "0 processes", "2 tasks")
