import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimachine._support.digest import check_digest, digest, sealed, without_digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text(max_size=3).filter("digest".__ne__), VALUES, max_size=4)


@given(value=OBJECTS, indent=st.sampled_from([None, 3]))
def test_a_digest_survives_reformatting(value, indent):
    stored = sealed(value)
    assert next(iter(stored)) == "digest"
    entries = dict(reversed(stored.items()))
    again = json.loads(json.dumps(entries, indent=indent, ensure_ascii=indent is None))
    check_digest(again, "file")
    assert without_digest(again) == value


@given(value=OBJECTS, other=OBJECTS)
def test_objects_have_the_same_digest_if_and_only_if_they_are_equal(value, other):
    def same(a, b):
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(map(same, a, b))
        return a == b and isinstance(a, bool) == isinstance(b, bool)

    assert (sealed(value)["digest"] == sealed(other)["digest"]) == same(value, other)


def test_a_whole_number_may_lose_its_point_and_any_other_change_is_noticed():
    stored = sealed({"scale": [1.0, 1.7], "name": "a"})
    check_digest({**stored, "scale": [1, 1.7]}, "file")
    for change in ({"scale": [1.0, 2.7]}, {"name": "b"}, {"more": None}, {"digest": None}):
        with pytest.raises(ValueError, match=r"^file was changed after it was written$"):
            check_digest({**stored, **change}, "file")
    del stored["name"]
    with pytest.raises(ValueError, match="was changed"):
        check_digest(stored, "file")


def test_what_has_no_digest_is_accepted():
    for value in ({"a": 1}, [1], None):
        check_digest(value, "file")
        assert without_digest(value) == value


def test_a_digest_of_tensors_depends_on_each_bit_type_and_shape_but_not_on_the_layout():
    values = torch.randn(3, 4)
    parts = [
        [values],
        [values.double()],
        [values.reshape(4, 3)],
        [values, values],
        ["a", values],
        [-values],
        [torch.empty(0)],
        [torch.empty(0, 2)],
    ]
    assert len({digest(each) for each in parts}) == len(parts)
    assert digest([values.t().contiguous().t()]) == digest([values])
    one_bit = values.clone().view(torch.int32)
    one_bit[0, 0] ^= 1
    assert digest([one_bit.view(torch.float32)]) != digest([values])
