"""What CRIU puts into its image of a task, and what stands in ours: the same registers, FPU area and credentials."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cptbpf.image.model import TaskImage, X86_64Regs
from cptbpf.image.segments import encode_segment
from tests.conductors.shots import Shot, shoot, value
from tests.harness import Target, build, until

pytestmark = [pytest.mark.bpf, pytest.mark.ptrace, pytest.mark.needs("criu")]

# CRIU's name: ours
GENERAL = {name: name for name in ("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")}
GENERAL |= {name: f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip")}
GENERAL |= {"orig_ax": "orig_rax", "flags": "eflags", "fs_base": "fsbase", "gs_base": "gsbase"}
SEGMENTS = {"cs": "cs", "ss": "ss", "ds": "ds", "es": "es", "fs": "fsindex", "gs": "gsindex"}
IDS = ("uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid")
CAPABILITIES = {name: f"cap_{ours}" for name, ours in (
    ("cap_inh", "inheritable"), ("cap_prm", "permitted"), ("cap_eff", "effective"), ("cap_bnd", "bset"),
)}  # fmt: skip
SYSCALL = 2  # bytes of the instruction
ERESTARTNOHAND = 2**64 - 514

WORN = (  # the program itself keeps what it is started with
    *("setpriv", "--ruid", "1001", "--rgid", "2001", "--egid", "2002", "--groups", "3001,3002"),
    *("--inh-caps", "+net_raw,+chown", "--bounding-set", "-sys_boot", "--securebits", "+keep_caps_locked"),
)


def number(shown: int | str) -> int:
    """A number as crit shows it."""
    return int(shown, 0) if isinstance(shown, str) else shown


def words(shown: list[int | str]) -> bytes:
    """An array of 32-bit words, as it lies in memory."""
    return b"".join((number(word) & 0xFFFFFFFF).to_bytes(4, "little") for word in shown)


def dump(pid: int, folder: Path) -> dict[str, Any]:
    """The core entry of CRIU's image of a process, which goes on afterwards."""
    command = ["criu", "dump", "--tree", str(pid), "--leave-running", "--images-dir", str(folder), "--log-file", "log"]
    done = subprocess.run(command, capture_output=True)
    log = folder / "log"
    assert done.returncode == 0, log.read_text()[-2000:] if log.exists() else done.stderr
    core = subprocess.run(["crit", "decode", "-i", str(folder / f"core-{pid}.img")], check=True, capture_output=True)
    entry: dict[str, Any] = json.loads(core.stdout)["entries"][0]
    return entry


def shot_at(program: Target, rip: int) -> TaskImage:
    """The program in an image of ours, at the instruction where all its registers are set."""

    def there() -> Shot | None:
        shot = shoot(pid=program.host_pid)
        regs = shot.tasks[program.host_pid].regs
        return shot if isinstance(regs, X86_64Regs) and regs.rip == rip else None

    shot = until(there, f"rip {rip:#x}")
    assert shot
    assert shot.summary.consistent
    return shot.tasks[program.host_pid]


@pytest.mark.parametrize("state", ["spin", "blocked"])
def test_registers_and_credentials(spawn: Callable[..., Target], tmp_path: Path, state: str) -> None:
    assert shutil.which("crit"), "criu without its crit"
    program = spawn([*WORN, str(build("marked")), state], ns=False, ready=True)
    task = shot_at(program, int(next(line.split()[1] for line in program.lines if line.startswith("rip ")), 0))
    entry = dump(program.host_pid, tmp_path)
    assert_same_registers(task, entry["thread_info"]["gpregs"], blocked=state == "blocked")
    assert_same_fpu(task, entry["thread_info"]["fpregs"])
    assert_same_credentials(task, entry["thread_core"]["creds"])
    assert shot_at(program, task.regs.rip).fxsave == task.fxsave  # type: ignore[union-attr]  # still there, with all it had


def assert_same_registers(task: TaskImage, theirs: dict[str, Any], blocked: bool) -> None:
    regs = task.regs
    assert isinstance(regs, X86_64Regs)
    expected = {name: getattr(regs, ours) for name, ours in GENERAL.items()}
    if blocked:  # CRIU has an interrupted system call begin anew: its number in rax, its instruction next
        assert regs.rax == ERESTARTNOHAND
        expected |= {"ax": regs.orig_rax, "ip": regs.rip - SYSCALL}
    assert {name: number(theirs[name]) for name in expected} == expected
    assert {name: encode_segment(number(theirs[name]))[0] for name in SEGMENTS} == {
        name: getattr(regs, ours) for name, ours in SEGMENTS.items()
    }


def assert_same_fpu(task: TaskImage, theirs: dict[str, Any]) -> None:
    assert task.fxsave
    assert words(theirs["st_space"]) == bytes(task.fxsave[32:160])
    assert words(theirs["xmm_space"]) == bytes(task.fxsave[160:416])
    assert number(theirs["cwd"]) == int.from_bytes(task.fxsave[:2], "little")
    assert number(theirs["mxcsr"]) == int.from_bytes(task.fxsave[24:28], "little")


def assert_same_credentials(task: TaskImage, theirs: dict[str, Any]) -> None:
    ids = {name: number(theirs[name]) for name in IDS}
    assert ids == {name: value(task, name) for name in IDS}
    assert (ids["uid"], ids["euid"], ids["gid"], ids["egid"]) == (1001, 0, 2001, 2002)
    capabilities = {ours: int.from_bytes(words(theirs[name]), "little") for name, ours in CAPABILITIES.items()}
    assert capabilities == {name: value(task, name) for name in CAPABILITIES.values()}
    assert number(theirs["secbits"]) == value(task, "securebits") == 0x20
    assert [number(group) for group in theirs["groups"]] == [*task.ext["groups"]] == [3001, 3002]
