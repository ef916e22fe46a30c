"""Damaged recordings at the command line: read up to the damage and never further, and told of in a line."""

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cptbpf.cli.main import run
from tests.image.recordings import groups_of, resealed, small

WHOLE = small(4)
START, GROUPS, TRAILER = groups_of(WHOLE)
READERS = (
    ("export", "--format", "jsonl", "--fields", "utime"),
    ("export", "--format", "csv"),
    ("export", "--format", "perfetto"),
    ("replay", "--samples"),
    ("show", "--at", "-0s", "--format", "json"),
    ("show", "--at", "0.2s"),
    ("show", "--at", "2023-11-14T22:13:20.1Z", "--format", "table"),
)


@pytest.fixture(scope="module", autouse=True)
def handlers() -> Iterator[None]:
    """A command that ends leaves signals to the kernel's default, which would end the tests at their next SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Said(NamedTuple):
    """What came of a command line."""

    status: int
    out: bytes
    error: str


def said(path: Path, arguments: tuple[str, ...]) -> Said:
    """Run a command on a file, in this process."""
    out, error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        status = run([arguments[0], str(path), *arguments[1:]])
        out.flush()
        written: bytes = out.buffer.getvalue()  # type: ignore[attr-defined]
    return Said(status, written, error.getvalue())


_part = st.binary(min_size=1, max_size=12)
_changes: st.SearchStrategy[Callable[[bytes, int], bytes]] = st.one_of(
    _part.map(lambda new: lambda data, at: data[:at] + new + data[at + len(new) :]),
    _part.map(lambda new: lambda data, at: data[:at] + new + data[at:]),
    st.integers(1, 600).map(lambda length: lambda data, at: data[:at] + data[at + length :]),
    st.integers(1, 600).map(lambda length: lambda data, at: data[: at + length] + data[at:]),
    st.integers(1, 600).map(lambda length: lambda data, at: data[:at] + bytes(length) + data[at + length :]),
    st.just(lambda data, at: data[:at]),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "a.cpt"


@cache
def told(path: Path, count: int) -> bytes:
    """What the recording's first none, one, two … groups say."""
    path.write_bytes(START + b"".join(GROUPS[:count]))
    return said(path, READERS[0]).out


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, len(WHOLE) - 1), change=_changes)
def test_it_is_read_up_to_the_last_whole_group(path: Path, at: int, change: Callable[[bytes, int], bytes]) -> None:
    damaged = change(WHOLE, at)
    same = next((n for n, (a, b) in enumerate(zip(WHOLE, damaged, strict=False)) if a != b), min(len(WHOLE), len(damaged)))
    whole = sum(same >= len(START) + sum(map(len, GROUPS[: count + 1])) for count in range(len(GROUPS)))
    expected = told(path, whole)
    path.write_bytes(damaged)
    found = said(path, READERS[0])
    if damaged == WHOLE:
        assert found == (0, expected, "")
    elif same >= len(START):
        assert found.out == expected
        assert found.error.startswith("cptbpf: ") and "(at byte " in found.error
        assert found.status == 0 or not WHOLE.startswith(damaged)
    else:  # META's own checksum, or the digest at the end, tells
        assert found.status == 4 and found.error.startswith("cptbpf: ")


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_command_fails_on_what_is_damaged_or_forged(path: Path, draw: st.DataObject) -> None:
    data = WHOLE
    if draw.draw(st.booleans()):
        groups = list(GROUPS)
        for _ in range(draw.draw(st.integers(1, 4))):
            which = draw.draw(st.integers(0, len(groups) - 1))
            at = draw.draw(st.integers(16, len(groups[which]) - 25))
            new = draw.draw(_part)[: len(groups[which]) - 24 - at]
            groups[which] = groups[which][:at] + new + groups[which][at + len(new) :]
        data = resealed(START, groups)
    else:
        data = draw.draw(_changes)(data, draw.draw(st.integers(0, len(data) - 1)))
    path.write_bytes(data)
    for arguments in READERS:
        found = said(path, arguments)
        assert found.status in (0, 2, 4), found
        assert "internal error" not in found.error and "Traceback" not in found.error, (arguments, found.error)
        assert len(found.error.splitlines()) <= 2
        assert bool(found.error) or found.status == 0
        assert b"\x1b" not in found.out
