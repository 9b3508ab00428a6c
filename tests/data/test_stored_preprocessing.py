"""What a run stores about its data, edited by hand."""

import copy

import numpy as np
import pytest

from mimachine.data.learn_preprocessing import learn
from mimachine.data.preprocessing import Preprocessing


def learned(values, **options):
    return learn(values, np.ones(len(values), dtype=bool), **options)[0].to_json()


def table():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    rows[:, 1] = 7
    return learned(rows, columns=("a", "b", "c"))


def images():
    return learned(np.random.default_rng(0).integers(0, 256, (20, 2, 4, 3)).astype(np.uint8))


def test_both_are_read_as_they_were_written():
    for value in (table(), images()):
        assert Preprocessing.from_json(value).to_json() == value


OF_TABLES = {
    "scale": [0, 1], "shift": [1.0], "floor": [-1, 1], "kept": [0, 3], "constants": [1.0, 2.0],
    "shape": [4], "columns": ["a", "b"], "likelihood": "bernoulli", "levels": 1,
    "image_shape": [1, 1, 3], "channels_last": 1, "decimals": [0, 1], "booleans": [True],
}  # fmt: skip
OTHERS = {
    "scale": [[1, -1], [1, float("nan")], [1, None], [1, "1"], [1, True], [[1], [1]], 0, -1, None],
    "kept": [None, [0], [2, 0], [0, 0], [0, -1], [0.0, 2.0], [], 1, [0, 10**30]],
    "shape": [[10**15], [-3], [], [3, 0], [2**60, 2**60], [1] * 40, 3, ["3"], None, [3.0]],
    "likelihood": ["", "Gaussian", None, 1, "discretized-logistic"],
    "levels": [0, -2, 2.0, True, 10**9, "256"],
    "constants": [None, [1, 2, float("inf")], "abc"],
    "columns": [["a", "b", 3], ["a", "b", "a"], "abc", [], {"a": 1}],
    "decimals": [[0, -1, 16], [0, -2, 1], [0.5, 0, 0], True, "2", -2],
    "booleans": [[True, False, 1], 1, "true", [[True], [True], [True]]],
}
WRONG = [(name, value) for name, value in OF_TABLES.items()]
WRONG += [(name, value) for name, values in OTHERS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_impossible_values_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=r"^preprocessing cannot be read: ") as refused:
        Preprocessing.from_json({**table(), name: value})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


OF_IMAGES = {
    "image_shape": [[3, 2, 2], [1, 2, 4], [3, 4, 2], [0, 2, 4], [3, 2], 24, [10**9] * 3],
    "channels_last": [False, None, "yes"],
    "levels": [None, 1],
    "scale": [[1.0] * 24, [255.0], 0.0],
    "kept": [[0, 1]],
    "shape": [[2, 4], [24], [3, 2, 4]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OF_IMAGES.items() for value in values]
)
def test_impossible_values_for_images_are_refused(name, value):
    with pytest.raises(ValueError, match=r"^preprocessing cannot be read: "):
        Preprocessing.from_json({**images(), name: value})


REQUIRED = ("likelihood", "shape", "columns", "kept", "constants", "shift", "scale", "floor")


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_missing_is_named(name):
    value = table()
    del value[name]
    with pytest.raises(ValueError, match=name):
        Preprocessing.from_json(value)


def test_entries_that_older_runs_lack_have_defaults():
    value = copy.deepcopy(table())
    for name in value.keys() - set(REQUIRED):
        del value[name]
    # Nothing is known of the types of the values in the file.
    expected = {**table(), "decimals": None, "booleans": None}
    assert Preprocessing.from_json(value).to_json() == expected


def test_unknown_entries_are_refused():
    with pytest.raises(ValueError, match="colour"):
        Preprocessing.from_json({**table(), "colour": 1})
    for value in (None, [], "x"):
        with pytest.raises(ValueError, match="preprocessing cannot be read"):
            Preprocessing.from_json(value)
