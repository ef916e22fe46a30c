"""criu dump --leave-running of the same target, and what its stats image says of the frozen time."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

from tests.harness import Target
from tools.benchmarks.measure import Row


def dump(group: str, target: Target, folder: str) -> Iterator[Row]:
    """Frozen time as criu measures it, and the same without what it spent on memory, which cptbpf does not save."""
    images = f"{folder}/criu"
    os.makedirs(images)
    tasks = len(target.tids())
    command = ["criu", "dump", "--leave-running", "--shell-job", "--tree", str(target.host_pid), "--images-dir", images]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        yield Row(group, "criu dump", tasks, 0, note=f"skipped: criu cannot dump it here: {' '.join(last)}")
        shutil.rmtree(images)
        return
    shown = subprocess.run(["crit", "show", f"{images}/stats-dump"], capture_output=True, text=True, check=True)
    stats = json.loads(shown.stdout)["entries"][0]["dump"]
    size = sum(os.path.getsize(f"{images}/{name}") for name in os.listdir(images))
    shutil.rmtree(images)
    frozen = stats["frozen_time"] / 1e6
    memory = (stats["memdump_time"] + stats["memwrite_time"]) / 1e6
    yield Row(group, "criu dump, frozen", tasks, frozen, note=f"{size:,} bytes")
    yield Row(group, "criu dump, frozen less memory", tasks, frozen - memory)
