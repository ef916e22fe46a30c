"""A part of the tests, for continuous integration under an emulated kernel: ``CPTBPF_VM_PART=FILE``.

It is made of the tests marked ``kprobe``, which may have nowhere else to run, and of those whose ids begin with a line of FILE.
``tools/vm`` hands over the files that they are in alone: to import them all takes minutes there. What was left out of these,
and which files with tests for such a kernel were not looked into, stands at the end of the run.
"""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

_MARKED = re.compile(r"mark\.(bpf|ptrace|kprobe|needs)\b")
_left: Counter[str] = Counter()  # how many of a file
_seen: set[str] = set()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not (part := os.environ.get("CPTBPF_VM_PART")):
        return
    lines = (line.partition("#")[0].strip() for line in Path(part).read_text().splitlines())
    wanted = tuple(filter(None, lines))
    chosen = [item for item in items if item.nodeid.startswith(wanted) or item.get_closest_marker("kprobe")]
    left = [item for item in items if item not in chosen]
    _left.update(_file(item) for item in left)
    _seen.update(map(_file, items))
    items[:] = chosen
    config.hook.pytest_deselected(items=left)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not os.environ.get("CPTBPF_VM_PART"):
        return
    terminalreporter.section("left to `tools/vm all`")
    for file, count in _left.items():
        terminalreporter.write_line(f"{count:4} of {file}")
    for path in sorted(config.rootpath.glob("tests/**/test_*.py")):
        file = str(path.relative_to(config.rootpath))
        if file not in _seen and _MARKED.search(path.read_text()):
            terminalreporter.write_line(f" all of {file}")
