"""What the benchmarks make of figures: goals, fits, criu's own statistics."""

import struct

import pytest

from tools.benchmarks import show
from tools.benchmarks.criu import stats_of
from tools.benchmarks.measure import Row, exponent, line, met, rounds, rows


@pytest.mark.parametrize(
    ("goal", "seconds", "ratio", "said"),
    [
        (">= 60", 1, 60.0, True),
        (">= 60", 1, 59.9, False),
        ("<= 1.2", 1, 1.2, True),
        ("<= 1.2", 1, 1.21, False),
        ("< 100 ms", 0.0999, None, True),
        ("< 100 ms", 0.1, None, False),
        ("< 2 s", 1.5, 7.0, True),
        (">= 60", 1, None, None),
        ("<= 40 bytes", 1, 1.0, None),
        ("", 1, 1.0, None),
    ],
)
def test_goals(goal: str, seconds: float, ratio: float | None, said: bool | None) -> None:
    assert met(Row("group", "way", 1, seconds, ratio, goal=goal)) is said


def test_the_best_rounds_are_compared() -> None:
    base, ours = iter([9.0, 4.0, 2.0, 8.0]), iter([9.0, 1.0, 5.0, 3.0])
    taken = rounds({"base": lambda: next(base), "ours": lambda: next(ours)}, 3)
    assert taken == {"base": [4.0, 2.0, 8.0], "ours": [1.0, 5.0, 3.0]}
    longer, faster = (rows("group", 10, taken, "base", {"ours": "<= 1"}, upward)[1] for upward in (False, True))
    assert (longer.seconds, longer.ratio, longer.goal) == (1.0, 0.5, "<= 1")
    assert faster.ratio == 2.0


def test_fits() -> None:
    points = [(count, 0.05 + 3e-6 * count) for count in (10, 100, 1000, 10000)]
    assert line(points) == pytest.approx((0.05, 3e-6))
    assert exponent([(count, 7 * count**1.5) for count in (10, 100, 1000)]) == pytest.approx(1.5)


def test_statistics_of_criu() -> None:
    """A file as criu 4.2 wrote it, with the times that crit shows of it."""
    image = bytes.fromhex(
        "4059105506330957280000000a2608acf80810e99e2318e3d6012082c201289020300038b2104000480050085808600068007000"
    )
    assert stats_of(image) == {"freezing": 146476, "frozen": 577385, "memdump": 27491, "memwrite": 24834}
    with pytest.raises(RuntimeError, match="stats-dump"):
        stats_of(struct.pack("<I", 1) + image[4:])


def test_tables_leave_out_what_nobody_fills() -> None:
    text = show.markdown([Row("some group", "a way", 10, 0.5, 2.0, goal=">= 3"), Row("some group", "another", 1000, 2e-5)])
    assert text.splitlines() == [
        "### Some group",
        "",
        "| way | tasks | time | a task | ratio | goal |  |",
        "| --- | --: | --: | --: | --: | --- | --- |",
        "| a way | 10 | 500 ms | 50.0 ms | 2.00 | >= 3 | missed |",
        "| another | 1,000 | 20.0 µs | 0.020 µs |  |  |  |",
    ]
