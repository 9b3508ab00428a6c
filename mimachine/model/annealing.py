"""State of the warm-up at one step: the weight β and what it multiplies, Eq. 12.

This module does not import torch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Term = Literal["q_z_given_x", "q_x", "p_x_given_z", "p_z"]


class Annealing(NamedTuple):
    """State of a warm-up at one step; the default is the objective fully warmed up.

    Attributes:
        beta: Weight that rises from 0 to 1.
        terms: Log-probabilities that β multiplies; None leaves it to the objective.
        decoding: Whether the decoding half of the sample distribution (Eq. 4) takes part.
        halves: How the two halves are put together.
        first_latent: Whether β multiplies log p(z2) too, wherever it stands, see `Warmup`.
    """

    beta: float = 1.0
    terms: tuple[Term, ...] | None = None
    decoding: bool = True
    halves: Literal["mean", "sum"] = "mean"
    first_latent: bool = False
