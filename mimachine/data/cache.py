"""Cache of tensors that take long to compute from data.

The name of a file contains a hash of everything its content depends on, so a stale file is never
used. A file also contains a hash of its content; damaged files are computed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from mimachine._support.digest import digest
from mimachine._support.files import replacing
from mimachine.data.downloads import cache

__all__ = ["derived"]


def derived(
    name: str, origin: Sequence[str | Tensor], make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Load tensors from the cache, or compute and store them.

    If the cache is not writable they are computed each time.

    Args:
        name: Prefix of the file's name.
        origin: Everything that they depend on: data, and descriptions of the computation.
        make: Computes them.
    """
    file = cache() / "derived" / f"{name}-{digest(origin)}.safetensors"
    tensors = _read(file)
    if tensors is None:
        # In the layout they are read in: results computed from another layout could differ.
        tensors = {key: tensor.contiguous() for key, tensor in make().items()}
        # A read-only or full disk only costs time.
        with contextlib.suppress(OSError):
            _write(file, tensors)
    return tensors


def _content(tensors: dict[str, Tensor]) -> str:
    return digest([part for key in sorted(tensors) for part in (key, tensors[key])])


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        # Not safetensors' own writing, which raises no OSError if the disk is full.
        temporary.write_bytes(save(tensors, metadata={"content": _content(tensors)}))


def _read(file: Path) -> dict[str, Tensor] | None:
    """Tensors of a file; None if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return tensors if metadata.get("content") == _content(tensors) else None
