"""Values of the catalogue, as one wants to look at them."""

from typing import Any

from cptbpf.fields import Field
from cptbpf.image.model import TaskImage


def number(task: TaskImage, name: str) -> int:
    """A field as a number, 0 where the image has none: for what is unusual only where it is not 0."""
    return int(task.value(name) or 0)


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
