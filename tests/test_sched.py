"""The kernel's states as letters and words: the same wherever they are shown."""

import pytest

from cptbpf.cli.view.state import WORDS
from cptbpf.export import perfetto
from cptbpf.metrics import _STATES
from cptbpf.sched import state_letter

LETTERS = [
    (0, "R"),
    (0x800, "R"),  # TASK_NEW
    (0x1, "S"),
    (0x2001, "S"),  # TASK_FREEZABLE
    (0x2, "D"),
    (0x102, "D"),  # TASK_KILLABLE
    (0x402, "I"),
    (0x1000, "D"),
    (0x8000, "D"),
    (0x104, "T"),
    (0x8, "t"),
    (0x108, "t"),
    (0x10 | 0x80, "X"),
    (0x20 | 0x80, "Z"),
    (0x40, "P"),
]


@pytest.mark.parametrize(("bits", "letter"), LETTERS)
def test_letters_are_those_of_proc(bits: int, letter: str) -> None:
    assert state_letter(bits) == letter


def test_every_letter_has_a_word_everywhere() -> None:
    letters = {letter for _, letter in LETTERS}
    assert letters == set(WORDS) == set(_STATES) == set(perfetto._STATES) | {"R"}
    assert _STATES[state_letter(0x8000)] == "uninterruptible"
