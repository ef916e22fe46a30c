"""Where programs come from: trusted pins, kept objects, and only then a compiler; and what is said when that fails."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cptbpf import rundir
from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, compiler, objects, pins, programs, sources
from cptbpf.kernel.btf import Btf
from cptbpf.kernel.loader import unlimited_memlock
from cptbpf.kernel.tasks import TaskReader
from tests.conductors.checks import PRIVATE

pytestmark = pytest.mark.bpf

ROOT = Path(__file__).parent.parent.parent
NAMES = {"bpf_iter__task", "bpf_iter__task_regs", "readers"}


@pytest.fixture
def own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A place for pins and a run directory of this test's own."""
    place = Path(pins.BPFFS) / f"cptbpf-test-{os.getpid()}"
    run = tmp_path / "run"
    monkeypatch.setattr(pins, "_ROOT", str(place))
    monkeypatch.setattr(rundir, "PATH", str(run))
    if not pins._root():
        pytest.skip("no bpffs can be had here")
    yield place
    for folder in place.iterdir():
        for pin in folder.iterdir():
            pin.unlink()
        folder.rmdir()
    place.rmdir()


class CompiledError(Exception):
    """Somebody started the compiler."""


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise CompiledError

    monkeypatch.setattr(programs, "_from_worker", refuse)


def objects_here() -> None:
    """Puts the compiled objects of the machine's run directory into this test's, where there are any: it saves compiling."""
    name = f"objects-tasks-iter-{sources.key('tasks')}"
    kept, run = Path("/run/cptbpf") / name, Path(rundir.PATH)
    run.mkdir(mode=0o700, exist_ok=True)
    if kept.exists():
        shutil.copy(kept, run / name)
    else:
        close(programs.open_private("tasks").descriptors)


def close(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def open_tasks() -> None:
    opened = programs.open_set("tasks")
    assert opened.keys() == NAMES
    close(opened)


def key() -> str:
    return f"tasks-{sources.key('tasks')}"


def test_the_second_run_loads_and_compiles_nothing(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects_here()
    open_tasks()
    assert os.listdir(own_places) == [key()]
    assert own_places.stat().st_mode & 0o777 == 0o700
    assert (own_places / key()).stat().st_mode & 0o777 == 0o700
    assert set(os.listdir(own_places / key())) == NAMES

    def refuse(*_: object, **__: object) -> None:
        raise CompiledError

    monkeypatch.setattr(programs, "open_private", refuse)
    open_tasks()
    with TaskReader() as reader:
        assert reader.own_level >= 0


def test_without_pins_the_kept_objects_are_loaded(own_places: Path, no_compiler: None) -> None:
    with pytest.raises(CompiledError):
        programs.open_set("tasks")
    objects_here() if (Path("/run/cptbpf") / f"objects-tasks-iter-{sources.key('tasks')}").exists() else pytest.skip(
        "none kept"
    )
    open_tasks()


@pytest.mark.parametrize(
    "what", ["mode of the folder", "owner of the folder", "mode of the root", "owner of the root", "a link"]
)
def test_pins_that_another_could_have_put_there_are_not_trusted(own_places: Path, what: str) -> None:
    objects_here()
    open_tasks()
    assert pins.folder(key()) == str(own_places / key())
    place = own_places if "root" in what else own_places / key()
    if what == "a link":
        aside = own_places / "aside"
        place.rename(aside)
        os.symlink(aside, place)
        try:
            assert pins.folder(key()) is None
        finally:
            place.unlink()
        return
    if "mode" in what:
        place.chmod(0o755)
    else:
        os.chown(place, 1, 1)
    assert pins.folder(key()) is None
    place.chmod(0o700)
    os.chown(place, 0, 0)
    assert pins.folder(key())


def test_a_folder_that_lacks_a_pin_is_made_anew(own_places: Path) -> None:
    objects_here()
    open_tasks()
    (own_places / key() / "readers").unlink()
    open_tasks()
    assert set(os.listdir(own_places / key())) == NAMES


def test_what_a_killed_run_left_and_old_sets_are_swept(own_places: Path) -> None:
    objects_here()
    (own_places / "making-1").mkdir(0o700)
    for age in range(7):
        old = own_places / f"tasks-{age}"
        old.mkdir(0o700)
        os.utime(old, (age, age))
    (own_places / "other-1").mkdir(0o700)
    open_tasks()
    assert set(os.listdir(own_places)) == {key(), "other-1", *(f"tasks-{age}" for age in (4, 5, 6))}


def test_damaged_objects_are_compiled_again(own_places: Path, no_compiler: None) -> None:
    run = Path(rundir.PATH)
    run.mkdir(mode=0o700)
    for damage in (b"", b"{", b'{"maps": 1}'):
        kept = run / f"objects-tasks-iter-{sources.key('tasks')}"
        kept.write_bytes(damage)
        with pytest.raises(CompiledError):
            programs.open_set("tasks")
        assert not kept.exists()


def test_who_compiles_sweeps_what_old_versions_left(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = sources.SETS["tasks"].variants[0]
    monkeypatch.setattr(programs, "_from_worker", lambda *_: objects.dump(objects.Objects("iter", (), ())))
    run = Path(rundir.PATH)
    run.mkdir(mode=0o700)
    old = [run / f"objects-tasks-iter-{number:032x}" for number in range(6)]
    for age, path in enumerate(old):
        path.write_bytes(b"")
        os.utime(path, (age, age))
    programs._objects("tasks", variant)
    kept = {path.name for path in old[3:]} | {f"objects-tasks-iter-{sources.key('tasks')}"}
    assert set(os.listdir(run)) == kept
    (run / f"objects-tasks-iter-{sources.key('tasks')}").unlink()  # by another run
    programs._objects("tasks", variant)
    assert set(os.listdir(run)) == kept


def test_a_header_tree_is_kept_and_not_swept_while_it_is_read(own_places: Path) -> None:
    """Made once, and then held by whoever compiles, though it is old and there are newer ones."""
    run, source = Path(rundir.PATH), sources.text("tasks")
    with compiler._header_tree(Btf(), source) as tree:
        made = Path(tree)
    assert made.parent == run
    for number in range(16):
        (run / f"headers-{number:032x}").mkdir()
    os.utime(made, (0, 0))
    with compiler._header_tree(Btf(), source) as tree:
        assert Path(tree) == made
        rundir.sweep()
        assert (made / "include" / "vmlinux.h").exists()
    rundir.sweep()
    assert not made.exists()
    with compiler._header_tree(Btf(), source) as tree:
        assert (made / "include" / "vmlinux.h").exists()


def copied(tmp_path: Path) -> Path:
    """The package in another place, to be broken."""
    shutil.copytree(ROOT / "cptbpf", tmp_path / "copy" / "cptbpf", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "bpf", tmp_path / "copy" / "bpf")
    return tmp_path / "copy"


def failure_of(copy: Path) -> list[str]:
    """What opening the set says there: the class of the error, its text and its remedy."""
    script = (
        "from cptbpf import errors, rundir\n"
        f"rundir.PATH = {str(copy / 'run')!r}\n"
        "from cptbpf.kernel import pins, programs\n"
        "pins._ROOT = pins.BPFFS + '/cptbpf-there-is-none'\n"
        "try: programs.open_private('tasks')\n"
        "except errors.CptbpfError as error: print(type(error).__name__, error, error.remedy, sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=copy, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_source_that_does_not_compile_is_one_line(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    with (copy / "bpf" / "task_iter.bpf.c").open("a") as stream:
        stream.write("\nint broken(void) { return no_such_thing; }\n")
    kind, what, _ = failure_of(copy)
    assert kind == "UnsupportedError"
    assert "no_such_thing" in what


def test_a_module_bcc_that_is_another_is_named(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (copy / "bcc.py").write_text("")
    kind, what, remedy = failure_of(copy)
    assert kind == "UnsupportedError"
    assert f"the module bcc of {copy}/bcc.py is not BCC" in what
    assert "python3-bpfcc" in remedy


def test_a_worker_that_dies_is_one_line(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (copy / "bcc.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    kind, what, remedy = failure_of(copy)
    assert (kind, what) == ("UnsupportedError", "the BPF compiler died: exit status -9")
    assert remedy


def test_a_variant_that_a_set_has_not_is_told_from_those_that_it_has(no_compiler: None) -> None:
    with pytest.raises(UnsupportedError) as caught:
        programs.open_private("cred_watch", only="kretprobe")
    known = "fentry, kprobe, sched_switch, sched_switch-hash, sched_switch-raw"
    assert str(caught.value) == f"the set cred_watch has no variant kretprobe: it has {known}"


def test_a_missing_source_is_one_line(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (copy / "bpf" / "compat.h").unlink()
    kind, what, remedy = failure_of(copy)
    assert kind == "UnsupportedError"
    assert "compat.h" in what
    assert "reinstall" in remedy


def test_a_program_that_the_kernel_refuses_is_told_with_the_verifiers_words() -> None:
    with unlimited_memlock(), pytest.raises(OSError) as caught:
        bpf.prog_load(bpf.PROG_TRACEPOINT, bytes.fromhex("9500000000000000"), "bad")  # exit without r0
    assert "R0" in str(caught.value.filename)


def test_the_key_depends_on_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = sources.key("tasks")
    assert sources.key("tasks") == before
    shutil.copytree(sources.directory(), tmp_path / "bpf")
    monkeypatch.setattr(sources, "directory", lambda: str(tmp_path / "bpf"))
    assert sources.key("tasks") == before
    with (tmp_path / "bpf" / "compat.h").open("a") as stream:
        stream.write("/* changed */\n")
    assert sources.key("tasks") != before
    with pytest.raises(UnsupportedError):
        os.unlink(tmp_path / "bpf" / "compat.h")
        sources.key("tasks")


FULL = """
import os, sys
from cptbpf import rundir
from cptbpf.kernel import compiler, sources
from cptbpf.kernel.btf import Btf
rundir.PATH = sys.argv[1] + "/run"
os.mkdir(rundir.PATH, 0o700)
with compiler._header_tree(Btf(), sources.text("tasks")) as tree:
    print(os.path.getsize(tree + "/include/vmlinux.h") > 10000, os.path.dirname(tree) == rundir.PATH, os.listdir(rundir.PATH))
print(os.path.exists(tree))
"""


def test_a_full_run_directory_is_done_without(tmp_path: Path) -> None:
    """It is a cache: what finds no room there is written elsewhere, and gone afterwards."""
    place = tmp_path / "small"
    place.mkdir()
    script = 'mount -t tmpfs -o size=32k none "$0" && exec "$@"'
    command = [*PRIVATE, "sh", "-c", script, str(place), sys.executable, "-c", FULL, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.stdout.splitlines() == ["True False []", "False"], done.stderr
