"""Digest of the content of a file, which shows that it was changed after it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CHANGED",
    "ENTRY",
    "check_digest",
    "digest",
    "is_unchanged",
    "sealed",
    "without_digest",
]

# Name of the digest in a JSON object, in the metadata of weights and in a training state.
ENTRY = "digest"
CHANGED = "was changed after it was written"
# Up to here, whole numbers are the same as integers and as floating-point numbers.
_LARGEST_WHOLE = 2.0**53


def digest(parts: Iterable[str | Tensor]) -> str:
    """Hash of strings, and of tensors with their types and shapes, whatever their device."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        text = part if isinstance(part, str) else repr((part.dtype, tuple(part.shape)))
        # The length comes first, otherwise ("ab", "c") and ("a", "bc") would be equal.
        total.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
        if not isinstance(part, str):
            total.update(_bytes(part))
    return total.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its digest as an additional entry.

    It is the first entry: a piece of the text that is lost with it then includes the name of the
    next entry, which is missed.

    The digest does not depend on white space, on the order of entries, or on whether a whole number
    is written as 1 or 1.0.

    Raises:
        ValueError: If the object has values that JSON does not have.
    """
    return {ENTRY: _of_json(value), **value}


def without_digest(value: Any) -> Any:
    """A JSON value without its digest, if it is an object that has one."""
    if not isinstance(value, dict):
        return value
    return {name: each for name, each in value.items() if name != ENTRY}


def check_digest(value: Any, place: str) -> None:
    """Check the digest of a JSON value, if it has one.

    Args:
        value: The value, with its digest.
        place: Name of the file, for the message.

    Raises:
        ValueError: If the digest is not that of the value.
    """
    if not isinstance(value, dict) or ENTRY not in value:
        return
    if not is_unchanged(value[ENTRY], _of_json(without_digest(value))):
        raise ValueError(f"{place} {CHANGED}")


def is_unchanged(stored: object, found: str) -> bool:
    """Whether a stored digest, which may be any value, is the one that was found."""
    return isinstance(stored, str) and stored == found


def _of_json(value: Mapping[str, Any]) -> str:
    canonical = _canonical(value)
    return digest([json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)])


def _canonical(value: Any) -> Any:
    """The value with whole numbers as integers, which some programs write without a point."""
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE:
        return int(value)
    return value
