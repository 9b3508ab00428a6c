"""Float32 matrix products by the faster library of the processor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

__all__ = ["faster_products", "products_pay"]

# Multiplications of a product from which on oneDNN's overhead of about 10 µs is repaid, even where
# it is faster by a tenth only (`benchmarks/products.py`); elsewhere it is twice as fast.
_PAYS = 8_000_000
# Largest error of a product, by the square root of its inner length. Single precision has about
# 2e-6, inputs rounded to bfloat16 about 1e-2.
_MOST_ERROR = 1e-4
_lock = threading.Lock()
_users = 0


def products_pay(network: object, rows: int) -> bool:
    """Whether products of this number of rows with a network's weights are large enough.

    Their mean counts. Weights are matrices, or stacks of matrices, as independent models have; all
    must be of float32 on the CPU.

    Args:
        network: A module, or a function, which has no weights.
        rows: Rows of each product.
    """
    found = list(network.parameters()) if isinstance(network, nn.Module) else []
    if any(p.device.type != "cpu" or p.dtype is not torch.float32 for p in found):
        return False
    sizes = [p.numel() for p in found if p.dim() in (2, 3)]
    return bool(sizes) and rows * sum(sizes) >= _PAYS * len(sizes)


@contextmanager
def faster_products(pay: bool = True) -> Iterator[None]:
    """Multiply float32 matrices by oneDNN where that keeps single precision.

    torch takes MKL by default, which may use half of a processor's units where that is not its
    vendor's. The setting `torch.set_float32_matmul_precision("medium")` takes oneDNN instead. It
    permits bfloat16, too, which processors with matrix units use, so a product is compared with
    double precision first. Nothing changes if a GPU is there, whose precision the setting lowers,
    if the setting is not torch's default, or without `pay`.

    The setting belongs to the process. It is restored when the last of several threads leaves.
    """
    entered = pay and _enter()
    try:
        yield
    finally:
        if entered:
            _leave()


def _enter() -> bool:
    global _users
    with _lock:
        if not _users:
            if _precision() != "highest" or not _keeps_single_precision():
                return False
            torch.set_float32_matmul_precision("medium")
        _users += 1
        return True


def _leave() -> None:
    global _users
    with _lock:
        _users -= 1
        # Another value was set by the caller's own code, in between.
        if not _users and _precision() == "medium":
            torch.set_float32_matmul_precision("highest")


def _precision() -> str | None:
    """The process's setting; None if parts of it differ, which torch reports as an error."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


@cache
def _keeps_single_precision() -> bool:
    """Whether a product by oneDNN is as precise as single precision; about a millisecond."""
    if torch.cuda.is_available() or not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((64, 256), (256, 64)))
    torch.set_float32_matmul_precision("medium")
    try:
        error = (a @ b).double() - a.double() @ b.double()
    finally:
        torch.set_float32_matmul_precision("highest")
    return float(error.abs().max()) <= _MOST_ERROR * 16
