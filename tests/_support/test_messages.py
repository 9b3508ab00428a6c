"""Options in messages: read back by Python and by a shell, they are what they name."""

import pickle
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimachine._support.messages import Option, OptionError

names = st.sampled_from(["drop", "image_shape", "model.likelihood"])
words = st.text(min_size=1)
values = words | st.integers() | st.lists(words) | st.lists(st.integers()).map(tuple)


@given(name=names, value=values)
def test_python_and_a_shell_read_an_option_as_its_value(name, value):
    option = Option(name, value)
    text, _, literal = str(option).partition("=")
    assert text == name
    assert eval(literal) == value
    flag, *read = shlex.split(option.flag)
    assert flag == f"--{name.replace('_', '-')}"
    assert read == [str(part) for part in (value if isinstance(value, list | tuple) else [value])]


@pytest.mark.parametrize(
    ("option", "text", "flag"),
    [
        (Option("image_shape"), "image_shape", "--image-shape"),
        (Option("labels", "species"), 'labels="species"', "--labels species"),
        (Option("drop", ["x"]), 'drop=["x"]', "--drop x"),
        (Option("drop", ["a b", "ä"]), 'drop=["a b", "ä"]', "--drop 'a b' 'ä'"),
        (Option("resize", (8, 16)), "resize=(8, 16)", "--resize 8 16"),
        (Option("resize", (8,)), "resize=(8,)", "--resize 8"),
    ],
)
def test_an_option_is_an_argument_in_python_and_a_flag_on_the_command_line(option, text, flag):
    assert (str(option), option.flag) == (text, flag)


def test_an_option_error_is_a_value_error_with_two_messages():
    error = OptionError("x.csv has text; leave it out with ", Option("drop", ["a"]), " or so")
    assert isinstance(error, ValueError)
    assert str(error) == 'x.csv has text; leave it out with drop=["a"] or so'
    assert error.with_flags == "x.csv has text; leave it out with --drop a or so"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.with_flags) == (str(error), error.with_flags)
