"""The entry point of ``cptbpf`` and ``python -m cptbpf``."""

import gc
import os
import sys

_COLLECT_AFTER = 50_000  # allocations: a command that lives for 50 ms has better things to do


def main() -> None:
    """Runs the command line and exits with its status."""
    gc.set_threshold(_COLLECT_AFTER)
    try:
        from cptbpf.cli.main import run
    except KeyboardInterrupt:  # before there is anything to clean up
        sys.exit(130)
    status = run(sys.argv[1:])
    # All is written and no thread is left: taking the interpreter apart would cost a warm snapshot a tenth of its time.
    os._exit(status)


if __name__ == "__main__":
    main()
