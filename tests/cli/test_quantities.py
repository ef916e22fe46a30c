"""Times and sizes as people write them."""

import re

import click
import pytest

from cptbpf.cli.quantities import TIME, duration, size
from cptbpf.cli.recorded import rotation
from cptbpf.errors import TargetError
from cptbpf.image.recording_writer import Rotation


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("10s", 10), ("1.5 min", 90), ("5m", 300), (".5h", 1800), ("1.d", 86400), ("3µs", 3e-6), ("3us", 3e-6)],
)
def test_a_time_with_a_unit(text: str, seconds: float) -> None:
    assert re.fullmatch(TIME, text)
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1x", "1.2.3s", "-1s", "1 s 2", "5M", "1e3s"])
def test_what_is_no_time(text: str) -> None:
    assert not re.fullmatch(TIME, text)
    with pytest.raises(click.BadParameter, match="is no time"):
        duration(text)


def test_a_bare_number_is_seconds_but_names_no_time() -> None:
    assert duration("2.5") == 2.5
    assert not re.fullmatch(TIME, "2.5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Rotation()),
        ("5m", Rotation(time=300_000_000_000)),
        (" 1h ", Rotation(time=3_600_000_000_000)),
        ("5M", Rotation(size=5 << 20)),
        ("64", Rotation(size=64)),
    ],
)
def test_a_recording_is_rotated_at_a_size_or_after_a_time(text: str | None, expected: Rotation) -> None:
    assert rotation(text) == expected


def test_a_rotation_that_is_none() -> None:
    with pytest.raises(TargetError, match="is nothing"):
        rotation("0s")
    with pytest.raises(click.BadParameter, match="is no size"):
        rotation("often")
    with pytest.raises(click.BadParameter, match="is no size"):
        size("5 minutes")
