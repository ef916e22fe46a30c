"""Memory for passes: as much as is asked for, and more where a pass is longer than was thought."""

import os
from collections.abc import Callable

import pytest

from cptbpf.kernel.room import READ, Room, Stream


def through_a_pipe(data: bytes, read: Callable[[int], object]) -> object:
    """What ``read`` makes of a descriptor that gives the data, no more than a page at a time."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        for at in range(0, len(data), 4096):
            os.write(writing, data[at : at + 4096])
        os._exit(0)
    os.close(writing)
    try:
        return read(reading)
    finally:
        os.close(reading)
        os.waitpid(pid, 0)


def streamed(room: Room, descriptor: int) -> memoryview:
    """All of a descriptor, which stays open, in a region."""
    with Stream(os.dup(descriptor)) as stream:
        return room.region(stream)


@pytest.mark.parametrize("size", [0, 1, 4096, READ, 3 * READ + 8, 40 * READ])
@pytest.mark.parametrize("prepared", [0, 1, READ, 20 * READ, 80 * READ])
def test_all_is_read(size: int, prepared: int) -> None:
    data = os.urandom(size)
    room = Room()
    room.prepare(prepared)
    assert through_a_pipe(data, lambda descriptor: streamed(room, descriptor)) == data
    for _ in range(2):  # into memory that grows, then into as much as it took
        assert through_a_pipe(data, room.whole) == data
        assert room.expected == size


def test_no_memory_is_given_out_twice() -> None:
    room = Room()
    room.prepare(READ)
    first = through_a_pipe(b"a" * 5000, lambda descriptor: streamed(room, descriptor))
    second = through_a_pipe(b"b" * 5000, lambda descriptor: streamed(room, descriptor))
    assert first == b"a" * 5000
    assert second == b"b" * 5000


def test_an_error_is_no_end() -> None:
    directory = os.open("/", os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        streamed(Room(), directory)
    os.close(directory)
