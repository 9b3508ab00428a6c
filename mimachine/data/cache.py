"""Derived tensors: what takes long to make of data, kept in the user's cache.

A file's name has a hash of all that its content depends on, so what has changed is never taken for
what was. It holds a hash of its content too; what is damaged is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mimachine._support.files import replacing
from mimachine.data.downloads import cache

__all__ = [
    "derived",
]


def derived(
    name: str, origin: Sequence[str | Tensor], make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Tensors from the cache, or made and put there.

    Where the cache cannot be written they are made each time.

    Args:
        name: What the file's name begins with.
        origin: All that they depend on: data, and recipes in words.
        make: Makes them.
    """
    file = cache() / "derived" / f"{name}-{_hash(origin)}.safetensors"
    tensors = _read(file)
    if tensors is None:
        # As they will be read: another layout could make other bits of what is computed from them.
        tensors = {key: tensor.contiguous() for key, tensor in make().items()}
        # A home that is read-only or full costs time, and no result.
        with contextlib.suppress(OSError):
            _write(file, tensors)
    return tensors


def _hash(parts: Sequence[str | Tensor]) -> str:
    """Hash of texts, and of tensors with their types and shapes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        text = part if isinstance(part, str) else repr((part.dtype, tuple(part.shape)))
        # Its length first, or texts could be cut in two ways.
        digest.update(f"{len(text)} {text}".encode())
        if isinstance(part, Tensor):
            digest.update(part.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _content(tensors: dict[str, Tensor]) -> str:
    return _hash([part for key in sorted(tensors) for part in (key, tensors[key])])


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        # Written here and not there, for a disk that is full to be the system's OSError.
        temporary.write_bytes(save(tensors, metadata={"content": _content(tensors)}))


def _read(file: Path) -> dict[str, Tensor] | None:
    """Tensors of a file; None if there is none, or it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return tensors if metadata.get("content") == _content(tensors) else None
