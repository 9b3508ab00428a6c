"""Quantile maps of all grid columns at once, from steps to normal scores and back.

They compute in float64, in which half steps next to 2^24 are exact, or in float32 on devices
without it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mimachine.model.table_columns import Grid

__all__ = ["QuantileMap", "precise"]

# Whole numbers up to this size are exact in float32, the type of rows.
_MOST_STEPS = float(1 << 24)


def precise(device: torch.device) -> torch.dtype:
    """The most precise type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


class QuantileMap:
    """The maps T of G grids: increasing, linear between edges, and linear beyond them.

    All arguments and results have shape (..., G) and the type `precise`.

    Args:
        grids: The columns.
        device: Device of the values.
    """

    def __init__(self, grids: Sequence[Grid], device: torch.device) -> None:
        def tensor(rows: Sequence[Sequence[float]], fill: float = math.inf) -> Tensor:
            longest = max(map(len, rows), default=0)
            filled = [[*row, *[fill] * (longest - len(row))] for row in rows]
            return torch.tensor(filled, dtype=precise(device), device=device)

        # Slopes first in Python's float64, also for devices without it.
        slopes = [
            [
                (t - s) / (b - a)
                for (a, b), (s, t) in zip(
                    itertools.pairwise(grid.edges), itertools.pairwise(grid.scores), strict=True
                )
            ]
            for grid in grids
        ]
        self.edges = tensor([grid.edges for grid in grids])
        self.scores = tensor([grid.scores for grid in grids])
        self.slopes = tensor([[*each, each[-1]] for each in slopes]).flatten()
        last = [len(grid.edges) - 2 for grid in grids]
        self._last = torch.tensor(last, device=device)
        start = [number * self.edges.shape[-1] for number in range(len(grids))]
        self._start = torch.tensor(start, device=device)
        low = [-math.inf if grid.low is None else grid.low for grid in grids]
        high = [math.inf if grid.high is None else grid.high for grid in grids]
        self.low, self.high = tensor([low]).reshape(-1), tensor([high]).reshape(-1)

    def scores_at(self, place: Tensor) -> Tensor:
        """T at places in steps, which need not be whole."""
        return self._line(place, self._segment(self.edges, place))

    def bins(self, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """T at both borders k - 1/2 and k + 1/2 of the bins of whole steps k, and its increase.

        Within one segment the increase is the slope, which a difference of large numbers is not.
        """
        borders = torch.stack([steps - 0.5, steps + 0.5])
        segments = self._segment(self.edges, borders)
        lower, upper = self._line(borders, segments)
        # The upper border may be the edge that ends the segment of the lower one.
        first, second = segments
        within = (first == second) | (borders[1] <= self.edges.flatten()[first + 1])
        return lower, upper, torch.where(within, self.slopes[first], upper - lower)

    def steps_of(self, score: Tensor) -> Tensor:
        """The whole steps whose bins contain scores, that is the inverse of T, rounded."""
        segment = self._segment(self.scores, score)
        offset = (score - self.scores.flatten()[segment]) / self.slopes[segment]
        place = self.edges.flatten()[segment] + offset
        steps = (place + 0.5).floor()
        return self.within_limits(steps).clamp(-_MOST_STEPS, _MOST_STEPS)

    def within_limits(self, steps: Tensor) -> Tensor:
        """Steps moved to the smallest or largest value where they are beyond it."""
        return torch.maximum(torch.minimum(steps, self.high), self.low)

    def _segment(self, edges: Tensor, place: Tensor) -> Tensor:
        """Index of the segment of each place, as a place in the flattened edges."""
        columns = place.movedim(-1, 0)
        rows = columns.reshape(len(edges), -1).contiguous()
        after = torch.searchsorted(edges, rows, right=True)
        segment = after.reshape(columns.shape).movedim(0, -1) - 1
        return torch.minimum(segment.clamp_min(0), self._last) + self._start

    def _line(self, place: Tensor, segment: Tensor) -> Tensor:
        offset = place - self.edges.flatten()[segment]
        return torch.addcmul(self.scores.flatten()[segment], self.slopes[segment], offset)
