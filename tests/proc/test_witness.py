"""The values of witness specs, of the test's own process, against what the C library says of it."""

import os
import re
import threading
from pathlib import Path

import pytest

from cptbpf.fields import ARRAYS, FIELDS
from cptbpf.proc import witness
from cptbpf.proc.absent import Absent

SPECS = [spec for field in (*FIELDS, *ARRAYS) for spec in field.witnesses if witness.file_of(spec)]


def test_every_spec_of_the_catalogue_is_of_proc_or_of_ptrace() -> None:
    for field in (*FIELDS, *ARRAYS):
        for spec in field.witnesses:
            assert witness.file_of(spec) or re.match(r"(PTRACE|NT)_", spec), spec


def own() -> witness.Shown:
    shown = witness.read(os.getpid(), os.getpid(), dict.fromkeys(map(witness.file_of, SPECS)))
    assert isinstance(shown, witness.Shown)
    return shown


@pytest.mark.parametrize("spec", SPECS)
def test_every_spec_has_a_value(spec: str) -> None:
    value = own().value(spec, 0)
    assert not isinstance(value, Absent)


def test_values_are_those_of_the_process() -> None:
    shown = own()
    assert shown.value("status NSpid", 0) == shown.value("status Pid", 0) == os.getpid()
    assert shown.value("status NSsid", 0) == os.getsid(0)
    assert [shown.value(f"status Uid {n}", 0) for n in (1, 2, 3)] == list(os.getresuid())
    assert [shown.value(f"status Gid {n}", 0) for n in (1, 2, 3)] == list(os.getresgid())
    groups = shown.value("status Groups", 0)
    assert isinstance(groups, tuple) and sorted(groups) == sorted(os.getgroups())
    assert shown.value("status Cpus_allowed", 0) == sum(1 << cpu for cpu in os.sched_getaffinity(0))
    assert shown.value("stat 19", 0) == os.getpriority(os.PRIO_PROCESS, 0)
    assert shown.value("ns/pid", 0) == os.stat("/proc/self/ns/pid").st_ino
    assert shown.value("comm", 0) == Path("/proc/self/comm").read_bytes().rstrip(b"\n")
    found = os.stat("/proc/self/exe")
    assert shown.value("exe ino", 0) == found.st_ino
    assert shown.value("exe dev", 0) == os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    levels = shown.value("status NSpid *", 0)
    assert isinstance(levels, tuple) and levels[0] == os.getpid()
    assert shown.value("stat 3", 0) == "R"
    assert shown.value("group stat 38", 0) == shown.value("stat 38", 0)


def test_what_is_not_there_is_absent() -> None:
    shown = own()
    assert isinstance(shown.value("status NoSuchKey", 0), Absent)
    assert shown.value("status NSpid", 40) == witness.WITHHELD
    assert isinstance(shown.value("stat 99", 0), Absent)
    assert witness.read(os.getpid(), os.getpid(), ()).value("stat 3", 0) == witness.NOT_READ  # type: ignore[union-attr]
    assert isinstance(witness.read(2**22 - 1, 2**22 - 1, ("stat",)), int)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith(("ns/", "comm"))])
def test_an_empty_file_withholds_what_every_task_has(spec: str) -> None:
    shown = own()
    shown.raw[witness.file_of(spec)] = b""
    assert shown.value(spec, 0) == witness.WITHHELD


def test_what_is_of_the_process_is_not_asked_of_a_thread() -> None:
    seen: list[object] = []

    def look() -> None:
        shown = witness.read(threading.get_native_id(), os.getpid(), ("exe", "group", "stat"))
        assert isinstance(shown, witness.Shown)
        seen.extend(shown.value(spec, 0) for spec in ("exe ino", "group stat 52", "stat 3"))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert isinstance(seen[0], Absent) and isinstance(seen[1], Absent)
    assert seen[2] == "R"


def test_ids_of_who_is_there() -> None:
    found = witness.ids([os.getpid(), 2**22 - 1])
    assert found.keys() == {os.getpid()}
    group, levels = found[os.getpid()]
    assert group == levels[0] == os.getpid()
