"""The texts that say where values are from: what is put together is understood again, and nothing else is."""

import pytest

from cptbpf.fields import group
from cptbpf.image.provenance import (
    ABSENT,
    SAMPLED,
    absent_fields,
    compared,
    from_pass,
    is_absent,
    is_by_nature,
    is_sampled,
    not_stopped,
    reason,
    source_of,
    while_running,
)


def test_the_more_specific_key_holds() -> None:
    said = {"io": "absent: no", "io.syscr": "proc", "task.state": "kernel:A"}
    assert source_of(said, "io") == source_of(said, "io", "rchar") == "absent: no"
    assert source_of(said, "io", "syscr") == "proc"
    assert source_of(said, "task", "state") == "kernel:A"
    assert source_of(said, "task", "pid") == source_of(said, "cred") == source_of({}, "task", "state") == ""


def test_what_the_page_of_the_format_says() -> None:
    assert from_pass("B") == "kernel:B"
    assert while_running("kernel:B", "in uninterruptible sleep") == "kernel:B, not stopped: in uninterruptible sleep"
    assert (compared("kernel:B", True), compared("kernel:B", False)) == ("kernel:B, equal", "kernel:B, differs")
    assert (ABSENT, SAMPLED) == ("absent: ", "kernel:sample")


def test_who_was_not_stopped() -> None:
    why = "traced by another process (host pid 7), not stopped: twice"
    assert not_stopped(while_running(from_pass("B"), why)) == why
    for source in ("", "ptrace", "kernel:B", "absent: not stopped: no", compared("kernel:B", True)):
        assert not_stopped(source) == ""


def test_what_is_absent_and_why() -> None:
    assert is_absent(f"{ABSENT}on a cpu") and reason(f"{ABSENT}on a cpu") == "on a cpu"
    assert not is_absent("") and not is_absent("derived: absent: no") and not is_absent(SAMPLED)


def test_fields_are_absent_by_themselves_or_with_their_group() -> None:
    said = {
        "task": "kernel:A",
        "io": "absent: no",
        "io.syscr": "proc",
        "sched.run_delay": "absent: no",
        "regs": "absent: on a cpu",
        "groups": "absent: too many",
    }
    whole = {field.name for field in group("io")}
    assert absent_fields(said) == whole - {"syscr"} | {"run_delay"}
    assert absent_fields(said) is absent_fields(said)
    assert absent_fields({}) == frozenset()


def test_more_provenances_than_are_kept() -> None:
    several = [{"io": f"absent: {number}"} for number in range(3000)]
    for _ in range(2):
        assert {len(absent_fields(said)) for said in several} == {len(group("io"))}


@pytest.mark.parametrize(
    ("source", "natural"),
    [
        ("absent: the task is dead", True),
        ("absent: no executable (a kernel thread or a zombie), or the process is gone", True),
        ("absent: the kernel has no CONFIG_SECCOMP", True),
        ("absent: a sampler does not follow it", True),
        ("absent: on a cpu", False),
        ("absent: more than 65536 groups", False),
        ("derived: the task is dead", False),
        ("", False),
    ],
)
def test_what_is_absent_by_nature(source: str, natural: bool) -> None:
    assert is_by_nature(source) is natural


def test_what_a_sampler_told() -> None:
    assert is_sampled(SAMPLED) and not is_sampled(from_pass("A")) and not is_sampled("")
