"""Where the values of a task are from: the texts of PROVENANCE, which are put together and taken apart here alone.

A provenance leads from the name of a group, or from ``group.field``, to a source: ``kernel:A``, ``ptrace``, ``absent: reason``.
The more specific key holds. ``docs/format.md`` lists the sources.
"""

from collections.abc import Mapping

from cptbpf.fields import FIELDS

#: Leads the source of a value that is none; the reason follows.
ABSENT = "absent: "
#: What a sampler told: the source of all that a recording has.
SAMPLED = "kernel:sample"
#: The source of utimescaled and stimescaled.
UNSCALED = "derived: x86 has no scaled time"

_NOT_STOPPED = ", not stopped: "
_EQUAL, _DIFFERS = ", equal", ", differs"
# Of a reason: that the task is dead or a kernel thread, or that this kernel, or a recording, has the value of nobody.
_BY_NATURE = ("dead", "kernel thread", "the kernel has no", "the kernel does not", "this kernel", "a sampler")


def source_of(provenance: Mapping[str, str], group: str, field: str = "") -> str:
    """Where a value came from, or ``absent: reason``, or ``""`` where nothing is said of it."""
    return provenance.get(f"{group}.{field}") or provenance.get(group, "")


def from_pass(name: str) -> str:
    """The source of what a kernel pass saw: ``kernel:A``."""
    return f"kernel:{name}"


def is_absent(source: str) -> bool:
    """Whether it says that there is no value."""
    return source.startswith(ABSENT)


def reason(source: str) -> str:
    """Why there is no value."""
    return source.removeprefix(ABSENT)


_known: dict[int, tuple[Mapping[str, str], frozenset[str]]] = {}


def absent_fields(provenance: Mapping[str, str]) -> frozenset[str]:
    """The names of the catalogue's fields that a provenance calls absent, by themselves or with their group.

    Tasks of which the same is said share the mapping, as those of a recording do: it is looked through once.
    """
    found = _known.get(id(provenance))
    if found is None:
        names = frozenset(field.name for field in FIELDS if is_absent(source_of(provenance, field.group, field.name)))
        if len(_known) > 1000:
            _known.clear()
        found = _known[id(provenance)] = provenance, names  # which keeps the mapping, and with it the id
    return found[1]


def is_by_nature(source: str) -> bool:
    """Whether a value is absent for the kind of its task, or for this kernel, and not for the way that the image was taken."""
    return is_absent(source) and any(word in source for word in _BY_NATURE)


def is_sampled(source: str) -> bool:
    """Whether a sampler told it."""
    return source == SAMPLED


def while_running(source: str, why: str) -> str:
    """The source of the registers of a task that was not stopped though the others were: ``kernel:B, not stopped: why``."""
    return f"{source}{_NOT_STOPPED}{why}"


def not_stopped(source: str) -> str:
    """Why the task was not stopped, by the source of its registers; "" where it was, or where nobody was to be."""
    return source.partition(_NOT_STOPPED)[2]


def compared(source: str, equal: bool) -> str:
    """The source of the kernel's view beside ptrace's: ``kernel:B, equal`` (there is no copy), or ``kernel:B, differs``."""
    return source + (_EQUAL if equal else _DIFFERS)
