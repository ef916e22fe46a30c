"""Values of the catalogue, looked up in a task of an image; None for what the image has not."""

from typing import Any

from cptbpf.fields import BY_NAME, GROUPS, Field, group
from cptbpf.image.model import TaskImage
from cptbpf.image.provenance import is_absent

_INDEX = {field.name: index for name in GROUPS for index, field in enumerate(group(name))}


def value(task: TaskImage, name: str) -> Any:
    """A field by its name: an int, bytes for ``comm``, a tuple for ``tls``."""
    found = _raw(task, name)
    if not found or found == (0, 0, 0):
        return None if is_absent(task.source(BY_NAME[name].group, name)) else found
    return found


def number(task: TaskImage, name: str) -> int:
    """A field as a number, 0 where the image has none: for what is unusual only where it is not 0."""
    return int(_raw(task, name) or 0)


def _raw(task: TaskImage, name: str) -> Any:
    field = BY_NAME[name]
    if field.group == "task":
        return getattr(task.task, name)
    values = task.ext.get(field.group, ())
    return values[_INDEX[name]] if len(values) > _INDEX[name] else None  # fewer where an older version wrote them


def shown(field: Field, found: Any) -> str:
    """A value as JSON shows it, as plain text; "-" where there is none."""
    from cptbpf.cli.text import comm

    if found is None:
        return "-"
    if isinstance(found, bytes):
        return comm(found)
    if isinstance(found, tuple):
        return " ".join(map(hex, found))
    return hex(found) if field.hex else str(found)
