import math
from dataclasses import dataclass
from typing import Literal

import pytest

from mimachine._support.schema import Count, Finite, Index, NotNegative, Number, validated


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"]
    value: Number = 0.0


@dataclass(frozen=True)
class Outer:
    count: Count
    finite: Finite
    error: NotNegative
    inner: tuple[Inner, ...]
    index: Index = 0
    flag: bool = False


GOOD = {"count": 1, "finite": -1.5, "error": 0, "inner": [{"kind": "a"}]}


def test_values_become_a_dataclass_and_null_a_number_that_is_none():
    read = validated(Outer, {**GOOD, "inner": [{"kind": "b", "value": None}]}, "file")
    assert read.inner[0].kind == "b"
    assert math.isnan(read.inner[0].value)
    assert validated(Outer, GOOD, "file") == Outer(1, -1.5, 0, (Inner("a"),))


WRONG = [
    ("count", 0), ("count", True), ("count", 1.0), ("count", "1"), ("count", 10**400),
    ("finite", None), ("finite", True), ("finite", "1"), ("finite", 10**400), ("finite", [1]),
    ("error", -1), ("error", False), ("index", -1), ("flag", 1), ("flag", "true"),
    ("inner", {}), ("inner", None), ("inner", "aa"), ("stranger", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_values_of_another_kind_are_named(name, value):
    with pytest.raises(ValueError, match=f"^file is damaged: {name}: ") as refused:
        validated(Outer, {**GOOD, name: value}, "file is damaged")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [None, [], 1, "x", True])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(ValueError, match=r"^file: "):
        validated(Outer, value, "file")


def test_a_message_is_one_short_line_whatever_the_entries_are_called():
    strange = {"\x1b[31m\n": 1, "x" * 10_000: 1, **{str(i): i for i in range(100)}}
    with pytest.raises(ValueError, match="and 100 more") as refused:
        validated(Outer, {**GOOD, **strange, "inner": [{"kind": "c"}]}, "file")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500
