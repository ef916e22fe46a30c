"""An image as JSON text, task by task: the whole text of a large one is never in memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cptbpf.cli.output import dumps
from cptbpf.image.jsonio import task_to_json, to_json
from cptbpf.image.model import Image, TaskImage

#: Makes of a task's JSON the part of it that is wanted.
Pick = Callable[[dict[str, Any]], dict[str, Any]]


def document(image: Image, tasks: Iterable[TaskImage], pick: Pick | None = None) -> Iterator[str]:
    """Pieces of one JSON document, with a line for each of ``tasks``."""
    rest = to_json(image._replace(tasks=()))
    del rest["tasks"]
    start = {name: rest.pop(name) for name in ("head", "meta")}
    yield "{" + ",\n".join(f'"{name}": {dumps(value)}' for name, value in start.items()) + ',\n"tasks": ['
    separator = "\n"
    for task in tasks:
        shown = task_to_json(task)
        yield separator + dumps(pick(shown) if pick else shown)
        separator = ",\n"
    yield "],\n" + ",\n".join(f'"{name}": {dumps(value)}' for name, value in rest.items()) + "}\n"
