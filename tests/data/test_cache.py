"""The cache: files depend on the whole origin, and damaged files are never used."""

import pytest
import torch

from mimachine.data.cache import derived


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mimachine" / "derived"


def made(origin, value=1.0):
    """The result, and whether it was computed."""
    calls = []

    def make():
        calls.append(None)
        return {"a": torch.full((2, 3), value), "b": torch.arange(3)}

    return derived("things", origin, make), bool(calls)


def test_what_was_made_is_found_again_to_the_bit(folder):
    first, was_made = made(("recipe", torch.ones(2)))
    assert was_made
    again, was_made = made(("recipe", torch.ones(2)), value=2.0)
    assert not was_made
    assert set(again) == set(first)
    assert all(torch.equal(again[key], first[key]) for key in first)
    assert [file.suffix for file in folder.iterdir()] == [".safetensors"]


@pytest.mark.parametrize(
    "origin",
    [
        ("other", torch.ones(2)),
        ("recipe", torch.ones(3)),
        ("recipe", torch.ones(2, 1)),
        ("recipe", torch.ones(2).double()),
        ("recipe", torch.tensor([1.0, 2.0])),
        ("rec", "ipe", torch.ones(2)),
    ],
    ids=str,
)
def test_another_origin_is_another_file(folder, origin):
    made(("recipe", torch.ones(2)))
    _, was_made = made(origin)
    assert was_made
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no header", "other content"])
def test_a_damaged_file_is_made_again(folder, damage):
    expected, _ = made(("recipe",))
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    elif damage == "other content":
        from safetensors.torch import save

        content = save({"a": torch.zeros(2, 3), "b": torch.arange(3)})
    else:
        content = {"cut": content[:-1], "empty": b"", "no header": bytes(100)}[damage]
    file.write_bytes(content)
    again, was_made = made(("recipe",))
    assert was_made
    assert torch.equal(again["a"], expected["a"])
    assert made(("recipe",))[1] is False


def test_a_writer_that_was_killed_leaves_nothing_that_is_read(folder, monkeypatch):
    def killed(tensors, metadata=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save", killed)
        with pytest.raises(KeyboardInterrupt):
            made(("recipe",))
    assert list(folder.iterdir()) == []


def test_where_nothing_can_be_written_it_is_made_each_time(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        tensors, was_made = made(("recipe",))
        assert was_made
        assert torch.equal(tensors["a"], torch.ones(2, 3))
