import os
import random
import re
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cptbpf import rundir
from cptbpf.proc import buildid
from cptbpf.proc.absent import Absent


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    monkeypatch.setattr(rundir, "PATH", str(path))
    return path


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def compiled(folder: Path, *flags: str) -> Path:
    source = folder / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", *flags, "-o", folder / "program", source], check=True)
    return folder / "program"


def test_it_is_what_readelf_says(tmp_path: Path) -> None:
    program = compiled(tmp_path)
    said = subprocess.run(["readelf", "-n", program], check=True, capture_output=True, text=True).stdout
    expected = re.search(r"Build ID: ([0-9a-f]+)", said)
    assert expected
    with opened(program) as fd:
        assert buildid.read(fd) == bytes.fromhex(expected[1])


def test_a_program_without_one_has_none(tmp_path: Path) -> None:
    with opened(compiled(tmp_path, "-Wl,--build-id=none")) as fd:
        assert buildid.read(fd) == buildid.NO_BUILD_ID


def test_the_second_run_reads_no_elf_file(tmp_path: Path, own_directory: Path) -> None:
    program, other = compiled(tmp_path), tmp_path / "other"
    other.mkdir()
    plain = compiled(other, "-Wl,--build-id=none")
    cache = buildid.Cache()
    with opened(program) as fd, opened(plain) as without:
        first = cache.of(fd)
        assert cache.of(without) == buildid.NO_BUILD_ID
    cache.save()
    assert isinstance(first, bytes)
    assert stat.S_IMODE(own_directory.stat().st_mode) == 0o700
    script = (
        "import os, sys; from cptbpf import rundir; rundir.PATH = sys.argv[1]\n"
        "from cptbpf.proc import buildid; cache = buildid.Cache()\n"
        "for path in sys.argv[2:]: print(cache.of(os.open(path, os.O_RDONLY)))\n"
        "print('elftools' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(own_directory), str(program), str(plain)]
    path = {**os.environ, "PYTHONPATH": str(Path(buildid.__file__).parents[2])}
    said = subprocess.run(command, env=path, check=True, capture_output=True, text=True).stdout.splitlines()
    assert said == [repr(first), repr(buildid.NO_BUILD_ID), "False"]


def test_another_file_in_the_same_place_is_read_again(tmp_path: Path) -> None:
    program = compiled(tmp_path)
    cache = buildid.Cache()
    with opened(program) as fd:
        first = cache.of(fd)
    data = program.read_bytes()
    assert isinstance(first, bytes)
    program.write_bytes(data.replace(first, first[::-1]))
    with opened(program) as fd:
        assert cache.of(fd) == first[::-1]


@pytest.mark.parametrize("text", ["", "1 2 3\n", "1 2 3 4 5 zz\n", "\x00\xff", "a b c d e f\n"])
def test_a_broken_cache_is_as_good_as_none(text: str, own_directory: Path, tmp_path: Path) -> None:
    own_directory.mkdir(mode=0o700)
    (own_directory / "build-ids").write_text(text, encoding="latin-1")
    with opened(compiled(tmp_path)) as fd:
        assert isinstance(buildid.Cache().of(fd), bytes)


def test_a_directory_that_others_may_write_is_not_trusted(own_directory: Path, tmp_path: Path) -> None:
    own_directory.mkdir()
    own_directory.chmod(0o777)
    cache = buildid.Cache()
    with opened(compiled(tmp_path)) as fd:
        assert isinstance(cache.of(fd), bytes)
    cache.save()
    assert list(own_directory.iterdir()) == []


def test_the_cache_is_bounded(own_directory: Path, tmp_path: Path) -> None:
    own_directory.mkdir(mode=0o700)
    (own_directory / "build-ids").write_text("".join(f"1 {n} 3 4 5 ab\n" for n in range(5000)))
    cache = buildid.Cache()
    with opened(compiled(tmp_path)) as fd:
        cache.of(fd)
    cache.save()
    lines = (own_directory / "build-ids").read_text().splitlines()
    assert len(lines) <= 1024
    assert lines[-2] == "1 4999 3 4 5 ab"


def test_hostile_files_are_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    """Every one of these makes an unbounded reader loop, allocate, or fall over."""
    good = compiled(tmp_path).read_bytes()

    def patched(offset: int, form: str, *values: int) -> bytes:
        data = bytearray(good)
        struct.pack_into(form, data, offset, *values)
        return bytes(data)

    header = struct.unpack_from("<Q", good, 32)[0]  # e_phoff
    notes = next(
        header + n * 56 for n in range(good[56]) if struct.unpack_from("<I", good, header + n * 56)[0] == 4
    )  # a PT_NOTE
    place = struct.unpack_from("<Q", good, notes + 8)[0]
    files = [
        b"",
        b"\x7fELF",
        good[:64],
        patched(56, "<H", 0xFFFF),  # e_phnum
        patched(60, "<HH", 0xFFFF, 0xFFFE),  # e_shnum, e_shstrndx
        patched(32, "<Q", 2**64 - 8),  # e_phoff
        patched(40, "<Q", 2**63),  # e_shoff
        patched(54, "<H", 0),  # e_phentsize
        patched(notes + 32, "<Q", 2**63),  # p_filesz
        patched(notes + 48, "<Q", 0),  # p_align
        patched(place, "<II", 0xFFFFFFFF, 0xFFFFFFFF),  # namesz, descsz
        patched(place, "<II", 0, 0),
    ]
    for data in files:
        victim = tmp_path / "victim"
        victim.write_bytes(data)
        os.truncate(victim, max(len(data), 1 << 40))  # sparse: whoever reads it all never comes back
        with opened(victim) as fd:
            assert isinstance(buildid.read(fd), bytes | Absent)
        victim.write_bytes(data)
        with opened(victim) as fd:
            assert isinstance(buildid.read(fd), bytes | Absent)


def test_flipped_bits_never_raise(tmp_path: Path) -> None:
    good = compiled(tmp_path).read_bytes()
    source = random.Random(1)
    victim = tmp_path / "victim"
    for _ in range(150):
        data = bytearray(good)
        for _ in range(3):
            data[source.randrange(1200)] ^= 1 << source.randrange(8)
        victim.write_bytes(data)
        with opened(victim) as fd:
            assert isinstance(buildid.read(fd), bytes | Absent)
