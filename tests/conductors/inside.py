"""cptbpf inside a namespace: ``python -m tests.conductors.inside FILE WHAT FREEZE`` takes a snapshot of WHAT as it is seen
there (``self``: its own namespace; else an inode number) into FILE, says the summary as JSON, and waits to be ended.
"""

import json
import os
import signal
import sys
from typing import Any

import cptbpf
from tests.harness import SLOWNESS


def main() -> None:
    path, what, freeze = sys.argv[1:]
    target = "/proc/self/ns/pid" if what == "self" else f"pid:[{what}]"
    summary = cptbpf.snapshot(pidns=target, output=path, freeze=freeze == "freeze", timeout=10 * SLOWNESS)
    answer: dict[str, Any] = {"own": os.getpid(), "tasks": [task.pid for task in cptbpf.tasks(pidns=target)]}
    answer["partial"] = [tuple(one) for one in summary.partial]
    answer["no_registers"] = [tuple(one) for one in summary.no_registers]
    answer["consistent"] = summary.consistent
    print(json.dumps(answer))
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
