"""How cost grows with the number of tasks."""

import resource
import tempfile
from collections.abc import Iterator

from cptbpf.conductors.snapshot import snapshot
from tools.benchmarks import crowd
from tools.benchmarks.measure import Row, exponent

_GROUP = "growth of a snapshot"


def run(quick: bool) -> Iterator[Row]:
    """Snapshots of ever more threads: as many as the machine's limits on ids allow, up to 50,000."""
    with (
        open("/proc/sys/kernel/pid_max", encoding="ascii") as one,
        open("/proc/sys/kernel/threads-max", encoding="ascii") as two,
    ):
        room = min(int(one.read()), int(two.read())) - 2000
    sizes = [10, 100, 1000] if quick else [10, 100, 1000, 10000]
    if not quick and room > 15000:
        sizes.append(min(room, 50000))
    frozen, wall = [], []
    for count in sizes:
        with crowd.threads(count) as target, tempfile.TemporaryDirectory() as folder:
            turns = [
                snapshot(pidns=target.ns_inode, output=f"{folder}/image", force=True, timeout=10)
                for _ in range(5 if count < 9999 else 3)
            ]
        best = sorted(turns, key=lambda summary: summary.wall_ms)[len(turns) // 2]
        frozen.append((best.tasks, best.frozen_ms / 1e3))
        wall.append((best.tasks, best.wall_ms / 1e3))
        goals = ("< 150 ms", "< 1500 ms") if count == 10000 else ("", "")
        yield Row(_GROUP, "frozen", best.tasks, best.frozen_ms / 1e3, goal=goals[0])
        yield Row(_GROUP, "wall", best.tasks, best.wall_ms / 1e3, goal=goals[1])
    yield Row(_GROUP, "exponent, frozen", 0, 0, exponent(frozen[1:]), goal="about 1", note="from 100 tasks on")
    yield Row(_GROUP, "exponent, wall", 0, 0, exponent(wall[1:]), goal="about 1", note="from 100 tasks on")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Row(_GROUP, "peak memory of this process", 0, 0, note=f"{peak:.0f} MB")
