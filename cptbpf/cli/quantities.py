"""Times and sizes as people write them on a command line: types for click."""

import re

import click

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_QUANTITY = re.compile(rf"({_NUMBER})\s*([a-zA-Zµ]*)")
_SECONDS = {
    "": 1.0,
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}

#: What :func:`duration` takes, with a unit: a regular expression without groups.
TIME = rf"{_NUMBER}\s*(?:{'|'.join(filter(None, _SECONDS))})"


def duration(text: str | float) -> float:
    """``100ms``, ``10s``, ``5m``, ``1h`` in seconds; a bare number is seconds. Raises BadParameter."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None or match[2] not in _SECONDS:
        raise click.BadParameter(f"{str(text)!r} is no time: write 100ms, 10s, 5m or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def size(text: str | int) -> int:
    """``64K``, ``4M``, ``1G`` in bytes, with powers of 1024; a bare number is bytes. Raises BadParameter."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None or match[2].lower() not in _BYTES:
        raise click.BadParameter(f"{str(text)!r} is no size: write 64K, 4M or 1G")
    return int(float(match[1]) * _BYTES[match[2].lower()])
