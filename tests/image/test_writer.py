"""A file appears whole or not at all, of mode 0600 from its first byte, and never over another one unasked."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cptbpf.errors import TargetError
from cptbpf.image import output
from cptbpf.image.output import FileOutput, opened
from cptbpf.image.reader import load
from cptbpf.image.writer import ImageWriter, encode_image, write_image
from tests.image.strategies import small_image, small_task

IMAGE = small_image()
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write: with O_TMPFILE, and as on a file system that has none."""
    if request.param == "named":
        monkeypatch.setattr(os, "O_TMPFILE", os.O_TMPFILE | os.O_CREAT)  # open(2): EINVAL
    return str(request.param)


def test_way_is_taken(way: str, tmp_path: Path) -> None:
    writing = FileOutput(str(tmp_path / "x.cpt"))
    assert len(list(tmp_path.iterdir())) == (0 if way == "nameless" else 1)
    writing.abort()
    assert not list(tmp_path.iterdir())


def test_whole_file(way: str, tmp_path: Path) -> None:
    path = tmp_path / "x.cpt"
    size = write_image(IMAGE, path)
    assert path.read_bytes() == encode_image(IMAGE)
    assert size == path.stat().st_size
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_mode_before_the_first_byte(way: str, mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        writing = FileOutput(str(tmp_path / "x.cpt"))
    finally:
        os.umask(before)
    status = os.fstat(writing._fd)
    assert (status.st_size, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    writing.write(b"secret")
    assert not (tmp_path / "x.cpt").exists()
    writing.abort()


def test_no_overwrite_without_force(way: str, tmp_path: Path) -> None:
    path = tmp_path / "x.cpt"
    path.write_text("precious")
    with pytest.raises(TargetError, match="exists") as caught:
        write_image(IMAGE, path)
    assert "--force" in caught.value.remedy
    assert path.read_text() == "precious"
    write_image(IMAGE, path, force=True)
    assert load(path).tasks == IMAGE.tasks
    assert list(tmp_path.iterdir()) == [path]


def test_no_overwrite_of_what_came_meanwhile(way: str, tmp_path: Path) -> None:
    path = tmp_path / "x.cpt"
    with pytest.raises(TargetError, match="exists"), opened(path) as place:
        path.write_text("precious")
        ImageWriter(place, IMAGE.head, IMAGE.meta).finish()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_without_rename_noreplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses the flag: a hard link does the same."""
    monkeypatch.setattr(os, "O_TMPFILE", os.O_TMPFILE | os.O_CREAT)
    monkeypatch.setattr(output, "_RENAME_NOREPLACE", 1 << 30)  # renameat2(2): EINVAL for an unknown flag
    path = tmp_path / "x.cpt"
    write_image(IMAGE, path)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(TargetError, match="exists"):
        write_image(IMAGE, path)


def test_symlinks_are_not_followed(way: str, tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "link.cpt"
    precious.write_text("precious")
    link.symlink_to(precious)
    with pytest.raises(TargetError, match="exists"):
        write_image(IMAGE, link)
    write_image(IMAGE, link, force=True)
    assert precious.read_text() == "precious"
    assert not link.is_symlink()


@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_a_file_is_left_alone(force: bool, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    for target in (fifo, link, tmp_path):
        with pytest.raises(TargetError, match="not a regular file"):
            write_image(IMAGE, target, force=force)
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["missing/x.cpt", "file/x.cpt", "n" * 300, "slash/"])
def test_bad_names(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError):
        write_image(IMAGE, f"{tmp_path}/{name}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_error_in_the_middle_leaves_nothing(way: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "x.cpt") as place:
        ImageWriter(place, IMAGE.head, IMAGE.meta).write_task(IMAGE.tasks[0])
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_file_too_large(way: str, tmp_path: Path) -> None:
    """An error of write(2) itself: here the limit on a file's size."""
    code = f"""
import os, resource, signal, sys
sys.path.insert(0, {ROOT!r})
if {way == "named"}: os.O_TMPFILE |= os.O_CREAT
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
from cptbpf.errors import TargetError
from tests.image.strategies import small_image
from cptbpf.image.writer import write_image
try:
    write_image(small_image(), sys.argv[1])
except TargetError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.cpt")], capture_output=True, text=True, check=False)
    assert "File too large" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    where = tmp_path / "disk"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", where], check=False).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.parametrize("force", [False, True])
def test_full_disk(way: str, force: bool, small_disk: Path) -> None:
    path = small_disk / "x.cpt"
    if force:
        path.write_text("precious")
    with pytest.raises(TargetError, match="No space left"), opened(path, force) as place:
        writer = ImageWriter(place, IMAGE.head, IMAGE.meta)
        for pid in range(2000):
            writer.write_task(small_task(pid))
        writer.finish()
    assert [entry.name for entry in small_disk.iterdir()] == (["x.cpt"] if force else [])
    assert not force or path.read_text() == "precious"


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    code = f"""
import os, sys
sys.path.insert(0, {ROOT!r})
from cptbpf.errors import TargetError
from cptbpf.image.output import FileOutput
os.chdir(sys.argv[1])
if os.geteuid() == 0: os.setuid(65534)
try:
    FileOutput("x.cpt")
except TargetError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "cannot create 'x.cpt': Permission denied" in done.stdout, done.stderr
    with pytest.raises(TargetError, match="cannot create"):
        write_image(IMAGE, "/proc/x.cpt")


@pytest.mark.parametrize("buffering", [0, 1 << 16])
def test_full_stream(buffering: int) -> None:
    with open("/dev/full", "wb", buffering=buffering) as stream, pytest.raises(TargetError, match="No space left"):
        write_image(IMAGE, stream)


def test_closed_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as stream, pytest.raises(TargetError, match="Broken pipe"):
        write_image(IMAGE, stream)


@pytest.mark.parametrize("tasks", [2, 300])
def test_pipe(tasks: int) -> None:
    """A small image, and one larger than what the reader takes at first and than a pipe holds."""
    image = small_image(tasks)
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as pool, open(reading, "rb") as source:
        loading = pool.submit(load, source)
        with open(writing, "wb", buffering=0) as stream:
            write_image(image, stream)
        assert loading.result().tasks == image.tasks


def test_a_larger_file(tmp_path: Path) -> None:
    image = small_image(300)
    size = write_image(image, tmp_path / "x.cpt")
    assert size > 1 << 17
    read = load(tmp_path / "x.cpt")
    assert read.tasks == image.tasks
    assert isinstance(read.tasks[1].xsave, memoryview)
    with open(tmp_path / "x.cpt", "rb") as stream:
        assert load(stream) == read


def test_sigkill_leaves_no_file(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {ROOT!r})
from cptbpf.image.output import FileOutput
from cptbpf.image.writer import ImageWriter
from tests.image.strategies import small_image, small_task
image = small_image()
writer = ImageWriter(FileOutput(sys.argv[1]), image.head, image.meta)
while True:
    writer.write_task(small_task())
    if writer.size > 1 << 21:
        print("writing", flush=True)
        break
sys.stdin.read()
"""
    path = tmp_path / "x.cpt"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert not list(tmp_path.iterdir())


def test_order_of_the_disk(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is on the disk before it has its name, and the name before the writer says so."""
    path = tmp_path / "x.cpt"
    synced: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def watch(fd: int) -> None:
        fsync(fd)
        synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", watch)
    write_image(IMAGE, path)
    assert synced == [(False, False), (True, True)]


def test_descriptors_are_closed(way: str, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for at in range(3):
        write_image(IMAGE, tmp_path / f"{at}.cpt")
        with pytest.raises(TargetError):
            write_image(IMAGE, tmp_path / f"{at}.cpt")
    assert os.listdir("/proc/self/fd") == before
