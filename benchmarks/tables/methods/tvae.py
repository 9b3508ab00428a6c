"""TVAE: a variational auto-encoder of mixed tables with mode-specific normalisation."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from torch import Tensor, nn

from tables.columns import Column, Floats, Ints, Levels, columns_of, to_floats
from tables.methods.networks import Recipe, mlp, train

_LATENT, _HIDDEN, _MODES = 128, (128, 128), 10
# Epochs of batches of 500 rows, of which large tables take no more than this number of steps.
_EPOCHS, _BATCH, _MOST_STEPS = 300, 500, 20_000
_MOST_FITTED = 10_000


class Modes:
    """A column of numbers as a mode of a mixture of normals and a value within the mode.

    The value is the distance from the mean of the mode in four of its standard deviations. A
    missing value is a mode more. The mode of a value is drawn by its probabilities.

    Args:
        column: The column.
        train: Its training values.
        random: Source of the random rows and modes.
    """

    def __init__(self, column: Column, train: pl.Series, random: np.random.Generator) -> None:
        self.column, self.random = column, random
        values = to_floats(train.drop_nulls())
        self.centre, self.unit = values.mean(), values.std() or 1.0
        chosen = random.permutation(self._standard(values))[:_MOST_FITTED, None]
        found = BayesianGaussianMixture(
            n_components=min(_MODES, len(chosen)),
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=1e-3,
            random_state=int(random.integers(2**31)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found.fit(chosen)
        self.used = np.flatnonzero(found.weights_ > 0.005)
        self.fitted = found
        self.means = found.means_[self.used, 0]
        self.deviations = np.sqrt(found.covariances_[self.used, 0, 0])
        self.count = len(self.used) + 1

    def _standard(self, values: Floats) -> Floats:
        return (values - self.centre) / self.unit

    def encode(self, values: pl.Series) -> tuple[Floats, Ints]:
        """Values within their modes, in [-1, 1], and the modes, each of shape (N,)."""
        points = to_floats(values)
        missing = np.isnan(points)
        standard = np.nan_to_num(self._standard(points))
        shares = self.fitted.predict_proba(standard[:, None])[:, self.used] + 1e-9
        ends = (shares / shares.sum(1, keepdims=True)).cumsum(1)
        mode = (self.random.random(len(points))[:, None] > ends).sum(1).clip(max=self.count - 2)
        within = (standard - self.means[mode]) / (4 * self.deviations[mode])
        within = np.where(missing, 0.0, within.clip(-1, 1))
        return within, np.where(missing, self.count - 1, mode)

    def series(self, within: Floats, mode: Ints) -> pl.Series:
        """Numbers of values within modes."""
        inside = mode.clip(max=self.count - 2)
        standard = self.means[inside] + 4 * self.deviations[inside] * within.clip(-1, 1)
        values = standard * self.unit + self.centre
        return self.column.series(np.where(mode == self.count - 1, np.nan, values))


class Network(nn.Module):
    """Encoder and decoder of TVAE.

    Args:
        sizes: Number of modes or levels of each column.
        numbers: Number of columns of numbers.
    """

    def __init__(self, sizes: list[int], numbers: int) -> None:
        super().__init__()
        self.sizes, self.numbers = sizes, numbers
        width = numbers + sum(sizes)
        self.encoder = mlp(width, 2 * _LATENT, _HIDDEN)
        self.decoder = mlp(_LATENT, width, _HIDDEN)
        # Logarithms of the standard deviations of the values within modes.
        self.log_deviation = nn.Parameter(torch.full((numbers,), -2.0))

    def encode(self, within: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of standard deviations of the codes, each of shape (B, 128)."""
        indicators = [
            nn.functional.one_hot(chosen[:, place], size) for place, size in enumerate(self.sizes)
        ]
        mean, log_deviation = self.encoder(torch.cat([within, *indicators], 1)).chunk(2, 1)
        return mean, log_deviation

    def decode(self, codes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Means of the values within modes, (B, numbers), and log-probabilities of the others."""
        means, logits = self.decoder(codes).split([self.numbers, sum(self.sizes)], dim=1)
        return means.tanh(), [part.log_softmax(1) for part in logits.split(self.sizes, dim=1)]


class Tvae:
    """TVAE with the sizes and the training of its paper, written from the paper.

    Missing values, of which the paper says nothing, are a level or a mode more. The training has
    300 epochs, but no more than 20,000 steps.

    References:
        Modeling tabular data using conditional GAN (Xu et al., 2019), section 4.5 and 4.2,
        https://arxiv.org/abs/1907.00503
    """

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.seed, self.effort = seed, effort
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def fit(self, train_rows: pl.DataFrame) -> None:
        self.columns: list[Modes | Levels] = [
            each if isinstance(each, Levels) else Modes(each, train_rows[each.name], self.random)
            for each in columns_of(train_rows)
        ]
        within, chosen = self._inputs(train_rows)
        sizes = [c.count if isinstance(c, Modes) else len(c.levels) + 1 for c in self.columns]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.network = Network(sizes, within.shape[1])
        epochs = -(-len(train_rows) // _BATCH) * _EPOCHS
        steps = max(1, round(self.effort * min(_MOST_STEPS, epochs)))
        train(
            self.network,
            lambda rows: self._loss(within[rows], chosen[rows]),
            len(train_rows),
            Recipe(steps, _BATCH, weight_decay=1e-5),
            self.seed,
        )

    def _inputs(self, rows: pl.DataFrame) -> tuple[Tensor, Tensor]:
        """Values within modes, shape (N, numbers), and modes and levels, shape (N, D)."""
        within, chosen = [], []
        for column in self.columns:
            if isinstance(column, Modes):
                value, mode = column.encode(rows[column.column.name])
                within.append(value)
                chosen.append(mode)
            else:
                chosen.append(column.index(rows[column.name]))
        values = np.stack(within, 1) if within else np.zeros((len(rows), 0))
        return torch.from_numpy(values).float(), torch.from_numpy(np.stack(chosen, 1))

    def _loss(self, within: Tensor, chosen: Tensor) -> Tensor:
        """Negative lower bound of the log-likelihood, mean over rows, in nats."""
        mean, log_deviation = self.network.encode(within, chosen)
        noise = torch.randn(mean.shape, generator=self.generator)
        means, log_probs = self.network.decode(mean + log_deviation.exp() * noise)
        deviation = self.network.log_deviation.exp()
        # A missing number has no value within a mode.
        present = torch.stack(
            [
                chosen[:, place] < column.count - 1
                for place, column in enumerate(self.columns)
                if isinstance(column, Modes)
            ]
            or [chosen.new_zeros(len(chosen), dtype=torch.bool)],
            1,
        )[:, : within.shape[1]]
        normal = torch.distributions.Normal(means, deviation).log_prob(within)
        found = torch.where(present, normal, 0.0).sum(1)
        for place, part in enumerate(log_probs):
            found = found + part.gather(1, chosen[:, place, None])[:, 0]
        divergence = (mean.square() + (2 * log_deviation).exp() - 1) / 2 - log_deviation
        return (divergence.sum(1) - found).mean()

    @torch.no_grad()
    def sample(self, count: int) -> pl.DataFrame:
        parts = [self._drawn(min(2048, count - start)) for start in range(0, count, 2048)]
        return pl.concat(parts)

    def _drawn(self, count: int) -> pl.DataFrame:
        means, log_probs = self.network.decode(
            torch.randn(count, _LATENT, generator=self.generator)
        )
        noise = torch.randn(means.shape, generator=self.generator)
        within = (means + self.network.log_deviation.exp() * noise).double().numpy()
        chosen = [
            torch.multinomial(part.exp(), 1, generator=self.generator)[:, 0].numpy()
            for part in log_probs
        ]
        columns, number = [], 0
        for column, index in zip(self.columns, chosen, strict=True):
            if isinstance(column, Modes):
                columns.append(column.series(within[:, number], index))
                number += 1
            else:
                columns.append(column.series(index))
        return pl.DataFrame(columns)
