"""An estimate with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CorrectedMean", "Estimate"]

# Numbers from here on are written with a power of ten.
_LARGE = 1e7


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error, in the same unit."""

    value: float
    standard_error: float

    @classmethod
    def mean_of(cls, values: Tensor, errors: Tensor | None = None) -> Estimate:
        """Mean of independent values, with the standard error from their scatter.

        A single value has the error given for it in `errors`, or NaN.
        """
        if values.numel() < 2:
            return cls(float(values.mean()), math.nan if errors is None else float(errors))
        values = values.double()
        return cls(float(values.mean()), float(values.std()) / math.sqrt(values.numel()))

    @classmethod
    def of_share(cls, share: float, count: int) -> Estimate:
        """A share of independent rows, with the standard error of a proportion.

        The error is that of two more rows of either kind (Agresti & Coull, 1998). Without them it
        would be too small for shares near 0 and 1, and 0 for these.
        """
        more = (share * count + 2) / (count + 4)
        return cls(share, math.sqrt(more * (1 - more) / (count + 4)))

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if not math.isfinite(self.standard_error):
            return f"{self.value:.4g}" if abs(self.value) >= 0.1 else f"{self.value:.4f}"
        if abs(self.value) >= _LARGE:
            return f"{self.value:.3e} ± {self.standard_error:.1e}"
        digits = 3
        if self.standard_error > 0:
            digits = max(0, 1 - math.floor(math.log10(self.standard_error)))
        return f"{self.value:.{digits}f} ± {self.standard_error:.{digits}f}"


@dataclass(frozen=True)
class CorrectedMean(Estimate):
    r"""Mean of N numbers known only for a random subset, with rough values known for all.

    .. math:: \frac1N \sum_i r_i + \frac1n \sum_{i \in \text{subset}} (e_i - r_i)

    It is unbiased for the mean of all e, and equal to it if the subset is all rows.

    Attributes:
        value: The mean.
        standard_error: Standard error as an estimate of the population mean.
        subset_error: The part of it due to the subset: the standard error as an estimate of the
            mean of all N numbers e. 0 if the subset is all rows.

    References:
        The difference estimator of survey sampling (Cochran, 1977, Sampling Techniques, ch. 7).
    """

    subset_error: float

    @classmethod
    def of(cls, rough: Tensor, chosen: Tensor, exact: Tensor) -> CorrectedMean:
        """From all rough values r (N,), and the indices and values e of the subset, each (n,)."""
        rough, exact = rough.double(), exact.double()
        gain = exact - rough[chosen]
        # Variance of the subset's mean gain about the mean over all rows.
        of_subset = (1 / len(chosen) - 1 / len(rough)) * _variance(gain)
        return cls(
            float(rough.mean() + gain.mean()),
            math.sqrt(_variance(exact) / len(rough) + of_subset),
            math.sqrt(of_subset),
        )


def _variance(values: Tensor) -> float:
    """Sample variance; NaN for a single number."""
    return float(values.var()) if len(values) > 1 else math.nan
