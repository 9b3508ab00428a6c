"""A measured number with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error, in the same unit."""

    value: float
    standard_error: float

    @classmethod
    def mean_of(cls, values: Tensor) -> Estimate:
        """Mean of independent values, with the standard error of their scatter."""
        if values.numel() < 2:
            return cls(float(values.mean()), math.nan)
        values = values.double()
        return cls(float(values.mean()), float(values.std()) / math.sqrt(values.numel()))

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if not math.isfinite(self.standard_error):
            return f"{self.value:.4g}" if abs(self.value) >= 0.1 else f"{self.value:.4f}"
        digits = 3
        if self.standard_error > 0:
            digits = max(0, 1 - math.floor(math.log10(self.standard_error)))
        return f"{self.value:.{digits}f} ± {self.standard_error:.{digits}f}"
