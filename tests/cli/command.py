"""Running the command line as a user does: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness import SLOWNESS

PROGRAM = str(Path(sys.executable).parent / "cptbpf")
# A user who is nobody: no capability, none to be had.
NOBODY = (
    "setpriv",
    "--reuid",
    "65534",
    "--regid",
    "65534",
    "--clear-groups",
    "--inh-caps",
    "-all",
    "--bounding-set",
    "-all",
    "--",
)


def command(*arguments: object, before: Sequence[str] = (), **how: Any) -> subprocess.CompletedProcess[bytes]:
    """Run cptbpf and return what came of it; ``before`` is a command that starts it. Output stays bytes."""
    environment = {**os.environ, "CPTBPF_DEBUG": "0", **how.pop("env", {})}
    how.setdefault("stdin", subprocess.DEVNULL)
    if "stdout" not in how:
        how["stdout"] = subprocess.PIPE
    return subprocess.run(
        [*before, PROGRAM, *map(str, arguments)],
        stderr=subprocess.PIPE,
        env=environment,
        timeout=300 * SLOWNESS,
        check=False,
        **how,
    )


def assert_failed(done: subprocess.CompletedProcess[bytes], status: int, *words: str) -> None:
    """It ended with this status and said why, with these words, in one or two lines."""
    said = done.stderr.decode()
    assert done.returncode == status, said
    assert said.startswith("cptbpf: ")
    assert 1 <= len(said.splitlines()) <= 2, said
    assert "Traceback" not in said and "internal error" not in said
    for word in words:
        assert word in said
