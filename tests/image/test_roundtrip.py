"""Whatever goes into an image comes out of it, through the file and through JSON."""

import json
from io import BytesIO

from hypothesis import HealthCheck, given, settings

from cptbpf.image.jsonio import from_json, to_json
from cptbpf.image.model import Image, Placed, RawObject
from cptbpf.image.output import StreamOutput
from cptbpf.image.reader import load, parse, walk
from cptbpf.image.writer import ImageWriter, encode_image
from tests.image.strategies import images, small_image

_slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)


def without_digest(image: Image) -> Image:
    return image._replace(trailer=image.trailer._replace(digest=b""))


@_slow
@given(images)
def test_file(image: Image) -> None:
    data = encode_image(image)
    assert len(data) % 8 == 0
    read = load(BytesIO(data))
    assert without_digest(read) == image
    assert encode_image(read) == data


@_slow
@given(images)
def test_json(image: Image) -> None:
    data = encode_image(image)
    text = json.dumps(to_json(parse(data)), allow_nan=False)
    again = from_json(json.loads(text))
    assert encode_image(again) == data
    assert json.dumps(to_json(again)) == text


def test_tasks_one_by_one() -> None:
    image = small_image()
    stream = BytesIO()
    writer = ImageWriter(StreamOutput(stream), image.head, image.meta)
    for task in image.tasks:
        writer.write_task(task)
    size = writer.finish(image.trailer.flags, image.trailer.entries)
    assert size == len(stream.getvalue())
    assert without_digest(parse(stream.getvalue())) == image


def test_equal_provenance_is_written_once() -> None:
    image = small_image(3)
    data = encode_image(image)
    assert data.count(b"absent: no TASK_XACCT") == 1
    assert all(task.provenance == image.tasks[0].provenance for task in parse(data).tasks)


def test_walk_shows_every_object_in_place() -> None:
    data = encode_image(small_image())
    offset = 32
    for at, raw in walk(BytesIO(data)):
        assert at == offset
        offset += 16 + len(raw.data)
    assert offset == len(data)


def reordered(image: Image) -> Image:
    """The same tasks as another writer might have written them: other order, longer records, a repeated provenance."""
    stranger = RawObject(0x2FFF, 9, 24, b"newer...")
    tasks = []
    for task in image.tasks:
        layout = (
            Placed(0, 1, b"\1\2\3\4\5\6\7\x08"),
            Placed(0x2026, 2, b""),
            Placed(0x2FFF, 9, b""),
            Placed(0x2022, 3, b"later"),
            Placed(0x2011, 0, b"\xaa" * 5),
        )
        ext = {name: task.ext[name] for name in ("cred", "kstack")}
        tasks.append(task._replace(ext=ext, regs=None, fxsave=None, xsave=None, unknown=(stranger,), layout=layout))
    return image._replace(tasks=tuple(tasks))


def test_another_writers_layout_survives() -> None:
    image = reordered(small_image())
    data = encode_image(image)
    read = parse(data)
    assert without_digest(read) == image
    assert encode_image(read) == data
    assert encode_image(from_json(json.loads(json.dumps(to_json(read))))) == data


def test_where_a_value_came_from() -> None:
    task = small_image().tasks[0]
    assert task.source("task", "state") == "kernel:A"
    assert task.source("task", "pid") == "kernel:B"
    assert task.source("cred", "securebits") == ""


def test_absent_is_null() -> None:
    task = small_image().tasks[0]
    assert task.provenance["io"].startswith("absent: ")
    task = task._replace(
        ext={"io": (0, 5, 0, 0, 0, 0, 0), "mm": (0, 0, 0, 0)}, provenance={**task.provenance, "io.syscr": "proc"}
    )
    image = small_image()._replace(tasks=(task,))
    image = image._replace(trailer=image.trailer._replace(tasks=1))
    shown = to_json(image)
    assert shown["tasks"][0]["ext"]["io"] == {
        "rchar": None,
        "wchar": 5,
        "syscr": 0,
        "syscw": None,
        "read_bytes": None,
        "write_bytes": None,
        "cancelled_write_bytes": None,
    }
    assert shown["tasks"][0]["ext"]["mm"]["total_vm"] == 0
    assert encode_image(from_json(shown)) == encode_image(image)
