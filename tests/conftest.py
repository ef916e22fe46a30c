"""Fixtures for all tests, and the rule of what may be left out where."""

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.harness import Target, build

pytest_plugins = ["tests.features", "tests.part"]

# Whoever starts the tests may block or ignore signals, as a shell does for a job in the background. What the tests start would
# inherit it.
signal.pthread_sigmask(signal.SIG_SETMASK, ())
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, signal.SIG_DFL)


@pytest.fixture
def spawn() -> Iterator[Callable[..., Target]]:
    """Start programs that end with the test.

    ``spawn(argv, nested=1, ns=True, init=False, ready=False, flags=())``: ``nested`` fresh pid namespaces inside one another,
    or none with ``ns=False``. The program is pid 1 of the innermost one, or 2 below a shell with ``init``. ``ready``: it will
    say so; otherwise it counts as started once it has been executed. ``flags``: more options for unshare(1).
    """
    started: list[Target] = []

    def start(
        argv: Sequence[str],
        nested: int = 1,
        ns: bool = True,
        init: bool = False,
        ready: bool = False,
        flags: Sequence[str] = (),
    ) -> Target:
        started.append(Target(argv, nested if ns else 0, init, ready, flags))
        return started[-1]

    yield start
    for target in reversed(started):
        target.close()


@pytest.fixture
def target(spawn: Callable[..., Target]) -> Callable[..., Target]:
    """Start C targets that end with the test.

    ``target(name, *args, nested=1, ns=True, init=False, flags=())`` builds tests/targets/NAME.c where needed, starts it, and
    returns once it has said that it is ready.
    """

    def start(
        name: str, *args: object, nested: int = 1, ns: bool = True, init: bool = False, flags: Sequence[str] = ()
    ) -> Target:
        argv = [str(build(name)), *map(str, args)]
        return spawn(argv, nested=nested, ns=ns, init=init, ready=True, flags=flags)

    return start


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process that has nothing to do with any target."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()
