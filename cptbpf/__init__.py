"""cptbpf: the exact kernel-level state of every task of a pid namespace, read through BPF, as an image that can be trusted.

``tasks``, ``snapshot``, ``crosscheck`` and ``load`` are the library, imported when first used. Errors are those of
:mod:`cptbpf.errors`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["crosscheck", "load", "snapshot", "tasks"]

if TYPE_CHECKING:
    from cptbpf.conductors.crosscheck import crosscheck
    from cptbpf.conductors.snapshot import snapshot
    from cptbpf.conductors.tasks import tasks
    from cptbpf.image.reader import load

_HOMES = {
    "crosscheck": "cptbpf.conductors.crosscheck",
    "tasks": "cptbpf.conductors.tasks",
    "snapshot": "cptbpf.conductors.snapshot",
    "load": "cptbpf.image.reader",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
