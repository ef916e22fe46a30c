"""Names of system calls, against the machine's headers."""

import re
import subprocess

import pytest

from cptbpf import syscalls


@pytest.mark.parametrize(("header", "compat"), [("asm/unistd_64.h", False), ("asm/unistd_32.h", True)])
def test_every_name_of_the_headers(header: str, compat: bool) -> None:
    source = f"#include <{header}>\n"
    command = ["gcc", "-E", "-dM", "-I/usr/include/x86_64-linux-gnu", "-"]
    text = subprocess.run(command, input=source, check=True, capture_output=True, text=True).stdout
    numbers = {int(number): name for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", text, re.MULTILINE)}
    assert len(numbers) > 300
    known = syscalls.names(compat)
    assert {number: known.get(number) for number in numbers} == numbers


def test_what_is_newer_than_the_headers() -> None:
    for compat in (False, True):
        assert [syscalls.name(number, compat) for number in (424, 435, 449, 451, 462, 467)] == [
            "pidfd_send_signal",
            "clone3",
            "futex_waitv",
            "cachestat",
            "mseal",
            "open_tree_attr",
        ]


def test_numbers_that_are_no_system_call() -> None:
    assert syscalls.name(2**64 - 1) is None
    assert syscalls.name(2**32 - 1, compat=True) is None
    assert syscalls.name(4000) == "syscall_4000"
    assert syscalls.name(0) == "read"
    assert syscalls.name(0, compat=True) == "restart_syscall"
