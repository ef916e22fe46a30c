"""The catalogue: what it says of the C record is so, and whoever goes by it finds everything."""

from collections import Counter

import pytest

from cptbpf.conductors.merge import lacking
from cptbpf.fields import ARRAYS, BY_NAME, FIELDS, GROUPS, NEEDS, REGISTERS, RULES, Field, group
from cptbpf.image.provenance import ABSENT, is_by_nature
from cptbpf.kernel import record
from cptbpf.kernel.record import TaskExtra, TaskState

BITS = {name.removeprefix("TASK_HAS_"): value for name, value in vars(record).items() if name.startswith("TASK_HAS_")}


def test_every_name_is_one_field() -> None:
    assert {name for name, count in Counter(field.name for field in (*FIELDS, *ARRAYS)).items() if count > 1} == set()
    assert {field.group for field in FIELDS} == GROUPS.keys()
    assert [field for name in GROUPS for field in group(name)] == list(FIELDS), "the groups stand together, in their order"


@pytest.mark.parametrize("field", [*FIELDS, *ARRAYS, *REGISTERS], ids=lambda field: f"{field.group}.{field.name}")
def test_every_rule_and_every_need_is_explained(field: Field) -> None:
    assert field.rule in RULES
    assert not field.needs or field.needs in NEEDS


def test_needs_are_bits_of_the_record() -> None:
    assert NEEDS.keys() == {field.needs for field in FIELDS if field.needs} == BITS.keys()
    assert all(NEEDS.values())


def test_without_a_bit_its_fields_lack_a_value_and_say_why() -> None:
    everything = sum(BITS.values())
    assert lacking(everything) == ()
    for bit, value in BITS.items():
        expected = {f"{field.group}.{field.name}": ABSENT + NEEDS[bit] for field in FIELDS if field.needs == bit}
        assert dict(lacking(everything & ~value)) == expected and expected


def test_what_is_lacked_by_nature_is_known_for_it() -> None:
    """What show says of an image leaves such reasons out."""
    assert [bit for bit, why in NEEDS.items() if not is_by_nature(ABSENT + why)] == []


def test_every_field_is_made_of_a_member_of_the_record() -> None:
    for field in FIELDS:
        assert field.record in TaskState._fields or field.record in TaskExtra._fields, field.name


def test_a_member_of_another_name_is_named_where_there_is_none_of_the_same() -> None:
    other = {field.name: field.record for field in FIELDS if field.record != field.name}
    assert not other.keys() & {*TaskState._fields, *TaskExtra._fields}
    assert other == {
        "flags": "pf_flags",
        "utimescaled": "utime",
        "stimescaled": "stime",
        "real_start_time": "start_boottime",
    }
    assert BY_NAME["utime"].record == "utime"


def test_what_can_pass_the_integers_of_other_languages_is_hexadecimal() -> None:
    """Masks, addresses and inode numbers, which may have any bits. What is counted from 0 never gets to 2^53."""
    plain = {field.name for field in FIELDS if field.ctype == "u64" and not field.hex and not field.unit}
    assert plain == {"cgroup_id"}, "the kernel counts them"
