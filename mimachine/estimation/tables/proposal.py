"""Proposal for imputation: a mixture of normals of the code given the seen entries of a row."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from mimachine._support.checks import instance, real, sizes, whole
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import like, reader_of_missing
from mimachine.estimation.tables.rows import filled, table_rows
from mimachine.model.annealing import Annealing
from mimachine.model.conditionals import MixtureDensity
from mimachine.model.distributions import DiagNormal, Mixture
from mimachine.model.joint import Joint, checked
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import MLP, evaluating
from mimachine.model.table_networks import TableFeatures
from mimachine.training.fit import fit
from mimachine.training.recipe import Training
from mimachine.training.schedules import Cosine

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["TableProposal", "blank_proposal", "fit_proposal", "recipe"]

# Smallest standard deviation of a component, in those of all codes.
_FLOOR = 0.02
# Share of draws from wider copies of the components, and their width. Fitted components are too
# narrow as often as too wide, and one that is too narrow gives weights without a mean.
_WIDE_SHARE, _WIDE = 0.3, 1.5
_STEPS, _FEWEST_EPOCHS, _LARGEST_BATCH = 1500, 4, 512
_MOST_CODES = 10_000
_HELD_OUT = 0.1
_COMPONENTS, _HIDDEN = 16, (128, 128)


class TableProposal(nn.Module):
    """Mixture of normals of the code given rows of a table with unknown entries.

    It consists of K normals that are fitted, in units of the mean and the standard deviation of all
    codes, and has 30 % of its weight on copies of them that are 1.5 times as wide, so that the
    weights of importance sampling have a lighter tail.

    Args:
        features: Maps rows (B, D), in which NaN and inf are unknown, to numbers (B, F).
        num_features: Number F of features.
        mean: Mean of all codes, shape (L,).
        std: Standard deviation of all codes, shape (L,).
        components: Number K of normals.
        hidden: Sizes of the hidden layers of the network.
    """

    def __init__(
        self,
        features: nn.Module,
        num_features: int,
        mean: Tensor,
        std: Tensor,
        components: int = _COMPONENTS,
        hidden: tuple[int, ...] = _HIDDEN,
    ) -> None:
        super().__init__()
        self.fitted = _Fitted(features, num_features, mean, std, components, hidden)

    def forward(self, rows: Tensor) -> Mixture:
        """Distribution of batch shape (B,) given rows (B, D)."""
        mixture = self.fitted(rows)
        normals = cast(DiagNormal, mixture.components)
        loc = torch.cat([normals.loc, normals.loc], -2)
        scale = torch.cat([normals.stddev, _WIDE * normals.stddev], -2)
        shares = [1 - _WIDE_SHARE, _WIDE_SHARE]
        logits = [mixture.log_weights + math.log(share) for share in shares]
        return Mixture(torch.cat(logits, -1), DiagNormal(loc, scale))


class _Fitted(nn.Module):
    """The normals that are fitted."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: nn.Module,
        num_features: int,
        mean: Tensor,
        std: Tensor,
        components: int,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        size = len(mean)
        network = MLP(num_features, components * (1 + 2 * size), hidden, nn.SiLU)
        with torch.no_grad():
            # Components that start at one place would be slow to part.
            last = cast(nn.Linear, network[-1])
            start = last.bias.zero_().view(components, 1 + 2 * size)
            start[:, 1 : 1 + size].normal_()
        self.density = MixtureDensity(nn.Sequential(features, network), components, _FLOOR)

    def forward(self, rows: Tensor) -> Mixture:
        mixture = self.density(rows)
        normals = cast(DiagNormal, mixture.components)
        scaled = DiagNormal(self.mean + self.std * normals.loc, self.std * normals.scale)
        return Mixture(mixture.log_weights, scaled)


def fit_proposal(
    model: Joint,
    train: Any,
    val: Any = None,
    *,
    features: nn.Module | None = None,
    components: int = _COMPONENTS,
    hidden: tuple[int, ...] = _HIDDEN,
    generated: float = 0.5,
    training: Training | None = None,
    seed: int = 0,
    fabric: Fabric | None = None,
    progress: bool | None = None,
) -> TableProposal:
    r"""Fit a proposal q(z|x_seen) for imputation that covers all codes that are possible.

    It is a mixture of normals whose weights, means and widths a network computes from the seen
    entries. It maximises its log-density at the codes of complete rows, of which it sees a part:

    .. math:: E \log q(z|x_\text{seen}), \quad z \sim q(z|x), \quad
        x_\text{seen} \text{ a random part of } x

    By maximum likelihood it covers the codes that rows with these entries have: a code that it
    misses costs much. A proposal refitted by a bound on the likelihood, as by `refit_proposal`,
    loses little by leaving out modes, and then imputes too little variety.

    A part of the pairs, `generated`, is drawn from the model, z ~ p(z) and x ~ p(x|z), so that the
    proposal also covers the model's posterior where the encoder is narrower. It needs a prior that
    fits the codes, see `refit_prior`. The share of hidden entries varies from row to row, between
    none and all, with a mean of a third.

    Args:
        model: The model, which stays as it is.
        train: Rows, shape (N, D); NaN is missing, inf is hidden.
        val: Held-out rows for the choice of the best epoch; by default a tenth of `train`, at
            random.
        features: Maps rows (B, D), in which NaN and inf are unknown, to numbers (B, F); by default
            the `TableFeatures` of the model's encoder.
        components: Number K of normals.
        hidden: Sizes of the hidden layers of the network.
        generated: Share of pairs drawn from the model, in [0, 1).
        training: The recipe; by default 1,500 steps with up to 512 rows, see `recipe`.
        seed: Seed of weights, order and noise of the default recipe; another has its own.
        fabric: Device, precision and strategy, as for `fit`.
        progress: Whether to show a progress bar, as for `fit`.

    Returns:
        The proposal in evaluation mode, on the model's device.

    Raises:
        TypeError: If `features` is no module, or the encoder has no `TableFeatures`.
        ValueError: If the rows do not fit the model, there are fewer than two, or the codes are not
            finite or do not vary.

    References:
        Mixture Density Networks (Bishop, 1994), https://publications.aston.ac.uk/id/eprint/373/;
        Inference Compilation and Universal Probabilistic Programming (Le et al., 2017),
        https://arxiv.org/abs/1610.09900
    """
    rows, unseen = _parts(model, train, val, whole("seed", seed))
    components, hidden = whole("components", components, 1), sizes("hidden", hidden)
    generated = real("generated", generated, 0, below=1)
    if training is not None:
        instance("training", training, Training, "a Training")
    training = recipe(len(rows), seed) if training is None else training
    features = _features(model) if features is None else features
    instance("features", features, nn.Module, "a module that maps rows to numbers")
    with forked(derived_seed(training.seed, "proposal"), rows.device):
        with naming_misfits(model, rows, "train"):
            mean, std = _location(model, rows)
        proposal = _before_training(features, rows, mean, std, components, hidden)
    loss = _CrossEntropy(model, proposal.fitted, generated)
    fit(loss, rows, unseen, training, fabric=fabric, progress=progress)
    proposal.zero_grad(set_to_none=True)
    return proposal.to(rows.device).eval()


def blank_proposal(model: Joint, num_columns: int) -> TableProposal:
    """A proposal of the default form without training, to load weights into.

    Args:
        model: The model.
        num_columns: Number of columns D of its rows.
    """
    size = model.prior().event_shape.numel()
    features = _features(model)
    rows = torch.full((2, num_columns), math.nan)
    place = like(model)
    rows = rows if place is None else rows.to(place)
    with forked(0, rows.device):
        mean, std = rows.new_zeros(size), rows.new_ones(size)
        return _before_training(features, rows, mean, std, _COMPONENTS, _HIDDEN).eval()


def _features(model: Joint) -> nn.Module:
    features = reader_of_missing(model)
    instance("features", features, nn.Module, "a module that maps rows to numbers")
    assert features is not None
    return features


def _before_training(
    features: nn.Module,
    rows: Tensor,
    mean: Tensor,
    std: Tensor,
    components: int,
    hidden: tuple[int, ...],
) -> TableProposal:
    with torch.no_grad():
        num_features = features(rows[:2]).shape[-1]
    features = copy.deepcopy(features)
    if isinstance(features, TableFeatures):
        # Values are hidden here already.
        features.hide = 0.0
    proposal = TableProposal(features, num_features, mean, std, components, hidden)
    return proposal.to(rows.device, rows.dtype)


def recipe(num_rows: int, seed: int = 0) -> Training:
    """Default recipe of `fit_proposal`: 1,500 steps, and at least 4 epochs.

    The learning rate of Adam falls from 0.002 to 0 along a cosine, with batches of up to 512 rows.

    Args:
        num_rows: Number of training rows.
        seed: Seed of order and noise.
    """
    batch_size = min(_LARGEST_BATCH, max(16, num_rows // 8))
    epochs = max(_FEWEST_EPOCHS, round(_STEPS / math.ceil(num_rows / batch_size)))
    return Training(epochs, batch_size, 2e-3, schedule=Cosine(), warmup=0, seed=seed)


class _CrossEntropy(nn.Module):
    """Cross-entropy -log q(z|x_seen) at codes of complete rows; only the proposal is trained."""

    def __init__(self, model: Joint, proposal: nn.Module, generated: float) -> None:
        super().__init__()
        # Copies, since training may move them to another device.
        self.fixed = copy.deepcopy(model).requires_grad_(False).eval()
        self.proposal, self.generated = proposal, generated

    def train(self, mode: bool = True) -> Self:
        """Keep the model in evaluation mode."""
        super().train(mode)
        self.fixed.eval()
        return self

    def forward(self, x: Tensor, annealing: Annealing | None = None) -> Tensor:
        """Loss of each row of x (B, D), shape (B,), in nats; annealing is ignored."""
        with torch.no_grad():
            # Rows are shuffled, so it does not matter which of them the generated ones replace.
            count = round(self.generated * len(x))
            drawn = self.fixed.prior().sample(torch.Size((count,)))
            decoder = checked("decoder", self.fixed.decoder(drawn), count)
            generated = filled(decoder, torch.full_like(x[:count], math.inf))
            encoder = checked("encoder", self.fixed.encoder(x[count:]), len(x) - count)
            z = torch.cat([drawn, encoder.sample()])
            x = torch.cat([generated, x[count:]])
            # Most rows of a table have few unknown entries, most conditions have many.
            share = torch.rand(len(x), 1, device=x.device).square()
            seen = torch.where(torch.rand_like(x) < share, math.inf, x)
        loss: Tensor = -self.proposal(seen).log_prob(z)
        return loss


def _parts(model: Joint, train: Any, val: Any, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and held-out rows."""
    rows = table_rows("train", train, model)
    if len(rows) < 2:
        raise ValueError(f"train must have 2 rows or more, got {len(rows)}")
    if val is not None:
        return rows, table_rows("val", val, model)
    generator = torch.Generator().manual_seed(derived_seed(seed, "held-out rows"))
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    count = max(1, int(_HELD_OUT * len(rows)))
    return rows[order[count:]], rows[order[:count]]


@torch.no_grad()
def _location(model: Joint, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the codes of up to 10,000 rows, each of shape (L,)."""
    some = rows[torch.randperm(len(rows))[:_MOST_CODES].to(rows.device)]
    with evaluating(model):
        codes = torch.cat(
            [checked("encoder", model.encoder(x), len(x)).sample() for x in some.split(1000)]
        )
    place = like(model)
    if codes.dim() != 2 or not codes.is_floating_point():
        raise ValueError(
            f"encoder must give real latents of shape (L,), got {tuple(codes.shape[1:])} of type "
            f"{codes.dtype}"
        )
    if not codes.isfinite().all():
        raise ValueError("the codes of train must be finite, but some are not")
    mean, std = codes.mean(0), codes.std(0, correction=0)
    constant = (std <= 0).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"the codes of train must vary, but latents {constant} are constant")
    return mean, std if place is None else std.to(place.dtype)
