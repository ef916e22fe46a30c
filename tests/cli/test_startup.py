"""What a command imports: where milliseconds count, nothing that it does not use."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.images import registers, saved, task
from tests.harness import Target
from tests.test_layers import loaded

# Each takes 5 to 200 ms.
HEAVY = {
    *("asyncio", "bcc", "construct", "elftools", "hypothesis", "numpy", "prometheus_client", "psutil", "ptrace", "pyarrow"),
    *("dataclasses", "http", "json", "logging", "multiprocessing", "pathlib", "rich", "socket", "subprocess", "tempfile"),
    *("importlib.metadata", "unittest"),
}


def imported(*arguments: object) -> set[str]:
    """The modules that a command imports."""
    words = list(map(str, arguments))
    return loaded(f"from cptbpf.cli.main import run; assert run({words!r}) in (0, 1)")  # not main(), which ends the process


def test_heavy_modules_are_seen() -> None:
    """Else the tests below could not fail."""
    assert {"json", "cptbpf.cli.fields"} <= imported("fields", "--json")


@pytest.mark.parametrize(
    "words", [("show",), ("show", "--task", "1"), ("show", "--format", "table"), ("show", "--fields", "pid,comm")]
)
def test_show(tmp_path: Path, words: tuple[str, ...]) -> None:
    modules = imported(*words, saved(tmp_path / "file", task(1, regs=registers(232)), task(2, parent=1)))
    assert "cptbpf.image.reader" in modules
    assert not modules & {*HEAVY, "ctypes", "cptbpf.kernel", "cptbpf.conductors"}


def test_diff_of_files(tmp_path: Path) -> None:
    file = saved(tmp_path / "file", task(1))
    modules = imported("diff", file, file)
    assert "cptbpf.image.reader" in modules
    assert not modules & {*HEAVY, "ctypes", "cptbpf.kernel", "cptbpf.trace"}


@pytest.mark.bpf
@pytest.mark.ptrace
@pytest.mark.parametrize("words", [(), ("--registers", "bpf"), ("--no-freeze",)])
def test_a_warm_snapshot(tmp_path: Path, target: Callable[..., Target], words: tuple[str, ...]) -> None:
    inode = target("threads", 3).ns_inode
    arguments = ("snapshot", "--pidns", inode, "-o", tmp_path / "image", "--force", *words)
    imported(*arguments)  # the first run on a machine compiles
    modules = imported(*arguments)
    assert "cptbpf.kernel.tasks" in modules
    assert not modules & HEAVY
