"""``cptbpf crosscheck --watch``: changes of credentials, for people and for programs."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cptbpf.cli import credentials
from cptbpf.kernel.cred_watch import CredChange, CredWatch
from tests.harness import SLOWNESS, Target

pytestmark = pytest.mark.bpf
CPTBPF = str(Path(sys.executable).with_name("cptbpf"))
WHILE = f"{1200 + 300 * SLOWNESS}ms"
CHANGES = "while :; do setpriv --reuid 1234 --clear-groups sleep 0.2; done"


def watch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CPTBPF, "crosscheck", *arguments], capture_output=True, text=True, check=False)


def test_changes_are_reported(spawn: Callable[..., Target]) -> None:
    changing = spawn(["sh", "-c", CHANGES])
    done = watch("--pidns", str(changing.host_pid), "--watch", WHILE, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["hook"] in ("fentry", "kprobe", "sched_switch")
    told = [change for change in document["changes"] if change["new"]["uid"] == 1234 and change["old"]["uid"] != 1234]
    assert told
    assert all({"uid", "euid", "suid", "fsuid"} <= set(change["changed"]) for change in told)
    assert document["summary"]["disagree"] == 0


def test_a_line_for_each_change(spawn: Callable[..., Target]) -> None:
    changing = spawn(["sh", "-c", CHANGES])
    done = watch("--pidns", str(changing.host_pid), "--watch", WHILE)
    assert done.returncode == 0, done.stderr
    assert "uid 0 -> 1234" in done.stdout
    assert "every task has what it was given" in done.stdout.splitlines()[-1]


def test_what_no_change_explains_is_a_finding(
    spawn: Callable[..., Target], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reports that are off by one in one id."""
    honest = CredWatch.read

    def lying(watch: CredWatch) -> list[CredChange]:
        return [change._replace(new=change.new._replace(sgid=change.new.sgid ^ 1)) for change in honest(watch)]

    monkeypatch.setattr(CredWatch, "read", lying)
    changing = spawn(["sh", "-c", "while :; do setpriv --reuid 1234 --clear-groups sleep 1; done"])
    assert credentials.run(str(changing.host_pid), None, 2.0 * SLOWNESS, False) == 1
    told = capsys.readouterr().out
    assert "; DISAGREES with what a pass shows" in told
    assert " disagree" in told.splitlines()[-1]


def test_a_signal_ends_it_with_what_was_found(spawn: Callable[..., Target]) -> None:
    changing = spawn(["sh", "-c", CHANGES])
    words = [CPTBPF, "crosscheck", "--pidns", str(changing.host_pid), "--watch", "1h", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as watching:
        time.sleep(3 * SLOWNESS)
        watching.send_signal(signal.SIGINT)
        document = json.loads(watching.communicate()[0])
    assert watching.returncode == 0
    assert document["changes"]


@pytest.mark.parametrize("arguments", [("--no-freeze", "--watch", "1s", "--pid", "1"), ("image", "--watch", "1s")])
def test_a_watch_is_of_a_live_target(arguments: tuple[str, ...]) -> None:
    done = watch(*arguments)
    assert done.returncode == 2
    assert "--watch" in done.stderr


def test_cap_sys_admin_is_not_needed(spawn: Callable[..., Target]) -> None:
    changing = spawn(["sh", "-c", CHANGES])
    before = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--"]
    watching = [CPTBPF, "crosscheck", "--pidns", str(changing.host_pid), "--watch", WHILE]
    done = subprocess.run([*before, *watching], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "uid 0 -> 1234" in done.stdout
