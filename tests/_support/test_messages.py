"""Options in messages: read back by Python and by a shell, they are what they name."""

import os
import pickle
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimachine._support.messages import Option, OptionError, quoted, visible

names = st.sampled_from(["drop", "image_shape", "model.likelihood"])
# Hidden characters are escaped as only some shells read them.
words = st.text(min_size=1).filter(lambda text: visible(text) == text)
values = words | st.integers() | st.lists(words) | st.lists(st.integers()).map(tuple)


@settings(deadline=None)
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
        (Option("latent", 1), "latent=1", "--latent 1"),
        (Option("force", True), "force=True", "--force"),
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


HIDDEN = [
    "a\x1b[2Jb",
    "\r",
    "line\nbreak",
    "\u202egnp.exe",
    "\x9b1m",
    "caf\udce9",
    "'\x07\\ \udcff0",
]


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_characters_are_shown(name):
    assert visible(name) != name
    assert visible(name).isprintable()
    assert visible(visible(name)) == visible(name)
    visible(name).encode()


def test_other_characters_are_shown_as_they_are():
    for text in ("größe", "名前", "שלום", "a b", "ﾊﾝ", "\u200c\u200d", "\\x1b"):
        assert visible(text) == text
    assert visible("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_reads_a_quoted_name_as_its_bytes():
    for name in [*HIDDEN, "a b", "it's", "$x", "größe"]:
        done = subprocess.run(
            ["bash", "-c", f"printf %s {quoted(name)}"], capture_output=True, check=True
        )
        assert done.stdout == os.fsencode(name)
