"""The worker process: ``python -m cptbpf.kernel.worker SET VARIANT`` compiles and writes the objects to standard output.

On a failure it writes ``{"error": class name, "message": ..., "remedy": ...}`` instead.
"""

import json
import os
import sys

from cptbpf.errors import CptbpfError
from cptbpf.kernel import sources
from cptbpf.kernel.compiler import build
from cptbpf.kernel.objects import dump


def main() -> None:
    """Compiles the set that the command line names."""
    name, wanted = sys.argv[1:3]
    variant = next(variant for variant in sources.SETS[name].variants if variant.name == wanted)
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # clang and BCC print where they like
    with answer:
        try:
            answer.write(dump(build(name, variant)))
        except CptbpfError as error:
            failure = {"error": type(error).__name__, "message": str(error), "remedy": error.remedy}
            answer.write(json.dumps(failure).encode())


if __name__ == "__main__":
    main()
