"""What codes are decoded to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mimachine.estimation.codes.moments import closed_mean
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating

__all__ = ["decoded"]

_AT_ONCE = 1024


@torch.no_grad()
def decoded(model: Joint, z: Tensor) -> Tensor:
    """What codes (n, *Z) are decoded to: means, points of a table, or draws without a mean."""
    parts = []
    with evaluating(model):
        for part in z.split(_AT_ONCE):
            distribution: Any = model.decoder(part)
            if hasattr(distribution, "point"):
                parts.append(distribution.point())
                continue
            mean = closed_mean(distribution)
            parts.append(distribution.sample() if mean is None else mean)
    return torch.cat(parts)
