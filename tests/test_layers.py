"""The house: who may import whom, and what an import may cost."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cptbpf"
ROOMS = ("kernel", "trace", "proc", "image")
SHARED = {
    "capabilities",
    "cpu",
    "errors",
    "fields",
    "procfs",
    "rundir",
    "sched",
    "syscalls",
    "xsave",
}  # what every room may import
# Who is above the rooms, and what else each may import: of the kernel room the record alone, of proc what list shows.
ABOVE = {
    "rules": {"rules", "image.flags", "kernel.record"},
    "export": {"export", "image"},
    "metrics.py": {"conductors.events", "kernel.record"},
    "cli": {"cli", "conductors", "export", "image", "kernel.record", "metrics", "proc.listing"},
}
# What a warm snapshot has no time for; each is imported where it is needed.
HEAVY = {
    *("bcc", "click", "construct", "elftools", "ptrace", "rich"),
    *("dataclasses", "inspect", "json", "logging", "pathlib", "socket", "subprocess", "tempfile"),
}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports(path: Path, module_level: bool = False) -> set[str]:
    """Dotted names of the modules that a file imports; only those at module level, or those inside functions as well."""
    return imports_of(path.read_text(), path, module_level)


def imports_of(text: str, path: Path, module_level: bool = False) -> set[str]:
    """The same of the text that a file might have."""
    tree = ast.parse(text)
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    inside = {
        node for kind in ast.walk(tree) if isinstance(kind, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(kind)
    }
    checking = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for node in ast.walk(test)
    }
    found = set()
    for node in ast.walk(tree):
        if node in checking or (module_level and node in inside):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_the_reader_of_imports_sees_every_form() -> None:
    """Else the tests below could not fail."""
    text = (
        "import a.b, c\nfrom d import e\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import never\n"
        "def f():\n    import g\nclass H:\n    import i\n"
    )
    path = PACKAGE / "image" / "nothing.py"
    seen = imports_of(text, path)
    assert {"a.b", "c", "d", "d.e", "g", "i"} <= seen
    assert "never" not in seen
    assert "g" not in imports_of(text, path, module_level=True)
    assert "cptbpf.image.model" in imports_of("from .model import x\n", path)
    assert "cptbpf.trace" in imports_of("from .. import trace\n", path)
    assert "cptbpf.trace" in imports_of("from cptbpf import trace\n", path)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_other_room_and_nothing_above(room: str) -> None:
    assert files(PACKAGE / room)
    for path in files(PACKAGE / room):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "cptbpf" and len(parts) > 1:
                assert parts[1] == room or parts[1] in SHARED, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("name", sorted(SHARED))
def test_what_everybody_imports_imports_nothing_but_errors(name: str) -> None:
    foreign = [module for module in imports(PACKAGE / f"{name}.py") if within(module, "cptbpf")]
    assert not [module for module in foreign if not within(module, "cptbpf.errors")]


@pytest.mark.parametrize("place", ABOVE)
def test_who_is_above_the_rooms_goes_through_the_conductors(place: str) -> None:
    path = PACKAGE / place
    for file in files(path) if path.is_dir() else [path]:
        for name in imports(file):
            if not within(name, "cptbpf") or name == "cptbpf":
                continue
            allowed = {*(f"cptbpf.{module}" for module in SHARED | ABOVE[place]), "cptbpf.__version__"}
            room = name.count(".") == 1 and name.split(".")[1] in ROOMS  # from cptbpf.kernel import record: seen as both
            assert room or any(within(name, one) for one in allowed), f"{file.relative_to(ROOT)} imports {name}"


def test_nobody_but_the_command_line_imports_the_command_line() -> None:
    for path in files(PACKAGE):
        if path.is_relative_to(PACKAGE / "cli") or path.name == "__main__.py":
            continue
        assert not [name for name in imports(path) if within(name, "cptbpf.cli")], f"{path.relative_to(ROOT)} imports the CLI"


def test_the_image_room_needs_neither_bpf_nor_privilege() -> None:
    for path in files(PACKAGE / "image"):
        foreign = [name for name in imports(path) if name.split(".")[0] in ("bcc", "ptrace")]
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_no_file_is_long() -> None:
    for path in [*files(PACKAGE), *files(ROOT / "tests")]:
        assert len(path.read_text().splitlines()) <= 400, f"{path.relative_to(ROOT)} has more than 400 lines"


def loaded(statement: str, block: str = "") -> set[str]:
    """The modules that a fresh interpreter has after a statement; those named in ``block`` cannot be imported in it."""
    script = (
        "import sys\n"
        f"for name in {block.split()!r}: sys.modules[name] = None\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(); print(*sorted(set(sys.modules) - before))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-s", "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


def test_an_image_is_read_without_bcc_ptrace_and_root() -> None:
    assert "cptbpf.image.reader" in loaded("import cptbpf.image.reader", block="bcc ptrace")


WARM = [
    *("cptbpf", "cptbpf.errors", "cptbpf.fields", "cptbpf.rundir", "cptbpf.conductors.snapshot"),
    *("cptbpf.proc.pidns", "cptbpf.proc.process", "cptbpf.proc.buildid", "cptbpf.proc.system", "cptbpf.capabilities"),
    *("cptbpf.image.model", "cptbpf.image.writer", "cptbpf.image.layout"),
    *("cptbpf.trace.freezer", "cptbpf.kernel.programs", "cptbpf.kernel.record"),
]


@pytest.mark.parametrize("module", WARM)
def test_what_a_warm_snapshot_imports_is_light(module: str) -> None:
    if (
        not (ROOT / (module.replace(".", "/") + ".py")).exists()
        and not (ROOT / module.replace(".", "/") / "__init__.py").exists()
    ):
        pytest.fail(f"{module} is not there: name what took its place in WARM")
    roots = {name.split(".")[0] for name in loaded(f"import {module}")}
    assert not roots & HEAVY


def test_help_does_not_load_what_a_snapshot_needs() -> None:
    run = "from cptbpf.cli.main import run; run(['--help'])"  # not main(), which ends the process
    assert "cptbpf.cli.show" in loaded(run)
    assert not {name.split(".")[0] for name in loaded(run)} & {"bcc", "construct", "elftools", "ptrace"}
