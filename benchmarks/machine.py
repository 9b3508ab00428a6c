"""The machine that a benchmark ran on: its processor, its load, and the peak of its arithmetic."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

MATRIX = 1024


def processor() -> str:
    """Name of the processor with its family and model; its architecture where nothing says more.

    Virtual machines often give a name that several generations share, such as "AMD EPYC".
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    pairs = [line.partition(":") for line in lines]
    # The last of equal keys stays, and all cores are alike.
    found = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in found:
        return platform.machine()
    kinds = {"cpu family": "family", "model": "model"}
    numbers = ", ".join(f"{word} {found[key]}" for key, word in kinds.items() if key in found)
    return f"{found['model name']} ({numbers})" if numbers else found["model name"]


def load_average() -> float | None:
    """Mean number of running processes in the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def versions(*names: str) -> dict[str, str]:
    """Versions of Python and of those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def matmul_precision(setting: str) -> Iterator[None]:
    """Set the precision of float32 products, "highest", "high" or "medium", in a block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def keeps_single_precision(setting: str, device: torch.device | str = "cpu") -> bool:
    """Whether float32 products of this setting have the accuracy of float32.

    Settings below "highest" permit other types, which a device may use or not. The errors are about
    1e-6 in float32, 1e-3 in TF32 and 1e-2 in bfloat16.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator).to(device) for _ in range(2))
    with matmul_precision(setting):
        error = (a @ b).double() - a.double() @ b.double()
    return float(error.abs().max()) / math.sqrt(256) < 1e-4


class Product:
    """The product of two square matrices, ten times.

    Args:
        dtype: Type of the matrices.
        device: Device of the matrices.
        setting: Precision of float32 products.
        size: Number of rows.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        device: torch.device,
        setting: str = "highest",
        size: int = MATRIX,
    ) -> None:
        self.factors = [torch.randn(size, size, device=device).to(dtype) for _ in range(2)]
        self.setting = setting

    def __call__(self) -> None:
        """Compute the products."""
        with matmul_precision(self.setting):
            for _ in range(10):
                torch.mm(*self.factors)


def products(
    dtype: torch.dtype, device: torch.device, size: int = MATRIX
) -> dict[str, Callable[[], None]]:
    """Matrix products by every library that computes them in this type, by name.

    On a processor torch sends float32 products to one library by default (MKL), and to another one
    (oneDNN) with the setting "medium". Which is faster depends on the processor. "medium" is left
    out where it does not keep single precision.
    """
    made = {f"product, {dtype}": Product(dtype, device, size=size)}
    if dtype == torch.float32 and keeps_single_precision("medium", device):
        made[f"product, {dtype}, medium"] = Product(dtype, device, "medium", size)
    return made


class Peak(NamedTuple):
    """The highest rate of arithmetic that was measured.

    Attributes:
        rate: The rate, in the unit of the rates it was chosen from.
        reached_by: Name of the work that reached it.
    """

    rate: float
    reached_by: str


def peak(dtype: torch.dtype, rates: Mapping[str, Sequence[float]]) -> Peak:
    """Peak of a processor in a type: the best of all products and convolutions of a run.

    No single product is the peak: convolutions may be faster than all of them.

    Args:
        dtype: The type.
        rates: Rates of each work in this type by name, measured in the same run: those of
            `products`, and of all convolutions.

    Raises:
        ValueError: If there are no rates of a product in this type.
    """
    if f"product, {dtype}" not in rates:
        raise ValueError(f"rates must have those of the products in {dtype}, got {list(rates)}")
    return max(Peak(max(each), name) for name, each in rates.items())
