"""Weights of a model on disk: a safetensors file with a digest of its content.

The header can be read without loading torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine._support.digest import CHANGED, ENTRY, digest, is_unchanged
from mimachine._support.files import replacing, utf8_path
from mimachine._support.messages import some
from mimachine._support.reading import opened, parse_json
from mimachine._support.schema import Index, validated

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["load_weights", "save_weights", "weight_shapes"]

_METADATA = "__metadata__"


@dataclass(frozen=True)
class _Entry:
    """Entry of a tensor in the header."""

    dtype: str
    shape: tuple[Index, ...]
    data_offsets: tuple[Index, Index]


def weight_shapes(file: Path) -> dict[str, list[int]]:
    """Names and shapes of the weights, from the header of their file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If its header is damaged.
    """
    return {name: list(entry.shape) for name, entry in _header(file).items()}


def _header(file: Path) -> dict[str, _Entry]:
    """The header, which is JSON and follows after its length in 8 bytes.

    The library that reads the file checks the header too, but keeps the last of repeated entries.
    """
    with opened(file) as stream:
        length, size = int.from_bytes(stream.read(8), "little"), stream.seek(0, 2)
        if length > size - 8:
            raise ValueError(f"{file} is damaged: its header cannot be read")
        stream.seek(8)
        text = stream.read(length)
    place = f"{file} is damaged: its header"
    header = parse_json(text, place)
    if not isinstance(header, dict):
        raise ValueError(f"{place} must be an object")
    entries = {
        name: validated(_Entry, value, f"{place}, {name[:100]!a}")
        for name, value in header.items()
        if name != _METADATA
    }
    for entry in entries.values():
        start, end = entry.data_offsets
        if not start <= end <= size - 8 - length or math.prod(entry.shape) > size:
            raise ValueError(f"{place} has tensors beyond the end of the file")
    return entries


def save_weights(file: Path, model: nn.Module) -> None:
    """Write the weights of a model; shared tensors are stored once, under their first name.

    safetensors' own `save_model` chooses among the names at random, so that equal models would give
    different files.
    """
    from safetensors.torch import save

    tensors = {names[0]: tensor.contiguous() for names, tensor in _by_memory(model)}
    metadata = {ENTRY: digest(_parts(tensors))}
    with replacing(file) as temporary:
        # Not written by safetensors, so that a full disk raises an OSError.
        temporary.write_bytes(save(tensors, metadata))


def load_weights(file: Path, model: nn.Module) -> None:
    """Load the weights into a model of the same architecture.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is damaged, was changed, belongs to another architecture, or has weights
            that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    expected, wrong = _by_memory(model), f"{file} does not hold the weights of this model"
    try:
        shapes = weight_shapes(file)
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from error
    names = _matched(shapes, expected, wrong)
    try:
        with utf8_path(file) as path, safe_open(path, framework="pt") as reader:
            stored = {name: reader.get_tensor(name) for name in names}
            metadata = reader.metadata() or {}
    except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{wrong}: {error}") from error
    for name, (_, tensor) in zip(names, expected, strict=True):
        if stored[name].dtype != tensor.dtype:
            raise ValueError(f"{wrong}: {name} must be {tensor.dtype}, got {stored[name].dtype}")
    if ENTRY in metadata and not is_unchanged(metadata[ENTRY], digest(_parts(stored))):
        raise ValueError(f"{file} {CHANGED}")
    _check_finite(file, [(stored[n], t) for n, (_, t) in zip(names, expected, strict=True)], model)
    # Of tensors with several names, one name is enough.
    model.load_state_dict(stored, strict=False)


def _by_memory(model: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Tensors of a model, each with all its names, the first in the model's order first."""
    found: dict[Any, tuple[list[str], Tensor]] = {}
    for name, tensor in model.state_dict().items():
        memory = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        found.setdefault(memory, ([], tensor))[0].append(name)
    return list(found.values())


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[str | Tensor]:
    for name in sorted(tensors):
        yield name
        yield tensors[name]


def _matched(
    shapes: Mapping[str, list[int]], expected: Sequence[tuple[list[str], Tensor]], wrong: str
) -> list[str]:
    """The name under which each tensor of the model is stored."""
    names = []
    for known, tensor in expected:
        found = [name for name in known if name in shapes]
        if len(found) != 1:
            raise ValueError(f"{wrong}: it must have {known[0]} once, got {len(found)} times")
        if shapes[found[0]] != list(tensor.shape):
            raise ValueError(
                f"{wrong}: {found[0]} must have shape {tuple(tensor.shape)}, "
                f"got {tuple(shapes[found[0]])}"
            )
        names.append(found[0])
    if others := shapes.keys() - set(names):
        raise ValueError(f"{wrong}: it has {some(map(ascii, sorted(others)), 3)[:200]}")
    return names


def _check_finite(file: Path, pairs: Sequence[tuple[Tensor, Tensor]], model: nn.Module) -> None:
    """Check that weights are finite wherever the model's values are before they are loaded."""
    import torch

    from mimachine.training.saved_state import is_finite_like

    count = getattr(model, "num_models", None)
    if count is None:
        finite = all(is_finite_like(stored, fresh) for stored, fresh in pairs)
    else:
        # Of several models trained together, some may have diverged, but not all.
        finite = any(
            all(is_finite_like(stored, fresh, torch.arange(count) != i) for stored, fresh in pairs)
            for i in range(count)
        )
    if not finite:
        raise ValueError(f"{file} has weights that are not finite")
