"""A process of its own that takes snapshots of namespaces, one after another, until it is ended: for those that end it.

``python -m tests.conductors.shooter DIRECTORY HOW INODE...`` says ``ready`` after its first round. An interrupt that arrives as
KeyboardInterrupt ends it with status 130.
"""

import sys
from typing import Any

import cptbpf

HOWS: dict[str, dict[str, Any]] = {"ptrace": {}, "bpf": {"registers": "bpf"}}


def main() -> None:
    directory, how, *inodes = sys.argv[1:]
    turn = 0
    try:
        while True:
            for inode in inodes:
                cptbpf.snapshot(pidns=f"pid:[{inode}]", output=f"{directory}/{inode}-{turn}.cpt", timeout=0.5, **HOWS[how])
            if not turn:
                print("ready", flush=True)
            turn += 1
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
