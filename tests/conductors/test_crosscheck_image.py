"""The check of an image against itself: real images agree, and one bit in any of the two views is found."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cptbpf
from cptbpf.conductors.crosscheck import Report
from cptbpf.conductors.crosscheck.fpu import compare_fpu
from cptbpf.image import model
from cptbpf.image.output import StreamOutput
from cptbpf.image.reader import parse
from cptbpf.image.tojson import FIELD_NAMES
from cptbpf.image.writer import ImageWriter
from tests.conductors.checks import checked, disagreeing
from tests.conductors.shots import shoot
from tests.harness import Target

ENOSYS, ERESTARTNOHAND = 2**64 - 38, 2**64 - 514


def check(image: model.Image) -> Report:
    """The check of an image as it is when it is written with these values."""
    stream = io.BytesIO()
    writer = ImageWriter(StreamOutput(stream), image.head, image.meta)
    for task in image.tasks:
        writer.write_task(task)
    writer.finish(image.trailer.flags, image.trailer.entries)
    return cptbpf.crosscheck(file=io.BytesIO(stream.getvalue()))  # type: ignore[no-any-return]


def wrong(report: Report) -> list[tuple[int, str]]:
    return [(result.pid, result.field) for result in report.results if result.verdict == "disagree"]


def changed(image: model.Image, pid: int, /, **values: Any) -> model.Image:
    """The image with other values of one task: parts of a TaskImage, of its record, of ``ext``, or provenance."""
    tasks = []
    for task in image.tasks:
        if task.task.pid == pid:
            record = {name: value for name, value in values.items() if name in model.TaskRecord._fields}
            parts = {name: value for name, value in values.items() if name in ("regs", "fxsave", "xsave")}
            ext = {name: value for name, value in values.items() if name not in record and name not in parts and name != "said"}
            task = task._replace(
                task=task.task._replace(**record),
                ext={**task.ext, **ext},
                provenance={**task.provenance, **values.get("said", {})},
                **parts,
            )
        tasks.append(task)
    return image._replace(tasks=tuple(tasks))


@pytest.fixture
def image(target: Callable[..., Target]) -> model.Image:
    """A real image: a shell as pid 1, a process of three threads as pid 2."""
    return shoot(target("threads", 2, init=True)).image


@pytest.mark.bpf
@pytest.mark.ptrace
class TestOfARealImage:
    def test_it_agrees_with_itself(self, image: model.Image) -> None:
        report = check(image)
        assert wrong(report) == []
        assert not report.finding
        assert {result.verdict for result in report.results} == {"agree"}
        fields = {(result.field, result.witness) for result in report.results if result.pid == 2}
        assert {("rip", "ptrace"), ("fsbase", "ptrace"), ("fxsave", "ptrace"), ("pid", "image"), ("ngroups", "image")} <= fields
        assert report.summary.tasks == len(image.tasks) == len(report.names)

    @pytest.mark.parametrize("name", ["rip", "rsp", "r15", "fsbase", "eflags", "cs"])
    def test_a_register_that_the_kernel_saw_otherwise(self, image: model.Image, name: str) -> None:
        regs = next(task.regs for task in image.tasks if task.task.pid == 2)
        assert isinstance(regs, model.X86_64Regs)
        kernel = regs._replace(**{name: getattr(regs, name) ^ 1})
        found = check(changed(image, 2, kregs=kernel, said={"kregs": "kernel:B, differs"}))
        assert wrong(found) == [(2, name)]
        assert found.finding

    def test_rax_in_a_system_call_across_passes_alone(self, image: model.Image) -> None:
        regs = next(task.regs for task in image.tasks if task.task.pid == 2)
        assert isinstance(regs, model.X86_64Regs)
        kernel, ours = regs._replace(rax=ENOSYS), regs._replace(rax=ERESTARTNOHAND)
        across = check(changed(image, 2, regs=ours, kregs=kernel, said={"kregs": "kernel:A, differs"}))
        assert wrong(across) == []
        assert [result.verdict for result in across.results if (result.pid, result.field) == (2, "rax")] == ["explained"]
        at_once = check(changed(image, 2, regs=ours, kregs=kernel, said={"kregs": "kernel:B, differs"}))
        assert wrong(at_once) == [(2, "rax")]
        other = check(changed(image, 2, regs=ours._replace(rax=0), kregs=kernel, said={"kregs": "kernel:A, differs"}))
        assert wrong(other) == [(2, "rax")]

    @pytest.mark.needs("xsave")
    def test_an_area_of_the_fpu_that_the_kernel_saw_otherwise(self, image: model.Image) -> None:
        task = next(task for task in image.tasks if task.task.pid == 2)
        assert task.xsave is not None and task.fxsave is not None
        kernel = bytearray(task.xsave)
        kernel[160] ^= 1
        assert wrong(check(changed(image, 2, kxsave=bytes(kernel), said={"kxsave": "kernel:B, differs"}))) == [(2, "xsave")]
        fxsave = bytearray(task.fxsave)
        fxsave[32] ^= 1
        found = wrong(check(changed(image, 2, kfxsave=bytes(fxsave), said={"kfxsave": "kernel:B, differs"})))
        assert found == [(2, "fxsave")]
        assert wrong(check(changed(image, 2, fxsave=bytes(fxsave)))) == [(2, "fxsave")], "not the head of xsave any more"

    @pytest.mark.parametrize(
        ("values", "field"),
        [
            ({"utimescaled": 1}, "utimescaled"),
            ({"stimescaled": 1}, "stimescaled"),
            ({"flags": 0x20}, "flags"),
            ({"pid": 77}, "pid"),
            ({"groups": (1, 2, 3)}, "ngroups"),
        ],
    )
    def test_what_does_not_follow(self, image: model.Image, values: dict[str, Any], field: str) -> None:
        assert field in {name for _, name in wrong(check(changed(image, 2, **values)))}

    def test_threads_of_one_process_share_its_session(self, image: model.Image) -> None:
        thread = next(task.task.pid for task in image.tasks if task.task.pid != task.task.tgid)
        assert wrong(check(changed(image, thread, session=99))) == [(thread, "session")]

    def test_signals_that_come_while_they_stand_still(self, image: model.Image) -> None:
        """One thread is read after the other: who was read later may have more in the queue of their process."""
        one = next(task for task in image.tasks if task.task.pid != task.task.tgid)
        leader = next(task for task in image.tasks if task.task.pid == one.task.tgid)
        assert leader.value("host_pid") < one.value("host_pid"), "the order in which the kernel lists them"
        usr1, stop = 1 << 9, 1 << 18

        def verdict(first: int, last: int) -> str:
            moved = changed(changed(image, leader.task.pid, **pending(leader, first)), one.task.pid, **pending(one, last))
            (found,) = [
                result for result in check(moved).results if (result.pid, result.field) == (one.task.pid, "sig_shared_pending")
            ]
            return found.verdict

        def pending(task: model.TaskImage, value: int) -> dict[str, Any]:
            names = FIELD_NAMES["signal"]
            values = zip(names, task.ext["signal"], strict=True)
            return {"signal": tuple(value if name == "sig_shared_pending" else own for name, own in values)}

        assert verdict(usr1, usr1) == "agree"
        assert verdict(0, usr1) == "explained"
        assert verdict(usr1, 0) == "disagree"
        assert verdict(usr1 | stop, usr1) == "explained", "SIGCONT takes those that stop"

    def test_what_moved_in_the_window_is_told(self, image: model.Image) -> None:
        moved = image.trailer._replace(flags=model.CERTIFICATE_MOVED, entries=(model.CertificateEntry(2, "nvcsw", "5", "6"),))
        assert wrong(check(image._replace(trailer=moved))) == [(2, "nvcsw")]

    def test_the_command(self, target: Callable[..., Target], tmp_path: Path) -> None:
        file = tmp_path / "one.cpt"
        shot = shoot(target("threads", 1))
        file.write_bytes(shot.data)
        status, document = checked(file)
        assert status == 0 and disagreeing(document) == []
        assert document["summary"]["method"] == "image"
        assert document["tasks"] == {"hidden": [], "phantom": []}
        assert parse(shot.data).trailer.tasks == document["summary"]["tasks"]


# -- the FPU areas, byte by byte -----------------------------------------------------------------------------------------------

AVX, PKRU = (2, 576, 256, 0), (9, 832, 8, 0)
SIZE = 840


def area(present: int) -> bytearray:
    made = bytearray(i * 7 & 0xFF for i in range(SIZE))
    made[512:576] = struct.pack("=Q", present) + bytes(56)
    return made


def verdicts(kernel: bytes, other: bytes) -> dict[str, str]:
    return {rule.partition(": ")[2]: verdict for _, _, _, verdict, rule in compare_fpu(None, kernel, None, other, (AVX, PKRU))}


REST = "components in their initial state"


def test_equal_areas_agree_in_every_component() -> None:
    parts = {"header", "x87", "SSE", "AVX", "PKRU"}
    assert verdicts(area(0x207), area(0x207)) == dict.fromkeys((*parts, REST), "agree")
    assert verdicts(area(0x3), area(0x3)) == dict.fromkeys(("header", "x87", "SSE", REST), "agree")


@pytest.mark.parametrize(
    ("byte", "part"),
    [
        *((0, "x87"), (23, "x87"), (24, "SSE"), (31, "SSE"), (32, "x87"), (159, "x87"), (160, "SSE"), (415, "SSE")),
        *((464, REST), (513, "header"), (575, "header"), (576, "AVX"), (831, "AVX"), (832, "PKRU"), (839, "PKRU")),
    ],
)
def test_one_bit_is_found_in_its_component(byte: int, part: str) -> None:
    other = area(0x207)
    other[byte] ^= 1
    assert [name for name, verdict in verdicts(area(0x207), other).items() if verdict == "disagree"] == [part]


def test_a_component_in_its_initial_state_is_compared_too() -> None:
    other = area(0x3)
    other[576] ^= 1
    assert verdicts(area(0x3), other)[REST] == "disagree"


@pytest.mark.parametrize(("byte", "verdict"), [(0, "disagree"), (463, "disagree"), (464, "explained"), (511, "explained")])
def test_the_software_bytes_of_fxsave_are_no_disagreement(byte: int, verdict: str) -> None:
    ours, other = bytes(512), bytearray(512)
    other[byte] ^= 1
    ((field, _, _, found, rule),) = compare_fpu(ours, None, bytes(other), None, ())
    assert (field, found) == ("fxsave", verdict)
    assert ("software bytes" in rule) == (verdict == "explained")
