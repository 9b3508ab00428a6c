"""Fit a prior to the aggregate posterior of a trained model."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from mimachine._support.checks import instance, one_of, whole
from mimachine._support.process import exclusive, ignoring_warnings
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import Examples, all_examples, like
from mimachine.data.sources import Source
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.likelihood.importance import LogLikelihood, log_likelihood
from mimachine.model.annealing import Annealing
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.flows import FlowPrior
from mimachine.model.joint import Joint, check_joint, checked, log_prior
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating
from mimachine.model.priors import FullGaussianMixture, VampPrior
from mimachine.training.batches import Data, as_source, check_fabric, placed
from mimachine.training.fit import fit
from mimachine.training.recipe import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Kind", "PriorComparison", "compare_priors", "recipe", "refit_prior"]

Kind = Literal["gmm", "vamp", "flow"]
# Codes to fit a mixture to: several samples per row of few data, one per row of many.
_MOST_CODES, _MOST_DRAWS = 10_000, 8
# Ridges added to the variances of components, in units of the variances of all codes.
_RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_FIRST_RIDGE, _USUAL_RIDGE = _RIDGES.index(1e-3), 1e-1
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
# More components may need a larger ridge at the same time, because they are narrower.
_STEPS_ON_GRID = ((1, 0), (1, 1), (0, 1), (0, -1), (-1, 0), (-1, -1))
# Smallest gain in nats of a step on the grid, so that noise adds no components.
_WORTH = 0.01
_PSEUDO_INPUTS = 100
# Pseudo-inputs move by whole units of the data and need a higher rate than networks.
_RATES = {"gmm": 1e-3, "vamp": 1e-2, "flow": 1e-3}
_STEPS, _FEWEST_EPOCHS, _PATIENCE = 2000, 10, 20


def refit_prior(
    model: Joint,
    train: Data,
    val: Data | None = None,
    *,
    kind: Kind = "gmm",
    components: int | None = None,
    training: Training | None = None,
    fabric: Fabric | None = None,
    progress: bool | None = None,
) -> Joint:
    r"""Fit a new prior to the aggregate posterior of a model, keeping encoder and decoder.

    The aggregate posterior q(z) = E_x q(z|x) is the distribution of the codes of all data. The new
    prior p'(z) maximises its mean log-density. This raises the ELBO, for any decoder, by as much
    as it lowers the divergence of the aggregate posterior from the prior:

    .. math:: E_{q(z)} [\log p'(z) - \log p(z)]
        = \mathrm{KL}(q(z) \| p(z)) - \mathrm{KL}(q(z) \| p'(z))

    "gmm" is a `FullGaussianMixture`, fitted by EM to up to 10,000 codes in units of their standard
    deviations. A fraction of the variance of all codes is added to that of every component, so that
    components do not collapse on single rows. This fraction and the number of components are chosen
    by steps on a grid, starting with one component, as long as a step raises the held-out
    likelihood. "vamp" is a `VampPrior` with this encoder, of which only the pseudo-inputs are
    trained. "flow" is a `FlowPrior` of codes in units of their standard deviations. These two are
    trained on new samples z ~ q(z|x) in every epoch.

    Use "gmm" if the encoder is nearly deterministic: a `VampPrior` is a mixture of posteriors, and
    if they are narrow it covers only the codes of its pseudo-inputs.

    Args:
        model: The model, used in evaluation mode. It is not changed.
        train: Data to encode, as for `fit`.
        val: Held-out data, as for `fit`, for early stopping and for the choices of "gmm". Without
            them "gmm" has 10 components by default, and adds a tenth of the variance.
        kind: Kind of the prior.
        components: Number of components of the mixture, by default chosen. For a `VampPrior`,
            number of pseudo-inputs, which start at training data; by default 100, or the number of
            rows if that is smaller. A flow has none.
        training: The recipe, of which "gmm" uses only the seed. By default 2,000 steps and at least
            10 epochs, with a learning rate of 0.01 for pseudo-inputs.
        fabric: Device, precision and strategy of the training, as for `fit`.
        progress: Whether to show a progress bar, as for `fit`.

    Returns:
        A model with the new prior that shares the encoder, the decoder and the data prior with
        `model`, so training one changes the other.

    Raises:
        ImportError: If zuko is not installed and the kind is "flow".
        TypeError: If the latents are discrete.
        ValueError: If the kind is unknown, the number of components is out of range, the latents
            are not vectors (for "gmm" and "flow"), or the codes are not finite or do not vary; and
            as for `fit`.

    References:
        ELBO surgery: yet another way to carve up the variational evidence lower bound (Hoffman
        and Johnson, 2016); From Variational to Deterministic Autoencoders (Ghosh et al., 2020),
        https://arxiv.org/abs/1903.12436, which also fits a mixture after training

    Example:
        >>> model = Joint(
        ...     mm.Gaussian(MLP(3, 4)), mm.Gaussian(MLP(2, 6)), mm.StandardNormal(2)
        ... )
        >>> train, val = torch.randn(100, 3), torch.randn(50, 3)
        >>> refitted = mm.refit_prior(model, train, val)
        >>> refitted.encoder is model.encoder, type(refitted.prior).__name__
        (True, 'FullGaussianMixture')
    """
    check_joint("model", model)
    one_of("kind", kind, get_args(Kind))
    if components is not None and kind == "flow":
        raise ValueError(f"components must be None for a flow, which has none, got {components}")
    components = None if components is None else whole("components", components, 1)
    if training is not None:
        instance("training", training, Training, "a Training")
    check_fabric(fabric)
    place = like(model)
    place = torch.empty(()) if place is None else place
    data = as_source("train", train, place, 0 if training is None else training.seed, model)
    training = recipe(kind, len(data)) if training is None else training
    of_val = derived_seed(training.seed, "val")
    held_out = None if val is None else as_source("val", val, place, of_val, model)
    _check_latents(model, data, place, kind)
    with forked(derived_seed(training.seed, "refitted prior"), place.device):
        prior = _first(model, data, held_out, kind, components, training, place)
    prior = prior.to(place.device, place.dtype)
    if kind != "gmm":
        loss = _CrossEntropy(model, prior)
        fit(loss, train, val, training, fabric=fabric, progress=progress)
        prior = loss.prior.to(place.device)
        prior.zero_grad(set_to_none=True)
    if isinstance(prior, VampPrior):
        # Use the model's encoder again instead of the copy.
        prior = VampPrior(model.encoder, prior.pseudo_inputs)
    refitted = Joint(model.encoder, model.decoder, prior, model.data_prior)
    # `train` would change the mode of the shared parts.
    refitted.training = model.training
    return refitted


def recipe(kind: Kind, num_data: int, seed: int = 0) -> Training:
    """Default recipe of `refit_prior`: 2,000 steps, and at least 10 epochs."""
    steps = math.ceil(num_data / Training.batch_size)
    epochs = max(_FEWEST_EPOCHS, _STEPS // max(1, steps))
    return Training(epochs, learning_rate=_RATES[kind], warmup=0, patience=_PATIENCE, seed=seed)


class _CrossEntropy(nn.Module):
    """Cross-entropy -log p(z) of new codes z ~ q(z|x), in which only the prior is trained."""

    def __init__(self, model: Joint, prior: nn.Module) -> None:
        super().__init__()
        # Copies, since training may move them; a VampPrior has the same copy of the encoder.
        memo: dict[int, Any] = {}
        self.encoder = copy.deepcopy(model.encoder, memo).requires_grad_(False)
        self.prior = copy.deepcopy(prior, memo)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, x: Tensor, annealing: Annealing | None = None) -> Tensor:
        """Loss of each row of x (B, *X), shape (B,), in nats; annealing is ignored."""
        with torch.no_grad():
            z = checked("encoder", self.encoder(x), len(x)).sample()
            place = like(self.prior)
            # Distributions of a model of half precision may be of single precision.
            z = z if place is None else z.to(place.dtype)
        return -log_prior("prior", self.prior(), z)


def _check_latents(model: Joint, data: Source, like: Tensor, kind: Kind) -> None:
    x = next(iter(data.batches(2, 1)), None)
    if x is None:
        raise ValueError("train gave no batch in an epoch")
    x = placed(x, like)
    with (
        forked(0, like.device),
        torch.no_grad(),
        evaluating(model),
        naming_misfits(model, x, "train"),
    ):
        encoder = checked("encoder", model.encoder(x), len(x))
    if is_discrete(encoder):
        raise TypeError(
            f"encoder must give continuous latents to fit a prior, got {type(encoder).__name__}"
        )
    if kind != "vamp" and len(encoder.event_shape) != 1:
        raise ValueError(
            f'encoder must give latents of shape (D,) for kind "{kind}", '
            f"got {tuple(encoder.event_shape)}"
        )


# --- codes ---------------------------------------------------------------------------------------


@torch.no_grad()
def _codes(model: Joint, data: Source, training: Training, purpose: str, like: Tensor) -> Tensor:
    """Samples of q(z|x) for up to 10,000 rows, shape (n, D); several per row of few data."""
    parts: list[Tensor] = []
    with forked(derived_seed(training.seed, "codes", purpose), like.device), evaluating(model):
        for x in _rows(data, training.batch_size):
            parts.append(model.encoder(placed(x, like)).sample())
    if not parts:
        raise ValueError(f"{purpose} gave no batch in an epoch")
    codes = torch.cat(parts)
    if not codes.isfinite().all():
        raise ValueError(f"the codes of {purpose} must be finite, but some are not")
    return codes


def _rows(data: Source, batch_size: int) -> Iterator[Tensor]:
    """Batches of about 10,000 rows in total, from up to 8 epochs."""
    count = 0
    for epoch in range(1, 1 + min(_MOST_DRAWS, max(1, _MOST_CODES // max(1, len(data))))):
        for x in data.batches(batch_size, epoch):
            if count < _MOST_CODES:
                yield x
            count += len(x)


def _location(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent."""
    mean, std = codes.mean(0), codes.std(0, correction=0)
    constant = (std <= 0).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"the codes of train must vary, but latents {constant} are constant")
    return mean, std


# --- kinds ---------------------------------------------------------------------------------------


def _first(
    model: Joint,
    data: Source,
    held_out: Source | None,
    kind: Kind,
    components: int | None,
    training: Training,
    like: Tensor,
) -> nn.Module:
    """The prior before training; a mixture is already fitted."""
    if kind == "gmm":
        return _mixture(model, data, held_out, components, training, like)
    if kind == "vamp":
        most = min(_PSEUDO_INPUTS, len(data))
        return _pseudo_inputs(model, data, most if components is None else components)
    mean, std = _location(_codes(model, data, training, "train", like))
    return FlowPrior(len(mean), mean=mean, std=std)


def _mixture(
    model: Joint,
    data: Source,
    held_out: Source | None,
    components: int | None,
    training: Training,
    like: Tensor,
) -> FullGaussianMixture:
    codes = _codes(model, data, training, "train", like).double().cpu()
    mean, std = _location(codes)
    standardized, seed = (codes - mean) / std, derived_seed(training.seed, "mixture")
    if components is not None and components > len(codes):
        raise ValueError(
            f"components must be at most the number of codes {len(codes)}, got {components}"
        )
    if held_out is None:
        size = min(10, len(codes)) if components is None else components
        found = _by_em(standardized, size, _USUAL_RIDGE, seed)
    else:
        unseen = _codes(model, held_out, training, "val", like).double().cpu()
        # At least two codes per component.
        few = max(1, len(codes) // 2)
        sizes = [n for n in _SIZES if n <= few] if components is None else [components]
        found = _chosen(standardized, (unseen - mean) / std, sizes, seed)
    weights, loc, covariance = map(
        torch.from_numpy, (found.weights_, found.means_, found.covariances_)
    )
    scale_tril = torch.linalg.cholesky(covariance)
    return FullGaussianMixture.of(weights, mean + std * loc, std[:, None] * scale_tril)


def _chosen(codes: Tensor, unseen: Tensor, sizes: Sequence[int], seed: int) -> Any:
    """The mixture with the best held-out likelihood, by steps on a grid from one component."""
    fitted: dict[tuple[int, int], tuple[float, Any]] = {}

    def score(place: tuple[int, int]) -> float:
        if place not in fitted:
            mixture = _by_em(codes, sizes[place[0]], _RIDGES[place[1]], seed)
            with exclusive():
                fitted[place] = (float(mixture.score(unseen.numpy())), mixture)
        return fitted[place][0]

    place = (0, _FIRST_RIDGE)
    while True:
        steps = [(place[0] + size, place[1] + ridge) for size, ridge in _STEPS_ON_GRID]
        on_grid = [(i, j) for i, j in steps if 0 <= i < len(sizes) and 0 <= j < len(_RIDGES)]
        best = max(on_grid, key=score)
        if score(best) < score(place) + _WORTH:
            return fitted[place][1]
        place = best


def _by_em(codes: Tensor, components: int, ridge: float, seed: int) -> Any:
    """scikit-learn's mixture of normals with full covariances, fitted to codes (n, D)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        components, reg_covar=ridge, tol=1e-2, max_iter=100, random_state=seed % 2**32
    )
    # A mixture that has not converged is still a density, and is scored as one.
    with ignoring_warnings(ConvergenceWarning):
        return mixture.fit(codes.numpy())


def _pseudo_inputs(model: Joint, data: Source, components: int) -> VampPrior:
    """VampPrior of this encoder with random training rows as pseudo-inputs."""
    if components > len(data):
        raise ValueError(
            f"components must be at most {len(data)}, the number of training rows that "
            f"pseudo-inputs start from, got {components}"
        )
    rows = next(iter(data.batches(components, 1)))
    return VampPrior(model.encoder, rows)


# --- comparison ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PriorComparison:
    """Likelihoods of the same data under two priors, with the same random numbers.

    Attributes:
        before: Estimates under the first prior.
        after: Estimates under the second prior.
    """

    before: LogLikelihood
    after: LogLikelihood

    @property
    def likelihood_gain(self) -> Estimate:
        """Mean gain of log p(x) in nats, with the standard error of the differences."""
        return Estimate.mean_of(self.after.values - self.before.values)

    @property
    def bound_gain(self) -> Estimate:
        """Mean gain of the ELBO in nats, which is the mean drop of E log q(z|x) - log p(z)."""
        gains = self.after.evidence_lower_bounds - self.before.evidence_lower_bounds
        return Estimate.mean_of(gains)

    def __str__(self) -> str:
        flagged = [float(each.flagged.double().mean()) for each in (self.before, self.after)]
        return (
            f"log p(x) {self.before.mean()} before and {self.after.mean()} after, a gain of "
            f"{self.likelihood_gain} nats ({flagged[0]:.0%} and {flagged[1]:.0%} flagged); gain of "
            f"the ELBO {self.bound_gain} nats"
        )


def compare_priors(
    before: Joint,
    after: Joint,
    x: Examples,
    num_samples: int = 1000,
    *,
    proposal: Conditional | None = None,
    seed: int = 0,
) -> PriorComparison:
    """Compare the likelihood of data under two priors, with the same random numbers.

    Args:
        before: A model.
        after: The model with another prior, as from `refit_prior`.
        x: Data, shape (N, *X), in any form that `fit` takes.
        num_samples: Number of importance samples per row.
        proposal: Proposal, as for `log_likelihood`; by default the encoder, which the models share.
            Unreliable estimates are marked by `flagged` of each result.
        seed: Seed of the samples; the global generator is not changed.

    Raises:
        ValueError: If the models do not share encoder and decoder, and as for `log_likelihood`.
    """
    check_joint("before", before)
    check_joint("after", after)
    for name in ("encoder", "decoder"):
        if getattr(before, name) is not getattr(after, name):
            raise ValueError(f"before and after must share their {name}, got two")
    x = all_examples("x", x, before)
    seed = derived_seed(whole("seed", seed), "compared priors")
    results = []
    for model in (before, after):
        with forked(seed, x.device):
            results.append(log_likelihood(model, x, num_samples, proposal=proposal))
    return PriorComparison(*results)
