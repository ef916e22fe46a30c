"""What ``check`` tries, and what it says of a kernel that has not all of it."""

import ctypes
from pathlib import Path

import pytest

from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, probe
from cptbpf.kernel.loader import unlimited_memlock

pytestmark = pytest.mark.bpf

NO_SUCH_PMU = 2**31 - 1


def test_a_kernel_without_kprobes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bpf, "_KPROBE_PMU", str(tmp_path))
    with unlimited_memlock(), pytest.raises(UnsupportedError, match="no kprobes"):
        probe.kprobe()


def test_what_enoent_of_a_kprobe_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An event of a kind that the kernel does not know is refused in the same way as a function that it does not know."""
    (tmp_path / "type").write_text(f"{NO_SUCH_PMU}\n")
    monkeypatch.setattr(bpf, "_KPROBE_PMU", str(tmp_path))
    with unlimited_memlock(), pytest.raises(UnsupportedError, match=r"^the kernel has no do_exit$"):
        probe.kprobe()


@pytest.mark.kprobe
def test_a_kprobe_on_a_function_that_the_kernel_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with unlimited_memlock():
        assert probe.kprobe() == "attaches"
        monkeypatch.setattr(probe, "_FUNCTION", "no_such_function")
        with pytest.raises(UnsupportedError, match=r"^the kernel has no no_such_function$"):
            probe.kprobe()


def test_an_event_that_the_kernel_refuses() -> None:
    with pytest.raises(OSError):
        bpf.perf_event_open(bytes(8))
    assert probe.perf_event() == "open"


def test_libbpf_is_there_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe.libbpf().startswith("1.")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("libbpf.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    for action in (probe.libbpf, probe.btf):
        with pytest.raises(UnsupportedError, match=r"^libbpf\.so\.1 is not installed$") as caught:
            action()
        assert "libbpf1" in caught.value.remedy
