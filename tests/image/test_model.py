"""What a task of an image answers when it is asked for one value."""

import pytest

from cptbpf.fields import BY_NAME, FIELDS
from cptbpf.image.model import DROP_REASONS, drop_reason
from cptbpf.image.rows import INDEX, WIDTH, to_image
from cptbpf.image.tojson import FIELD_NAMES, task_to_json
from tests.cli.images import task
from tests.image.strategies import small_image


def test_every_field_of_the_catalogue_by_its_name() -> None:
    one = to_image(range(1, WIDTH + 1), {})
    assert {field.name: one.value(field.name) for field in FIELDS} == {name: at + 1 for name, at in INDEX.items()}


def test_none_is_what_json_shows_as_null() -> None:
    for one in small_image().tasks:
        shown = task_to_json(one)
        for name, fields in FIELD_NAMES.items():
            part = shown["task"] if name == "task" else shown["ext"].get(name, {})
            for field in fields:
                assert (one.value(field) is None) == (part.get(field) is None), field


def test_a_value_is_absent_where_it_is_0_and_its_source_says_so() -> None:
    one = task(1, rchar=5, comm=b"", provenance={"io": "absent: no", "io.syscr": "proc", "task": "absent: no"})
    assert [one.value(name) for name in ("rchar", "wchar", "syscr", "host_ppid")] == [5, None, 0, 0]
    assert [one.value(name) for name in ("comm", "tls", "utime", "pid")] == [None, None, None, 1]


def test_a_group_that_is_not_there_or_is_shorter() -> None:
    one = task(1)
    ext = {name: values[:1] for name, values in one.ext.items() if name != "mm"}
    one = one._replace(ext=ext)
    assert one.value("host_pid") == 1001
    assert one.value("host_tgid") is None
    assert one.value("total_vm") is None


def test_a_name_that_there_is_not() -> None:
    assert "rip" not in BY_NAME
    with pytest.raises(KeyError):
        task(1).value("rip")


def test_why_reports_were_lost() -> None:
    assert [drop_reason(flags) for flags in range(len(DROP_REASONS))] == list(DROP_REASONS)
    assert drop_reason(len(DROP_REASONS)) == drop_reason(0xFFFFFFFF) == "unknown"
