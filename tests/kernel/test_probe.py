"""What ``check`` tries, and what it says of a kernel that has not all of it."""

import ctypes

import pytest

from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, probe

pytestmark = pytest.mark.bpf


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
