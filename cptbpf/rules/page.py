"""The page of rules, from the catalogue."""

from cptbpf.fields import ARRAYS, FIELDS, REGISTERS, RULES


def render() -> str:
    """The text of ``docs/rules.md``."""
    fields = (*FIELDS, *ARRAYS, *REGISTERS)
    lines = [
        "# How the kernel and its witnesses are compared",
        "",
        "Made from the catalogue, `cptbpf/fields.py`, by `tools/generate`; `cptbpf/rules/` has the rules as functions.",
        "A difference that `cptbpf crosscheck` calls explained is one that the kernel's source gives the reason for;",
        "everything else is a disagreement; so is what /proc leaves out of a task though it shows it of cptbpf itself, and a",
        "file of a task that is there and cannot be read.",
        "",
        "The witness of a task is `/proc/PID/task/TID`; `group` and `exe` are `/proc/PID/stat` and `/proc/PID/exe`. What is",
        "mounted over any file of these processes is named beside the results (`covered` in JSON), since others may read that.",
        "What is mounted over a witness is compared in its place, and never opened while tasks stand still.",
        "",
        "## Rules",
        "",
        "| rule | what the witness shows | fields |",
        "|---|---|---|",
    ]
    for name, text in RULES.items():
        names = ", ".join(f"`{field.name}`" for field in fields if field.rule == name and field.witnesses)
        if name:
            lines.append(f"| {name} | {text} | {names} |")
    lines += ["", "## Fields", "", "| field | kernel | witness | rule |", "|---|---|---|---|"]
    for field in fields:
        if field.witnesses:
            source = field.source.replace("|", "\\|")
            lines.append(f"| `{field.name}` | `{source}` | {', '.join(field.witnesses)} | {field.rule} |")
    lines += ["", "## Fields without another witness", ""]
    lines.append(", ".join(f"`{field.name}`" for field in FIELDS if not field.witnesses) + ".")
    return "\n".join(lines) + "\n"
