"""Calibration of `log_likelihood`: accuracy of its flags and coverage of its intervals.

A linear-Gaussian model has a likelihood in closed form. Its encoder is the exact posterior,
narrowed by a factor. The likelihood is estimated with the encoder as proposal, with a
`DefensiveProposal`, with a refitted encoder, and for each dimension with annealed chains, which do
not use the encoder. The table reports the share of estimates that are off by over 0.1 nat, the
share of these that is flagged, the share of all that is flagged, and the coverage of the 95 %
intervals of unflagged estimates: of all, and of those whose weights are not all equal. Each repeat
has a new example and new noise. The bidirectional checks of the annealed chains come last.

    python benchmarks/likelihood_calibration.py              # about ten minutes
    python benchmarks/likelihood_calibration.py --proposals encoder --factors 1.1 1.2 1.3 1.5
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import mimachine as mm
from mimachine.estimation.likelihood.annealed import AnnealedLogLikelihood
from mimachine.estimation.likelihood.importance import LogLikelihood


class Linear(nn.Module):
    """N(w v, s²) in each dimension."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight, self.log_scale = nn.Parameter(weight), nn.Parameter(scale.log())

    def forward(self, v: Tensor) -> Independent:
        """Distribution of batch shape (B,)."""
        loc = v * self.weight
        return Independent(Normal(loc, self.log_scale.exp().expand_as(loc)), 1)


def model_and_marginal(dim: int, factor: float) -> tuple[mm.Joint, mm.DiagNormal]:
    """A model with posteriors of widths 0.3 to 0.9, its encoder narrower, and its exact p(x)."""
    width = torch.linspace(0.3, 0.9, dim, dtype=torch.float64)
    # x = z + noise of variance s²: the posterior's variance is s² / (1 + s²), its mean x / (1 + s²)
    noise = width / (1 - width.square()).sqrt()
    shrink = 1 / (1 + noise.square())
    encoder, decoder = Linear(shrink, width / factor), Linear(torch.ones_like(noise), noise)
    prior = mm.StandardNormal(dim).double()
    marginal = mm.DiagNormal(torch.zeros_like(noise), (1 + noise.square()).sqrt())
    return mm.Joint(encoder, decoder, prior), marginal


def proposal_of(name: str, model: mm.Joint, marginal: mm.DiagNormal) -> mm.Conditional | None:
    """The proposal of importance sampling; None for the encoder."""
    if name == "encoder":
        return None
    if name == "defensive":
        return mm.DefensiveProposal(model)
    recipe = mm.Training(epochs=150, learning_rate=1e-2, warmup=0)
    train, val = marginal.sample((2000,)), marginal.sample((500,))
    return mm.refit_proposal(model, train, val, training=recipe, progress=False)


def main() -> None:
    """Print a row for each dimension, factor and proposal, and a total for each proposal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 10, 40])
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 2, 10, 100])
    names = ["encoder", "defensive", "refitted", "annealed"]
    parser.add_argument("--proposals", choices=names, nargs="+", default=names)
    parser.add_argument("--repeats", type=int, default=200, help="fresh examples per row")
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=2000, help="steps of annealed chains")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    print(f"{'D':>3} {'factor':>6} {'proposal':9} {'off':>5} {'of these flagged':>16} "
          f"{'flagged':>7} {'coverage':>8} {'inexact':>8} {'median k':>8}")  # fmt: skip
    gathered: dict[str, list[Tensor]] = {}
    gaps = []
    for dim in arguments.dims:
        for factor in arguments.factors:
            model, marginal = model_and_marginal(dim, factor)
            x = marginal.sample((arguments.repeats,))
            for name in arguments.proposals:
                if name == "annealed":
                    continue
                proposal = proposal_of(name, model, marginal)
                result = mm.log_likelihood(model, x, arguments.samples, proposal=proposal)
                row = compared(result, marginal.log_prob(x))
                gathered.setdefault(name, []).append(row)
                k = float(result.pareto_k.median())
                print(f"{dim:>3} {factor:>6g} {name:9} {summary(row)} {k:8.2f}", flush=True)
        if "annealed" in arguments.proposals:  # From the prior, whatever the encoder is.
            x = marginal.sample((arguments.repeats,))
            annealed = mm.annealed_log_likelihood(model, x, num_steps=arguments.steps)
            row = compared(annealed, marginal.log_prob(x))
            gathered.setdefault("annealed", []).append(row)
            print(f"{dim:>3} {'-':>6} {'annealed':9} {summary(row)} {'-':>8}", flush=True)
            gaps.append(mm.bidirectional_check(model, 50, num_steps=arguments.steps))
    for name, rows in gathered.items():
        print(f"{'all':>10} {name:9} {summary(torch.cat(rows))}")
    for dim, gap in zip(arguments.dims, gaps, strict=False):
        print(f"\nannealed, D = {dim}: {gap}")


def compared(result: LogLikelihood | AnnealedLogLikelihood, truth: Tensor) -> Tensor:
    """Whether each estimate is off, flagged, covers the truth, and is inexact."""
    gap = (result.values - truth).abs()
    # With equal weights the only error is rounding, and the interval always covers the truth.
    inexact = result.standard_errors > 1e-8
    inside = gap <= 1.96 * result.standard_errors + 1e-9
    return torch.stack([gap > 0.1, result.flagged, inside, inexact], 1)


def summary(row: Tensor) -> str:
    """Shares of estimates: off, flagged if off, flagged, covered if unflagged.

    The last is given for all estimates and for inexact estimates.
    """
    off, flagged, inside, inexact = row.T

    def share(part: Tensor) -> float:
        return float(part.double().mean()) if len(part) else math.nan

    shares = f"{share(off):5.2f} {share(flagged[off]):16.3f} {share(flagged):7.2f}"
    return f"{shares} {share(inside[~flagged]):8.3f} {share(inside[~flagged & inexact]):8.3f}"


if __name__ == "__main__":
    main()
