"""What stands out of a task: credentials above all, and whatever else one would want to be told unasked."""

from cptbpf.cli.text import escape
from cptbpf.cli.view.state import dead, kernel_thread, recorded, signals
from cptbpf.cli.view.values import number
from cptbpf.image.model import Meta, TaskImage
from cptbpf.image.provenance import is_absent, not_stopped, reason

_POLICIES = {1: "SCHED_FIFO", 2: "SCHED_RR", 3: "SCHED_BATCH", 5: "SCHED_IDLE", 6: "SCHED_DEADLINE", 7: "SCHED_EXT"}
_REAL_TIME = (1, 2)
_NICE_0 = 120
_SECCOMP = {1: "seccomp strict", 2: "seccomp filter"}


def notes(task: TaskImage, meta: Meta) -> list[str]:
    """Short remarks, most telling first."""
    found = _registers(task)
    if not kernel_thread(task):
        found += _ids(task) + _capabilities(task) + _confinement(task, meta)
    if not dead(task):
        found += _signals(task) + _scheduling(task)
    return found


def _registers(task: TaskImage) -> list[str]:
    """What is not as good as asked for."""
    if dead(task) or kernel_thread(task) or recorded(task):
        return []
    source = task.source("regs")
    if task.regs is None:
        return [f"no registers: {escape(reason(source))}"] if is_absent(source) else []
    if why := not_stopped(source):
        return [f"was not stopped: {escape(why)}; registers from kernel memory, off-cpu"]
    return []


def _ids(task: TaskImage) -> list[str]:
    record = task.task
    found = []
    for kind in ("uid", "gid"):
        ids = {name: getattr(record, name) for name in (kind, f"e{kind}", f"s{kind}", f"fs{kind}")}
        if len(set(ids.values())) > 1:
            found.append(" ".join(f"{name} {number}" for name, number in ids.items()))
    if number(task, "cred_override"):
        found.append("acts under other credentials than its own")
    return found


def _capabilities(task: TaskImage) -> list[str]:
    """Those of a task that is not root; root's own are in the page of one task."""
    mask = number(task, "cap_effective") | number(task, "cap_permitted") | number(task, "cap_ambient")
    if not mask or task.task.euid == 0:
        return []
    return [f"not root, yet has {capability_names(mask)}"]


def capability_names(mask: int) -> str:
    """The capabilities of a set: their names, or how many where they are many."""
    from cptbpf.capabilities import NAMES, names

    if not mask:
        return "none"
    whole = (1 << len(NAMES)) - 1
    if mask & whole == whole:
        return "all"
    missing = whole & ~mask
    if missing.bit_count() <= 3:
        return f"all but {' '.join(names(missing))}"
    return " ".join(names(mask)[:16]) + (" …" if mask.bit_count() > 16 else "")


def _confinement(task: TaskImage, meta: Meta) -> list[str]:
    found = []
    if number(task, "no_new_privs"):
        found.append("no_new_privs")
    mode = number(task, "seccomp_mode")
    if mode:
        filters = number(task, "seccomp_filters")
        found.append(_SECCOMP.get(mode, f"seccomp mode {mode}") + (f" ({filters})" if filters > 1 else ""))
    if number(task, "securebits"):
        found.append(f"securebits {number(task, 'securebits'):#x}")
    user_ns = task.value("user_ns")
    if user_ns and meta.user_ns and user_ns != meta.user_ns:
        found.append(f"user:[{user_ns}]")
    levels = task.ext.get("pids", ())
    if levels and levels[-1].ns != meta.pid_ns:
        found.append(f"pid {levels[-1].pid} in pid:[{levels[-1].ns}]")
    if number(task, "ptrace"):
        found.append(f"traced by {task.task.ppid or 'host pid ' + str(number(task, 'host_ppid'))}")
    return found


def _signals(task: TaskImage) -> list[str]:
    pending = number(task, "sig_pending") | number(task, "sig_shared_pending")
    blocked = pending & number(task, "sig_blocked")
    found = [f"pending and blocked: {signals(blocked)}"] if blocked else []
    return ([f"pending: {signals(pending & ~blocked)}"] if pending & ~blocked else []) + found


def _scheduling(task: TaskImage) -> list[str]:
    policy = number(task, "policy")
    found = []
    if policy in _POLICIES:
        found.append(_POLICIES[policy] + (f" {number(task, 'rt_priority')}" if policy in _REAL_TIME else ""))
    nice = task.value("static_prio")
    if nice is not None and nice != _NICE_0 and policy in (0, 3) and not kernel_thread(task):
        found.append(f"nice {nice - _NICE_0}")
    return found
