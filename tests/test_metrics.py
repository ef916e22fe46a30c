"""What Prometheus is told: sums that never fall, few series, and names that are harmless."""

import os
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cptbpf.conductors.events import Cred, Drop, Exec, Exit, Fork, Sample
from cptbpf.conductors.record import state_of
from cptbpf.errors import TargetError
from cptbpf.image.model import DROP_REASONS
from cptbpf.kernel.record import TaskState
from cptbpf.metrics import Metrics, Server, parse_address
from tests.image.recordings import row

SECOND = 1_000_000_000
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def state(pid: int, comm: bytes = b"prog", **values: int) -> TaskState:
    return state_of(row(pid, comm=comm.ljust(16, b"\0"), **values), {})


def series(metrics: Metrics) -> Series:
    """Everything, as Prometheus reads it."""
    registry = CollectorRegistry()
    registry.register(metrics)
    return parsed(generate_latest(registry).decode())


def parsed(text: str) -> Series:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} stands there twice"
            found[key] = sample.value
    return found


def get(found: Series, name: str, **labels: str) -> float:
    labels.setdefault("pid_ns", "42")
    return found[name, frozenset(labels.items())]


def names(found: Series, name: str) -> set[str]:
    return {dict(labels)["pid"] for key, labels in found if key == name}


def test_sums_of_tasks_and_of_those_that_have_ended() -> None:
    metrics = Metrics(42)
    metrics.take([Sample(1, state(1, utime=2 * SECOND, nvcsw=5)), Sample(1, state(2, tgid=1, utime=SECOND, maj_flt=3))])
    found = series(metrics)
    assert get(found, "cptbpf_namespace_cpu_seconds_total", mode="user") == 3
    assert get(found, "cptbpf_process_cpu_seconds_total", mode="user", pid="1", comm="prog") == 3
    metrics.take([Exit(2, state(2, tgid=1, utime=4 * SECOND), 0), Fork(3, state(3)), Exit(4, state(3, min_flt=8), 0)])
    found = series(metrics)
    assert get(found, "cptbpf_namespace_cpu_seconds_total", mode="user") == 6
    assert get(found, "cptbpf_process_cpu_seconds_total", mode="user", pid="1", comm="prog") == 6
    assert get(found, "cptbpf_namespace_page_faults_total", kind="minor") == 8
    assert get(found, "cptbpf_namespace_context_switches_total", kind="voluntary") == 5
    assert names(found, "cptbpf_process_page_faults_total") == {"1"}
    assert get(found, "cptbpf_events_total", event="exit") == 2


def test_no_sum_ever_falls() -> None:
    metrics = Metrics(42, processes=3)
    before: Series = {}
    for turn in range(1, 40):
        pid = turn % 7 + 1
        metrics.take([Sample(turn, state(pid, utime=turn * SECOND, real_start_time=turn // 7 << 32))])
        if turn % 5 == 0:
            metrics.take([Exit(turn, state(pid, utime=turn * SECOND, real_start_time=turn // 7 << 32), 0)])
        now = series(metrics)
        for key, value in before.items():
            if key[0].startswith("cptbpf_namespace_") and key[0].endswith("_total"):
                assert now[key] >= value
        before = now


def test_exec_by_a_thread_counts_nobody_twice() -> None:
    metrics = Metrics(42)
    metrics.take([Sample(1, state(5, nvcsw=10)), Sample(1, state(7, tgid=5, nvcsw=100))])
    metrics.take([Exec(2, state(5, nvcsw=101), 7), Exit(2, state(7, tgid=5, nvcsw=11, real_start_time=105), 5)])
    assert get(series(metrics), "cptbpf_namespace_context_switches_total", kind="voluntary") == 112


def test_a_storm_of_processes_makes_no_storm_of_series() -> None:
    metrics = Metrics(42, processes=10)
    metrics.take(Sample(1, state(pid, utime=pid * SECOND)) for pid in range(1, 501))
    found = series(metrics)
    assert names(found, "cptbpf_process_cpu_seconds_total") == {str(pid) for pid in range(491, 501)}
    assert get(found, "cptbpf_processes_not_shown") == 490
    metrics.take([Sample(2, state(1, utime=9999 * SECOND)), Exit(2, state(500), 0)])
    found = series(metrics)  # who is shown stays, the free place goes to the busiest
    assert names(found, "cptbpf_process_cpu_seconds_total") == {"1", *(str(pid) for pid in range(491, 500))}
    assert len(found) < 200


def test_no_more_series_than_the_documentation_says() -> None:
    metrics = Metrics(42)
    told = [Sample(1, state(pid, utime=pid)) for pid in range(1, 301)]
    drops = [Drop(1, 0, 1, why) for why in DROP_REASONS]
    metrics.take([*told, *drops, Fork(1, state(1)), Exec(2, state(1), 0), Cred(3, state(1), None), Exit(4, state(300), 0)])
    text = (Path(__file__).parents[1] / "docs" / "sampling.md").read_text()
    assert f"at most {len(series(metrics))} series" in text


def test_states_losses_and_hostile_names() -> None:
    metrics = Metrics(42)
    metrics.take([Sample(1, state(1, b'a"\n\x1b\xff\\', state=2)), Sample(1, state(2)), Drop(1, 0, 5, "full")])
    metrics.take([Cred(2, state(2, state=1), None)])
    found = series(metrics)
    assert get(found, "cptbpf_namespace_tasks", state="uninterruptible") == 1
    assert get(found, "cptbpf_namespace_tasks", state="sleeping") == 1
    assert get(found, "cptbpf_lost_reports_total", why="full") == 5
    shown = {dict(labels)["comm"] for key, labels in found if key == "cptbpf_process_page_faults_total"}
    assert all(name.isprintable() for name in shown) and len(shown) == 2


def test_it_is_served_on_loopback_until_it_ends() -> None:
    metrics = Metrics(42)
    metrics.take([Sample(1, state(1, nivcsw=3))])
    with Server(":0", metrics) as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url) as answer:
            found = parsed(answer.read().decode())
        assert get(found, "cptbpf_process_context_switches_total", kind="involuntary", pid="1", comm="prog") == 3
        assert addresses(server.port) == {"0100007F"}
        with pytest.raises(TargetError, match="cannot listen"):
            Server(f":{server.port}", metrics)
    with pytest.raises(OSError):
        urllib.request.urlopen(url)


def addresses(port: int) -> set[str]:
    """The addresses, in hex, at which something listens on a port."""
    lines: Iterable[list[str]] = [line.split() for line in Path(f"/proc/{os.getpid()}/net/tcp").read_text().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and int(line[1].split(":")[1], 16) == port}


@pytest.mark.parametrize(
    ("text", "address"),
    [("9400", ("127.0.0.1", 9400)), (":1", ("127.0.0.1", 1)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:90", ("::1", 90))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "x", "1:", "a:b", ":70000", ":-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(TargetError, match="ADDR:PORT"):
        parse_address(text)
