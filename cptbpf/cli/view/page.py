"""Everything that an image has of one task."""

from collections.abc import Iterator

from cptbpf.cli.text import age, columns, comm, command_line, duration, escape
from cptbpf.cli.view.context import Context
from cptbpf.cli.view.fpu import vector_lines
from cptbpf.cli.view.state import WORDS, doing, exit_words, letter, signal_name, signals
from cptbpf.cli.view.unusual import capability_names, notes
from cptbpf.cli.view.values import shown
from cptbpf.fields import GROUPS, Field, group
from cptbpf.image.flags import task_flag_names, timespec_import
from cptbpf.image.model import TaskImage, X86_64Regs, X86Regs
from cptbpf.image.provenance import is_absent
from cptbpf.image.segments import segment_name

_SEGMENTS = {"fsindex", "gsindex", "cs", "ds", "es", "ss", "fs", "gs"}
_NO_EXIT_SIGNAL = 0xFFFFFFFF


def lines(context: Context, task: TaskImage) -> Iterator[str]:
    """The page of one task."""
    yield from _summary(context, task)
    yield from _stack(task)
    for name, title in GROUPS.items():
        yield from _group(context, task, name, title)
    yield from _registers("registers", "regs", task, task.regs)
    if "kregs" in task.ext:
        yield from _registers("registers as the kernel's memory has them, where they differ", "kregs", task, task.ext["kregs"])
    yield from vector_lines(context.meta, task)
    yield from _provenance(task)


def _heading(title: str, source: str) -> str:
    return f"\n{title}" + (f" ({escape(source)})" if source else "")


def _summary(context: Context, task: TaskImage) -> Iterator[str]:
    record = task.task
    host = task.value("host_pid")
    role = "" if record.pid == record.tgid else f", thread of {record.tgid}"
    yield f"pid {record.pid} {comm(record.comm)}{role}" + ("" if host is None else f", host pid {host}")
    rows = [
        ("state", f"{letter(task)} {WORDS[letter(task)]}"),
        ("doing", doing(task)),
        ("since", f"{context.since(task)}, {age(context.age(task))} before"),
        ("user", context.user(record.euid)),
        ("parent", str(record.rppid or "outside the namespace")),
    ]
    ext = task.ext
    if "cmdline" in ext:
        rows.append(("command", command_line(ext["cmdline"])))
    if "exe" in ext:
        build = f", build id {ext['exe'].build_id.hex()}" if ext["exe"].build_id else ""
        rows.append(("executable", escape(ext["exe"].path) + build))
    if "cgroup" in ext:
        rows.append(("cgroup", escape(ext["cgroup"])))
    if "pids" in ext:
        rows.append(("pids", ", ".join(f"{level.pid} in pid:[{level.ns}] (level {level.level})" for level in ext["pids"])))
    if "groups" in ext:
        rows.append(("groups", " ".join(map(str, ext["groups"])) or "none"))
    rows += [("note", remark) for remark in notes(task, context.meta)]
    yield from ("  " + line for line in columns(rows))


def _stack(task: TaskImage) -> Iterator[str]:
    source = task.source("kstack")
    yield _heading("kernel stack", source)
    yield from (f"  {escape(frame)}" for frame in task.ext.get("kstack", ()))


def _group(context: Context, task: TaskImage, name: str, title: str) -> Iterator[str]:
    if name != "task" and name not in task.ext:
        source = task.source(name)
        if source:
            yield _heading(f"{name}: {title}", source)
        return
    default = task.source(name)
    rows = []
    for field in group(name):
        found = task.value(field.name)
        source = task.source(name, field.name)
        remark = _explained(context, field, found)
        differs = f"[{escape(source)}]" if source != default else ""
        rows.append((field.name, shown(field, found), field.unit, " ".join(part for part in (remark, differs) if part)))
    yield _heading(f"{name}: {title}", default)
    yield from ("  " + line for line in columns(rows, right=(1,)))


def _explained(context: Context, field: Field, found: object) -> str:
    """A number in words, where that helps."""
    if not isinstance(found, int):
        return ""
    name = field.name
    words = ""
    if name.startswith("cap_"):
        words = capability_names(found)
    elif name.startswith("sig_"):
        words = signals(found)
    elif field.unit == "ns" and found:
        words = duration(found)
    elif field.unit == "sec<<32|ns":
        words = f"{timespec_import(found) / 1e9:.9f} s"
    elif name in ("uid", "euid", "suid", "fsuid", "user"):
        words = context.user(found).partition(" ")[2]
    elif name == "flags":
        words = " ".join(task_flag_names(found))
    elif name in ("exit_code", "group_exit_code") and found:
        words = exit_words(found)
    elif name in ("exit_signal", "pdeath_signal") and found:
        words = "none" if found == _NO_EXIT_SIGNAL else signal_name(found)
    return f"= {words}" if words else ""


def _registers(title: str, key: str, task: TaskImage, regs: X86_64Regs | X86Regs | None) -> Iterator[str]:
    yield _heading(title, task.source(key))
    if regs is None:
        return
    digits = 16 if isinstance(regs, X86_64Regs) else 8
    cells = []
    for name, found in regs._asdict().items():
        if name == "debugreg":
            continue
        cells.append(f"{name:8} " + (f"{segment_name(found):<{digits}}" if name in _SEGMENTS else f"{found:0{digits}x}"))
    per_line = 3 if digits == 16 else 4
    for at in range(0, len(cells), per_line):
        yield "  " + "  ".join(cells[at : at + per_line]).rstrip()
    yield "  debug    " + " ".join(f"{found:0{digits}x}" for found in regs.debugreg)


def _provenance(task: TaskImage) -> Iterator[str]:
    yield "\nprovenance"
    absent = {key: source for key, source in task.provenance.items() if is_absent(source)}
    rest = {key: source for key, source in task.provenance.items() if key not in absent}
    yield from ("  " + line for line in columns([(escape(key), escape(source)) for key, source in (rest | absent).items()]))
