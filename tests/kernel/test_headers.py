"""The generated header tree: every struct in it lies in memory as the kernel's own BTF says, read by another reader."""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from cptbpf.kernel import headers, sources
from cptbpf.kernel.btf import VMLINUX, Btf
from tests.kernel import rawbtf

pytestmark = pytest.mark.skipif(not Path(VMLINUX).exists(), reason="this kernel carries no BTF")

BODY = re.compile(r"((?:#define HAVE_\w+\n)*)#define SIZEOF_(\w+) (\d+)\nstruct (\w+) \{ union \{")


@cache
def raw() -> dict[str, rawbtf.Struct]:
    return rawbtf.structs()


@cache
def emitted(name: str) -> tuple[str, dict[str, list[str]]]:
    """vmlinux.h for a program set, and the members that it says it has, by struct."""
    text = headers.tree(Btf(), sources.text(name))["include/vmlinux.h"]
    return text, {
        struct: [line.removeprefix(f"#define HAVE_{struct}_") for line in have.splitlines()]
        for have, struct, _, _ in BODY.findall(text)
    }


@pytest.mark.parametrize("name", sorted(sources.SETS))
def test_every_member_is_where_the_kernel_has_it(name: str, tmp_path: Path) -> None:
    text, structs = emitted(name)
    assert len(structs) > 10
    checks = []
    for struct, members in structs.items():
        if struct.startswith("anonymous_") or struct not in raw():
            continue
        checks.append(f'_Static_assert(sizeof(struct {struct}) == {raw()[struct].size}, "sizeof {struct}");')
        for member in members:
            offset, rest = divmod(raw()[struct].members[member], 8)
            assert rest == 0
            checks.append(f'_Static_assert(__builtin_offsetof(struct {struct}, {member}) == {offset}, "{struct}.{member}");')
    assert len(checks) > 60
    for path, content in headers.tree(Btf(), sources.text(name)).items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (tmp_path / "check.c").write_text("#include <vmlinux.h>\n" + "\n".join(checks) + "\n")
    command = ["gcc", "-c", "-nostdinc", "-Werror", f"-I{tmp_path}/include", "-o", os.devnull, str(tmp_path / "check.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    assert "packed" not in text


@pytest.mark.parametrize("name", sorted(sources.SETS))
def test_a_feature_is_there_exactly_where_the_kernel_has_the_member(name: str) -> None:
    """HAVE_ of a member that the sources name and the kernel has; and none of what this kernel calls otherwise."""
    text, structs = emitted(name)
    words = set(re.findall(r"\w+", re.sub(r"/\*.*?\*/", " ", sources.text(name), flags=re.DOTALL)))
    for struct, members in structs.items():
        if struct in raw():
            assert set(members) <= raw()[struct].members.keys() & words
    asked = {word for word in words if word.startswith("HAVE_") and not word.startswith("HAVE_BPF_FUNC_")}
    for word in asked:
        owners = [struct for struct in raw() if word.startswith(f"HAVE_{struct}_")]
        expected = any(word.removeprefix(f"HAVE_{struct}_") in raw()[struct].members for struct in owners)
        # kernel_cap_t is a typedef of a nameless struct: it has no entry of its own
        if owners:
            assert (f"#define {word}\n" in text) == expected, word


def test_a_member_that_no_kernel_has_is_left_out() -> None:
    text = headers.tree(Btf(), "struct task_struct *t; int x = t->pid + t->no_such_member; /* struct cred *c; t->uid */")
    vmlinux = text["include/vmlinux.h"]
    assert "#define HAVE_task_struct_pid\n" in vmlinux
    assert "no_such_member" not in vmlinux
    assert "struct cred {" not in vmlinux  # only a comment names it


def test_structs_of_the_sources_own_are_left_to_them() -> None:
    text = headers.tree(Btf(), "struct task_struct { int pid; }; struct task_struct *t; int f(void) { return t->pid; }")
    assert "struct task_struct {" not in text["include/vmlinux.h"]
