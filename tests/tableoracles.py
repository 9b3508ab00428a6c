"""Models of tables whose conditionals are known: closed forms for normals, sums over a fine grid
of codes for everything with one latent.

Columns are independent given z: first numbers, then levels. Values of numbers are real, so that
formulas for normals hold; estimators treat them as any others.
"""

from __future__ import annotations

import math

import torch
from oracles import LinearGaussian, Normal
from torch import Size, Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

import mimachine as mm


class Columns(Distribution):
    """Numbers N(loc, scale²), then levels by logits, and perhaps holes by logits."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, loc: Tensor, scale: Tensor, logits: list[Tensor], holes: Tensor | None):
        self.loc, self.scale, self.holes = loc, scale.expand_as(loc), holes
        self.log_levels = [each.log_softmax(-1) for each in logits]
        width = loc.shape[-1] + len(logits)
        super().__init__(loc.shape[:1], Size((width,)), validate_args=False)

    def log_probs(self, x: Tensor) -> Tensor:
        seen = x.isfinite()
        x = torch.where(seen, x, 0.0)
        numbers = x[..., : self.loc.shape[-1]]
        parts = [torch.distributions.Normal(self.loc, self.scale).log_prob(numbers)]
        for index, log_levels in enumerate(self.log_levels, self.loc.shape[-1]):
            chosen = x[..., index : index + 1].long()
            parts.append(log_levels.gather(-1, chosen))
        return torch.where(seen, torch.cat(parts, -1), 0.0)

    def log_prob(self, x: Tensor) -> Tensor:
        total = self.log_probs(x).sum(-1)
        if self.holes is None:
            return total
        own = nn.functional.logsigmoid(torch.where(x.isnan(), self.holes, -self.holes))
        return total + torch.where(x.isposinf(), 0.0, own).sum(-1)

    def complete(self, x: Tensor) -> Tensor:
        parts = [self.loc + self.scale * torch.randn_like(self.loc)]
        for each in self.log_levels:
            parts.append(torch.multinomial(each.exp(), 1).to(self.loc.dtype))
        return torch.where(x.isfinite(), x, torch.cat(parts, -1))

    def sample(self, shape: Size = Size()) -> Tensor:
        assert not shape
        x = self.complete(self.loc.new_full(self.batch_shape + self.event_shape, math.nan))
        if self.holes is None:
            return x
        return torch.where(torch.rand_like(x) < self.holes.sigmoid(), math.nan, x)


class Decoder(nn.Module):
    """Numbers of a mean `centre(z)`, levels and holes of linear logits.

    Args:
        centre: Maps (B, L) to (B, G).
        scale: Standard deviations of the numbers, shape (G,).
        levels: For each column of levels the weights (K, L) and the biases (K,) of its logits.
        holes: Weights (D, L) and biases (D,) of the logits of holes.
    """

    def __init__(self, centre, scale, levels=(), holes=None):
        super().__init__()
        self.centre, self.levels, self.holes = centre, levels, holes
        self.scale = nn.Parameter(scale)
        line = mm.Grid((-1.0, 1.0), (-1.0, 1.0))
        self.columns = [line] * len(scale)
        self.columns += [mm.Choice((1.0,) * len(bias)) for _, bias in levels]

    def forward(self, z: Tensor) -> Columns:
        logits = [z @ weight.T + bias for weight, bias in self.levels]
        holes = None if self.holes is None else z @ self.holes[0].T + self.holes[1]
        return Columns(self.centre(z), self.scale, logits, holes)


class Given(nn.Module):
    """The conditional distribution of a normal joint (x, z), given the seen entries of x.

    Args:
        joint: The joint.
        width: Size of x.
        widen: Factor on the standard deviations.
        shift: Added to the means.
    """

    takes_missing = True

    def __init__(self, joint: Normal, width: int, widen: float = 1.0, shift: float = 0.0):
        super().__init__()
        self.joint, self.width, self.widen, self.shift = joint, width, widen, shift

    def forward(self, rows: Tensor) -> MultivariateNormal:
        wanted = torch.arange(self.width, len(self.joint.mean))
        found = [conditional(self.joint, row, wanted) for row in rows]
        mean = torch.stack([each.mean for each in found]) + self.shift
        covariance = torch.stack([each.covariance for each in found])
        return MultivariateNormal(mean, self.widen**2 * covariance)


def conditional(joint: Normal, row: Tensor, wanted: Tensor) -> Normal:
    """N(mean, covariance) of some of the coordinates, given the finite entries of a row."""
    seen = row.isfinite().nonzero().flatten()
    cross = joint.covariance[wanted][:, seen]
    gain = torch.linalg.solve(joint.covariance[seen][:, seen], cross.T).T
    mean = joint.mean[wanted] + gain @ (row[seen] - joint.mean[seen])
    return Normal(mean, joint.covariance[wanted][:, wanted] - gain @ cross.T)


def normal_table(case: LinearGaussian, **proposal: float) -> tuple[mm.Joint, nn.Module]:
    """The decoding joint of an oracle as a model of a table, and its exact proposal.

    The proposal is made wider or shifted by `widen` and `shift`.
    """
    _, decoder, prior, _, _ = case.modules()
    table = Decoder(lambda z: decoder(z).mean, case.s_p)
    model = mm.Joint(Given(case.q, len(case.b)), table, prior)
    return model, Given(case.p, len(case.b), **proposal)


class AtPrior(nn.Module):
    """A proposal that ignores the rows, N(0, width²) of one latent."""

    takes_missing = True

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.width = width

    def forward(self, rows: Tensor) -> mm.DiagNormal:
        loc = rows.new_zeros(len(rows), 1)
        return mm.DiagNormal(loc, torch.full_like(loc, self.width))


def by_sum(model: mm.Joint, row: Tensor) -> tuple[Tensor, Tensor]:
    """A fine grid of codes (n, 1) of one latent, and their probabilities given a row (n,)."""
    z = torch.linspace(-8, 8, 4001, dtype=row.dtype)[:, None]
    with torch.no_grad():
        log_joint = model.decoder(z).log_prob(row.expand(len(z), -1)) + model.prior().log_prob(z)
    return z, log_joint.softmax(0)
