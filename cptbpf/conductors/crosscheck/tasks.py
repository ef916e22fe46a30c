"""Hidden and phantom tasks: those that the kernel's list has and /proc has not, or the other way."""

import time
from collections.abc import Mapping

from cptbpf.conductors.crosscheck import Stray
from cptbpf.conductors.crosscheck.values import Identity, decode
from cptbpf.conductors.target import Target, below
from cptbpf.kernel.tasks import FullTask, TaskReader
from cptbpf.proc import listed, namespaces
from cptbpf.proc.listed import Listed

_LOOKS = 3  # that all have to show it
_PAUSE = 0.01  # seconds: time enough for who ends, or is being born, to have done so


def strays(reader: TaskReader, target: Target) -> tuple[tuple[Stray, ...], tuple[Stray, ...]]:
    """Hidden and phantom tasks of a target. Each was so, with the same identity, in several looks one after another.

    A task is hidden where a kernel pass before and one after have it, and /proc in between did not list it or did not show its
    stat; a phantom where neither pass has it and /proc shows it both times.
    """
    hidden, phantom = _look(reader, target)
    for _ in range(_LOOKS - 1):
        if not hidden and not phantom:
            break
        time.sleep(_PAUSE)
        again_hidden, again_phantom = _look(reader, target)
        hidden = {identity: task for identity, task in hidden.items() if identity in again_hidden}
        phantom = {identity: one for identity, one in phantom.items() if identity in again_phantom}
    return tuple(map(_hidden, hidden.values())), tuple(map(_phantom, phantom.values()))


def _hidden(task: FullTask) -> Stray:
    state = task.state
    return Stray(
        state.pid, state.host_pid, state.comm.partition(b"\0")[0], state.start_boottime, namespaces.veil(state.host_tgid)
    )


def _phantom(one: Listed) -> Stray:
    return Stray(0, one.tid, one.comm, one.start_ticks * listed.TICK_NS, "")


def _look(reader: TaskReader, target: Target) -> tuple[Mapping[Identity, FullTask], Mapping[Identity, Listed]]:
    before = decode(reader.full(), target)
    shown = listed.tasks()
    after = decode(reader.full(), target)
    hidden = {identity: task for identity, task in before.tasks.items() if identity in after.tasks and identity[0] not in shown}
    known = before.groups.keys() | after.groups.keys()
    strangers = {tid: one for tid, one in shown.items() if tid not in known}
    if strangers:
        strangers = {tid: one for tid, one in strangers.items() if _belongs(one, shown, target)}
    return hidden, {(tid, one.start_ticks): one for tid, one in strangers.items()}


def _belongs(one: Listed, shown: Mapping[int, Listed], target: Target) -> bool:
    """Is a task that only /proc shows one of the target's? By its namespaces, and by its parents where a tree is meant."""
    if target.inode not in listed.namespaces_of(one.tgid):
        return False
    if not target.root:
        return True
    return one.tid in below(target.root, ((other.tid, other.tgid, other.ppid) for other in shown.values()))
