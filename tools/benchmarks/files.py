"""Writing and reading images."""

import os
import tempfile
from collections.abc import Iterator

from cptbpf.conductors.snapshot import snapshot
from cptbpf.image.reader import load
from cptbpf.image.writer import encode_image
from tools.benchmarks import crowd
from tools.benchmarks.measure import Row, rounds, timed

_GROUP = "image files"


def run(quick: bool) -> Iterator[Row]:
    """An image of a thousand threads, read back and packed again."""
    with crowd.threads(100 if quick else 1000) as target, tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/image"
        count = snapshot(pidns=target.ns_inode, output=file, force=True).tasks
        size = os.path.getsize(file)
        image = load(file)
        taken = rounds({"read": timed(lambda: load(file)), "pack": timed(lambda: encode_image(image))}, 7)
        for name, seconds in taken.items():
            best = min(seconds)
            yield Row(_GROUP, name, count, best, note=f"{count / best:,.0f} tasks/s, {size / best / 1e6:,.0f} MB/s", size=size)
        yield Row(_GROUP, "size", count, 0, note=f"{size / count:,.0f} bytes a task")
