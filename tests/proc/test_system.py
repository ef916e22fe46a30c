import os
import platform
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cptbpf import capabilities
from cptbpf.errors import PrivilegeError
from cptbpf.proc import system


def test_the_machine_is_the_one_that_we_run_on() -> None:
    seen = system.system()
    assert (seen.release, seen.version, seen.machine) == (platform.release(), platform.version(), platform.machine())
    assert seen.hostname == platform.node()
    assert seen.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert seen.user_hz == 100
    assert seen.page_size == 4096
    assert seen.hz in (100, 250, 300, 1000)


def test_the_kernels_build_id_is_in_its_notes() -> None:
    found = system.system().build_id
    assert len(found) == 40
    assert bytes.fromhex(found) in Path("/sys/kernel/notes").read_bytes()


def test_a_build_id_is_found_among_other_notes_and_never_outside() -> None:
    other = struct.pack("<III", 6, 5, 3) + b"Linux\0\0\0" + b"abcde\0\0\0"
    build = struct.pack("<III", 4, 4, 3) + b"GNU\0" + b"\1\2\3\4"
    assert system._build_id(other + build) == b"\1\2\3\4"
    assert system._build_id(other) == b""
    assert system._build_id(struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 3) + b"GNU\0") == b""
    assert system._build_id(b"\1") == b""


def test_the_clocks_are_of_one_instant() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    seen = system.clocks()
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before <= seen.boottime <= after
    assert 0 <= seen.spread <= after - before
    offset = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert abs(seen.boottime - seen.monotonic - offset) <= seen.spread + (after - before) + 1_000_000


def test_capabilities_are_those_of_this_thread() -> None:
    mask = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    assert capabilities.effective() == set(capabilities.names(int(mask, 16)))


def test_names_of_a_mask() -> None:
    assert capabilities.names(0) == ()
    assert capabilities.names(1 << 19 | 1) == ("CAP_CHOWN", "CAP_SYS_PTRACE")
    assert capabilities.names(1 << 40) == ("CAP_CHECKPOINT_RESTORE",)
    assert capabilities.names(1 << 60) == ("CAP_60",)


def test_a_missing_capability_is_named() -> None:
    with pytest.raises(PrivilegeError, match="to do more, CAP_60 is needed") as caught:
        capabilities.require("to do more", "CAP_60")
    assert "root" in caught.value.remedy
    capabilities.require("to do nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to give it away")
def test_root_without_capabilities_is_not_enough() -> None:
    script = "from cptbpf import capabilities; capabilities.require('to stop tasks', 'CAP_SYS_PTRACE', 'CAP_BPF')"
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-c", script]
    said = subprocess.run(command, env=path, capture_output=True, text=True)
    assert "PrivilegeError: to stop tasks, CAP_SYS_PTRACE and CAP_BPF is needed" in said.stderr
