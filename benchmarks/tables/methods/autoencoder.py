"""An auto-encoder with noise in its codes, and a mixture of normals fitted to them."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from scipy.special import ndtri
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from tables.columns import Column, Floats, Ints, Levels, columns_of, to_floats
from tables.methods.mixture import mixture
from tables.methods.networks import Recipe, mlp, train

_NOISE, _STEPS, _HIDDEN = 0.2, 3000, (256, 256)
_MOST_BINS = 64
# Numbers of components of which the best for held-out codes is taken.
_COMPONENTS = (1, 5, 20, 50)


class Bins:
    """A column as one of a finite number of values: levels, or bins of numbers of equal shares.

    Values that are frequent have bins of their own. Missing values are the last bin.

    Args:
        column: The column.
        train: Its training values.
    """

    def __init__(self, column: Column, train: pl.Series) -> None:
        self.column = column
        if isinstance(column, Levels):
            self.count = len(column.levels) + 1
            return
        self.values = np.sort(to_floats(train.drop_nulls()))
        bins = int(np.clip(len(self.values) // 20, 8, _MOST_BINS))
        # Each bin begins at a value; equal values share a bin.
        starts = self.values[np.arange(bins) * len(self.values) // bins]
        self.starts = np.unique(self.values if len(np.unique(self.values)) <= bins else starts)
        self.places = np.append(np.searchsorted(self.values, self.starts), len(self.values))
        self.count = len(self.starts) + 1

    def index(self, values: pl.Series) -> Ints:
        """Bin of each value, shape (N,)."""
        if isinstance(self.column, Levels):
            # New levels count as missing.
            return self.column.index(values).clip(max=self.count - 1)
        points = to_floats(values)
        found = np.searchsorted(self.starts, points, side="right") - 1
        return np.where(np.isnan(points), self.count - 1, found.clip(min=0)).astype(np.int64)

    def scores(self, values: pl.Series) -> Floats:
        """Normal scores of numbers, 0 where missing, shape (N,)."""
        points = to_floats(values)
        below, above = (np.searchsorted(self.values, points, side) for side in ("left", "right"))
        rank = (below + above) / 2 / len(self.values)
        edge = 0.5 / len(self.values)
        return np.where(np.isnan(points), 0.0, ndtri(rank.clip(edge, 1 - edge)))

    def series(self, index: Ints, random: np.random.Generator) -> pl.Series:
        """Values of bins: for numbers a random training value of each bin."""
        if isinstance(self.column, Levels):
            return self.column.series(index)
        missing = index == self.count - 1
        inside = index.clip(max=self.count - 2)
        first, last = self.places[inside], self.places[inside + 1]
        drawn = self.values[first + (random.random(len(index)) * (last - first)).astype(np.int64)]
        return self.column.series(np.where(missing, np.nan, drawn))


class Network(nn.Module):
    """Encoder from bins and normal scores to codes, and decoder to the logits of all bins.

    Args:
        bins: Number of bins of each column.
        numbers: Number of columns of numbers.
        latent: Number of latents.
    """

    def __init__(self, bins: list[int], numbers: int, latent: int) -> None:
        super().__init__()
        self.bins = bins
        starts = torch.tensor([0, *bins[:-1]]).cumsum(0)
        self.register_buffer("starts", starts)
        # The sum of the embeddings is a linear layer of indicators.
        self.first = nn.EmbeddingBag(sum(bins), _HIDDEN[0], mode="sum")
        nn.init.normal_(self.first.weight, std=len(bins) ** -0.5)
        self.scores = nn.Linear(max(1, numbers), _HIDDEN[0])
        self.rest = nn.Sequential(nn.ReLU(), mlp(_HIDDEN[0], latent, _HIDDEN[1:]))
        self.decoder = mlp(latent, sum(bins), _HIDDEN)

    def encode(self, index: Tensor, scores: Tensor) -> Tensor:
        """Codes, shape (B, L)."""
        return self.rest(self.first(index + self.starts) + self.scores(scores))

    def log_probs(self, codes: Tensor) -> list[Tensor]:
        """Log-probabilities of the bins of each column, of shape (B, K) each."""
        parts = self.decoder(codes).split(self.bins, dim=1)
        return [part.log_softmax(1) for part in parts]


class AutoEncoder:
    r"""Regularised auto-encoder with the noise 0.2 in its codes.

    The loss is :math:`-\log p(x | z + 0.2 \epsilon) + \tfrac12 |z|^2` in nats. All columns have
    categorical outputs, those of numbers over up to 64 bins of equal shares. Rows are generated
    from a mixture of full normals, fitted to noisy codes, with the number of components chosen by
    held-out codes. The score of a row with the code z is :math:`-\log p(x | z) - \log p(z)`: the
    density of the code alone tells few anomalies, which this network reconstructs badly.
    """

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.seed, self.steps = seed, max(1, round(effort * _STEPS))
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def fit(self, train_rows: pl.DataFrame) -> None:
        self.bins = [Bins(column, train_rows[column.name]) for column in columns_of(train_rows)]
        numbers = sum(not isinstance(each.column, Levels) for each in self.bins)
        latent = int(np.clip(len(self.bins) // 2, 2, 32))
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.network = Network([each.count for each in self.bins], numbers, latent)
        index, scores = self._inputs(train_rows)

        def loss(rows: Tensor) -> Tensor:
            codes = self.network.encode(index[rows], scores[rows])
            penalty = codes.square().sum(1) / 2
            return (penalty - self._given(self._noisy(codes), index[rows])).mean()

        recipe = Recipe(self.steps, learning_rate=2e-3, cosine=True, every=100)
        train(self.network, loss, len(train_rows), recipe, self.seed)
        self.mixture = self._mixture(self._noisy(self._codes(index, scores)).double().numpy())

    def _inputs(self, rows: pl.DataFrame) -> tuple[Tensor, Tensor]:
        """Bins, shape (N, D), and normal scores of numbers, at least one column."""
        index = np.stack([each.index(rows[each.column.name]) for each in self.bins], 1)
        scores = [
            each.scores(rows[each.column.name])
            for each in self.bins
            if not isinstance(each.column, Levels)
        ]
        stacked = np.stack(scores, 1) if scores else np.zeros((len(rows), 1))
        return torch.from_numpy(index), torch.from_numpy(stacked).float()

    def _given(self, codes: Tensor, index: Tensor) -> Tensor:
        """Log-probabilities of the bins of rows given codes, in nats, shape (B,)."""
        log_probs = self.network.log_probs(codes)
        seen = [part.gather(1, index[:, [place]]) for place, part in enumerate(log_probs)]
        return torch.cat(seen, 1).sum(1)

    def _noisy(self, codes: Tensor) -> Tensor:
        return codes + _NOISE * torch.randn(codes.shape, generator=self.generator)

    @torch.no_grad()
    def _codes(self, index: Tensor, scores: Tensor) -> Tensor:
        pairs = zip(index.split(4096), scores.split(4096), strict=True)
        return torch.cat([self.network.encode(*pair) for pair in pairs])

    def _mixture(self, codes: Floats) -> GaussianMixture:
        """The best mixture for a tenth of the codes, fitted to the others."""
        held, rest = np.split(self.random.permutation(codes), [len(codes) // 10])
        fitted = [mixture(rest, components, self.seed) for components in _COMPONENTS]
        return max(fitted, key=lambda each: float(each.score(held)))

    @torch.no_grad()
    def sample(self, count: int) -> pl.DataFrame:
        codes = self.random.permutation(self.mixture.sample(count)[0])
        columns: list[list[Ints]] = [[] for _ in self.bins]
        for part in torch.from_numpy(codes).float().split(2048):
            for place, log_probs in enumerate(self.network.log_probs(part)):
                drawn = torch.multinomial(log_probs.exp(), 1, generator=self.generator)[:, 0]
                columns[place].append(drawn.numpy())
        return pl.DataFrame(
            each.series(np.concatenate(index), self.random)
            for each, index in zip(self.bins, columns, strict=True)
        )

    @torch.no_grad()
    def score(self, rows: pl.DataFrame) -> Floats:
        index, scores = self._inputs(rows)
        codes = self._codes(index, scores)
        parts = zip(codes.split(4096), index.split(4096), strict=True)
        given = torch.cat([self._given(*part) for part in parts]).double().numpy()
        return -np.asarray(self.mixture.score_samples(codes.double().numpy()) + given)
