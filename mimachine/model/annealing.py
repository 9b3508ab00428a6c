"""Warm-up state at one step: the weight β of Eq. (12) and the terms that it multiplies.

This module does not import torch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Term = Literal["q_z_given_x", "q_x", "p_x_given_z", "p_z"]


class Annealing(NamedTuple):
    """Warm-up state at one step; by default the warm-up is complete (β = 1).

    Attributes:
        beta: Weight that rises from 0 to 1.
        terms: Log-probabilities that β multiplies; None for those of the objective.
        decoding: Whether to use the decoding half of the sample distribution M_S, Eq. (4).
        halves: Whether to average or to sum the two halves.
        first_latent: Whether β multiplies log p(z2) too wherever it occurs, see `Warmup`.
    """

    beta: float = 1.0
    terms: tuple[Term, ...] | None = None
    decoding: bool = True
    halves: Literal["mean", "sum"] = "mean"
    first_latent: bool = False
