"""Names of what a task is stuck in, as /proc/PID/stack has them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf import rundir
from cptbpf.kernel.symbols import Symbols
from tests.conductors import witness
from tests.conductors.shots import shoot
from tests.harness import Target, until

pytestmark = pytest.mark.bpf


def proc_stack(tid: int) -> list[str]:
    """``symbol+0xoffset`` of each frame, innermost first."""
    try:
        lines = Path(f"/proc/{tid}/stack").read_text().splitlines()
    except FileNotFoundError:
        pytest.skip("this kernel shows no stacks in /proc")
    return [line.split()[1].partition("/")[0] for line in lines]


@pytest.mark.parametrize("name", ["threads", "sleeper", "vforkparent", "ringworker"])
def test_the_stack_of_a_task_that_sleeps(target: Callable[..., Target], name: str) -> None:
    program = target(name)
    until(lambda: all(witness.state(tid) in "SD" for tid in program.tids()), "it to sleep")
    expected = {tid: proc_stack(tid) for tid in program.tids()}
    shot = shoot(program, freeze=False)
    assert any(expected.values())
    for tid, stack in expected.items():
        assert list(shot.tasks[tid].ext["kstack"]) == stack


def test_names_are_those_of_kallsyms_from_the_cache_and_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known: dict[int, set[str]] = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, kind, name, *module = line.split()
        if kind in "tT" and not module:
            known.setdefault(int(address, 16), set()).add(name)
    if set(known) == {0}:
        pytest.skip("the kernel hides its addresses")
    start = next(address for address, names in known.items() if "schedule" in names)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(rundir, "PATH", str(tmp_path))
    for turn in range(2):  # made, then from the cache
        symbols = Symbols()
        assert symbols.name(start) == "schedule+0x0"
        assert symbols.name(start + 0x11) == "schedule+0x11"
        for place in sorted(known)[100:20000:997]:
            name, _, offset = symbols.name(place).partition("+")
            assert offset == "0x0"
            assert name in known[place], turn
        assert symbols.name(0x1234) == "0x1234"
        assert symbols.name(2**64 - 1) == "0xffffffffffffffff"
        assert len(list(tmp_path.glob("symbols-*"))) == 1


def test_a_run_directory_that_others_may_write_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setattr(rundir, "PATH", str(tmp_path))
    assert Symbols().name(0x1234) == "0x1234"
    assert list(tmp_path.iterdir()) == []
