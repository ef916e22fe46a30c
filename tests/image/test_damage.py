"""A damaged image is refused in one line: never read wrongly, never a traceback, never more memory than the file is worth."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cptbpf.errors import ImageError, TargetError
from cptbpf.image import layout
from cptbpf.image.encode import META_CRC_OFFSET, pack_meta
from cptbpf.image.jsonio import from_json, to_json
from cptbpf.image.model import Image, Meta
from cptbpf.image.reader import load, parse, walk
from cptbpf.image.writer import encode_image
from tests.image.strategies import sealed, small_image

SMALL = encode_image(small_image(1))
META = 32


def objects(data: bytes) -> dict[int, int]:
    """Offset of each object by its type; of several of one type, the last."""
    return {raw.type: offset for offset, raw in walk(BytesIO(data))}


AT = objects(SMALL)


def patched(offset: int, value: int, size: int, data: bytes = SMALL) -> bytes:
    """The image with a number changed and a digest that fits."""
    body = bytearray(data[:-32])
    body[offset : offset + size] = value.to_bytes(size, "little")
    return sealed(bytes(body))


def refused(data: bytes, about: str = ".") -> ImageError:
    with pytest.raises(ImageError, match=about) as caught:
        parse(data)
    assert "\n" not in str(caught.value)
    assert caught.value.offset is not None
    return caught.value


def test_truncated_at_every_byte() -> None:
    for size in range(len(SMALL)):
        refused(SMALL[:size])


def test_every_single_bit() -> None:
    whole = bytearray(SMALL)
    for bit in range(8 * len(whole)):
        whole[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(ImageError):
            parse(bytes(whole))
        whole[bit >> 3] ^= 1 << (bit & 7)
    assert parse(bytes(whole))


def test_more_at_the_end() -> None:
    refused(SMALL + bytes(8))
    refused(SMALL + SMALL)


@pytest.mark.parametrize("length", [0, 8, 15, 16, 17, 24, 280, 296, 1 << 32, (1 << 64) - 8, (1 << 64) - 1])
def test_lengths(length: int) -> None:
    refused(patched(AT[layout.CPT_OBJ_TASK], length, 8))


@pytest.mark.parametrize("hdrlen", [0, 8, 15, 280, 289, 1 << 31, (1 << 32) - 1])
def test_header_lengths(hdrlen: int) -> None:
    assert refused(patched(AT[layout.CPT_OBJ_TASK] + 8, hdrlen, 4)).offset == AT[layout.CPT_OBJ_TASK]


@pytest.mark.parametrize(
    "number", [layout.CPT_OBJ_KSTACK, layout.CPT_OBJ_EXE, layout.CPT_OBJ_GROUPS, layout.CPT_OBJ_PROVENANCE]
)
@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 32) - 1])
def test_payload_sizes(number: int, size: int) -> None:
    refused(patched(AT[number] + 16, size, 4))


def test_padding_is_zero() -> None:
    task = parse(SMALL).tasks[0]
    for start, size in (
        (18, 2),  # in the head
        (AT[layout.CPT_OBJ_SCHED] + 76, 4),  # inside a record
        (AT[layout.CPT_OBJ_CRED] + 84, 4),  # behind one
        (AT[layout.CPT_OBJ_CMDLINE] + 24 + len(task.ext["cmdline"]), 1),  # behind a payload
        (AT[layout.CPT_OBJ_PIDS] + 24 + 12, 4),  # in an array's element
    ):
        refused(patched(start, 1, size), "padding")


@pytest.mark.parametrize("reference", [0, 32, 1 << 20, (1 << 64) - 1])
def test_references(reference: int) -> None:
    data = encode_image(small_image(2))
    last = objects(data)[layout.CPT_OBJ_PROVENANCE]
    refused(patched(last + 16, reference, 8, data), "reference")
    refused(patched(last + 16, last, 8, data), "reference")


def recording(kind: int) -> bytes:
    meta = pack_meta(Meta(kind))
    return SMALL[:META] + meta


def test_a_recording_is_not_an_image() -> None:
    assert "recording" in str(refused(recording(1)))
    assert "unknown kind" in str(refused(recording(7)))
    assert "TRAILER" in str(refused(recording(0)))


def test_the_kind_is_under_metas_own_checksum() -> None:
    assert "checksum" in str(refused(patched(META + 16, 1, 4)))
    body = bytearray(SMALL[META : META + int.from_bytes(SMALL[META : META + 8], "little")])
    crc = body[META_CRC_OFFSET : META_CRC_OFFSET + 4]
    body[META_CRC_OFFSET : META_CRC_OFFSET + 4] = bytes(4)
    assert crc32(body).to_bytes(4, "little") == crc


def test_a_second_object_of_one_kind() -> None:
    start = AT[layout.CPT_OBJ_CRED]
    cred = SMALL[start : start + 88]
    refused(sealed(SMALL[:start] + cred + SMALL[start:-32]), "second cred")
    refused(sealed(SMALL[:start] + SMALL[META : AT[0]] + SMALL[start:-32]), "second META")


def test_objects_behind_the_trailer() -> None:
    stranger = layout.OBJECT_HDR.pack(16 + 32, 16, 0x2FFF, 0)
    refused(sealed(SMALL + stranger), "behind the TRAILER")
    refused(sealed(SMALL[: AT[layout.CPT_OBJ_TRAILER]] + stranger), "without a TRAILER")
    start = SMALL[: AT[layout.CPT_OBJ_TRAILER]]
    body = start + layout.TRAILER.pack(64, 40, layout.CPT_OBJ_TRAILER, 0, 1, 0, 0, 0)
    refused(sealed(body), "room for its digest")


def _with_object(number: int, content: int, fixed: bytes, payload: bytes) -> bytes:
    """The image with one more object at the end of its task."""
    hdrlen = 16 + len(fixed)
    size = hdrlen + len(payload)
    more = layout.OBJECT_HDR.pack(size + -size % 8, hdrlen, number, content) + fixed + payload + bytes(-size % 8)
    bare = parse(SMALL)
    bare = bare._replace(tasks=(bare.tasks[0]._replace(ext={}, regs=None, provenance={}),))
    data = encode_image(bare)
    start = objects(data)[layout.CPT_OBJ_TRAILER]
    return sealed(data[:start] + more + data[start:-32])


def _sized(payload: bytes) -> bytes:
    return len(payload).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("number", "content", "payload", "about"),
    [
        (layout.CPT_OBJ_BITS, layout.CPT_CONTENT_X86_FPUSTATE, bytes(511), "fxsave area of 511"),
        (layout.CPT_OBJ_BITS, layout.CPT_CONTENT_XSAVE, bytes(575), "xsave area of 575"),
        (layout.CPT_OBJ_PIDS, layout.CPT_CONTENT_ARRAY, bytes(17), "even"),
        (layout.CPT_OBJ_GROUPS, layout.CPT_CONTENT_ARRAY, bytes(5), "even"),
        (layout.CPT_OBJ_KSTACK, layout.CPT_CONTENT_NAME, b"no end", "without its NUL"),
        (layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_DATA, b"key\0", "without a value"),
        (layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_DATA, b"k\0a\0k\0b\0", "twice"),
        (layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_DATA, b"", "provenance of 0"),
        (layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_DATA, b"k\0" + bytes(1 << 16), "provenance of 65538"),
    ],
)
def test_payloads(number: int, content: int, payload: bytes, about: str) -> None:
    refused(_with_object(number, content, _sized(payload), payload), about)


@pytest.mark.parametrize("size", [4, 7, 52, 55])
def test_a_group_that_ends_inside_a_field(size: int) -> None:
    refused(_with_object(layout.CPT_OBJ_IO, 0, bytes(size), b""), "inside a field")


@pytest.mark.parametrize("size", [0, 8, 48, 56])
def test_an_older_versions_group(size: int) -> None:
    data = _with_object(layout.CPT_OBJ_IO, 0, bytes(size), b"")
    image = parse(data)
    assert image.tasks[0].ext["io"] == (0,) * (size // 8)
    assert encode_image(image) == data


def test_padding_of_an_older_versions_group() -> None:
    fixed = bytes(60) + b"\1" + bytes(11)  # sched up to jobctl, its pad not zero
    refused(_with_object(layout.CPT_OBJ_SCHED, 0, fixed, b""), "padding")


@pytest.mark.parametrize(
    "text", [b"1\0f\0a\0", b"1\0f\0a\0b\0c\0", b"01\0f\0a\0b\0", b"x\0f\0a\0b\0", b"9" * 30 + b"\0f\0a\0b\0"]
)
def test_certificates(text: bytes) -> None:
    start = AT[layout.CPT_OBJ_TRAILER]
    size = 32 + len(text)
    fixed = layout.TRAILER.pack(size + -size % 8 + 32, 32, layout.CPT_OBJ_TRAILER, 0, 1, 2, 1, len(text))
    refused(sealed(SMALL[:start] + fixed + text + bytes(-size % 8)), "certificate")


def test_task_count() -> None:
    refused(patched(AT[layout.CPT_OBJ_TRAILER] + 16, 2, 4), "1 tasks where the TRAILER counts 2")


def test_not_an_image() -> None:
    for data in (b"", b"\x79", b"#!/bin/sh\n", b"\x7fELF" + bytes(100), b"\x79\x1c\x01\x63"):
        refused(data)
    refused(SMALL[:8] + b"\2\0" + SMALL[10:], "version 2")


def test_a_newer_sublevel_is_read() -> None:
    head = parse(patched(10, 3, 2)).head
    assert head.version == (1, 3, 0, 0)


@given(st.binary(max_size=300), st.integers(0, len(SMALL)), st.integers(0, len(SMALL)))
def test_arbitrary_insides_with_a_right_digest(noise: bytes, start: int, end: int) -> None:
    data = sealed((SMALL[:start] + noise + SMALL[end:])[:-32])
    try:
        image = parse(data)
    except ImageError:
        return
    assert encode_image(image) == data


LIMITED = """
import resource, sys, time
sys.path.insert(0, {root!r})
from cptbpf.errors import ImageError
from cptbpf.image.reader import load
limit = {limit}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
try:
    load({path!r})
except ImageError as error:
    print("refused:", error)
else:
    print("read")
"""


def load_limited(path: Path, limit: int) -> str:
    root = str(Path(__file__).parents[2])
    code = LIMITED.format(root=root, path=str(path), limit=limit)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_million_objects(tmp_path: Path) -> None:
    empty = layout.OBJECT_HDR.pack(16, 16, 0x2FFF, 0)
    path = tmp_path / "many.cpt"
    path.write_bytes(sealed(SMALL[: AT[layout.CPT_OBJ_TRAILER]] + empty * 1_000_000 + SMALL[AT[layout.CPT_OBJ_TRAILER] : -32]))
    assert load_limited(path, 1 << 30) == "read\n"
    path.write_bytes(SMALL[: AT[layout.CPT_OBJ_TRAILER]] + layout.OBJECT_HDR.pack(0, 16, 0x2FFF, 0) * 1_000_000)
    assert load_limited(path, 200 << 20).startswith("refused: damaged image: an object of 0 bytes")


def test_lengths_claim_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "claims.cpt"
    for length in ((1 << 64) - 1, (1 << 64) - 8, 1 << 40):
        path.write_bytes(patched(AT[layout.CPT_OBJ_TASK], length, 8))
        assert load_limited(path, 100 << 20).startswith("refused: damaged image")


def test_larger_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse.cpt"
    path.write_bytes(SMALL)
    with open(path, "r+b") as stream:
        stream.truncate(1 << 40)
    assert "does not fit in memory" in load_limited(path, 200 << 20)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no such file"):
        load(tmp_path / "nothing.cpt")
    with pytest.raises(ImageError, match="cannot read"):
        load(tmp_path)
    with pytest.raises(ImageError, match="signature"):
        load("/dev/zero")


def _drop(document: dict[str, Any]) -> None:
    del document["tasks"][0]["task"]["pid"]


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last, value = path

    def change(document: Any) -> None:
        for key in keys:
            document = document[key]
        document[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _drop,
        _set("tasks", 0, "task", "pid", -1),
        _set("tasks", 0, "task", "pid", 1 << 32),
        _set("tasks", 0, "task", "pid", True),
        _set("tasks", 0, "task", "pid", 1.5),
        _set("tasks", 0, "task", "pid", None),
        _set("tasks", 0, "task", "state", "0xzz"),
        _set("tasks", 0, "task", "state", "0x" + "f" * 17),
        _set("tasks", 0, "task", "comm", "seventeen bytes.."),
        _set("tasks", 0, "task", "comm", "\ud800"),
        _set("tasks", 0, "task", "tls", [1, 2]),
        _set("tasks", 0, "task", "unheard", 1),
        _set("tasks", 0, "regs", []),
        _set("tasks", 0, "regs", "rip", "0x10000000000000000"),
        _set("tasks", 0, "fpu", "fxsave", "00"),
        _set("tasks", 0, "fpu", "xsave", "zz"),
        _set("tasks", 0, "ext", "unheard", {}),
        _set("tasks", 0, "ext", "groups", [-1]),
        _set("tasks", 0, "ext", "kstack", ["a\0b"]),
        _set("tasks", 0, "provenance", {"task": 1}),
        _set("tasks", 0, "provenance", {"task": "a\0b"}),
        _set("tasks", 0, "provenance", {"task": "a" * (1 << 17)}),
        _set("tasks", 0, "layout", [{"type": 1, "content": 1}]),
        _set("tasks", 0, "unknown", [{"type": 0, "content": 1, "hdrlen": 16, "data": ""}]),
        _set("tasks", 0, "unknown", [{"type": 9, "content": 1, "hdrlen": 99, "data": ""}]),
        _set("tasks", 0, 7),
        _set("tasks", {}),
        _set("head", "arch", 9),
        _set("head", "image_major", 9),
        _set("meta", "kind", "recording"),
        _set("meta", "strings", []),
        _set("trailer", "tasks", 5),
        _set("trailer", "entries", [{"pid": 1}]),
    ],
)
def test_bad_json(change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(json.dumps(to_json(parse(SMALL))))
    assert isinstance(from_json(document), Image)
    change(document)
    with pytest.raises(TargetError) as caught:
        from_json(document)
    assert "\n" not in str(caught.value)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["0x", "0x1", "0xffffffffff", "00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=500)
@given(st.data())
def test_json_with_anything_in_one_place(data: st.DataObject) -> None:
    """Either the document still makes an image, or the error is cptbpf's own."""
    document = json.loads(json.dumps(to_json(parse(SMALL))))
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.integers(0, 5)) == 0:
            break
        place = place[key]
    place[key] = data.draw(_json)
    with suppress(TargetError):
        image = from_json(document)
        assert parse(encode_image(image)) == image


@pytest.mark.parametrize("document", [None, 1, "x", [], {}, {"head": 1}])
def test_not_the_json_of_an_image(document: object) -> None:
    with pytest.raises(TargetError):
        from_json(document)
