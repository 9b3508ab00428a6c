"""Small tables, and the probabilities of their levels by sums over all combinations."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import torch
from scipy import stats
from torch import Tensor, nn

import mimachine as mm

NAN, INF = float("nan"), float("inf")


def spread(first: int, last: int, each: int = 1) -> dict[str, tuple[float, ...]]:
    """A quantile map of values from `first` to `last`, with an edge every `each` steps."""
    edges = [k - 0.5 for k in range(first, last + 2, each)]
    shares = [(i + 0.5) / len(edges) for i in range(len(edges))]
    # Uneven, so that a mistaken segment shows.
    scores = [NormalDist().inv_cdf(share**1.3) for share in shares]
    return {"edges": tuple(edges), "scores": tuple(scores)}


GRIDS = {
    "number": mm.Grid(**spread(-20, 20, 5)),
    "count": mm.Grid(**spread(0, 8), low=0),
    "ordered": mm.Grid(**spread(0, 4), low=0, high=4),
}
MIXED = (
    mm.Choice((0.5, 0.3, 0.2), holes=0.1),
    mm.Grid(**spread(-20, 20, 5), holes=0.25),
    mm.Choice((60, 40), parent=0, table=((0, 0, 50), (1, 1, 30), (2, 0, 10), (2, 1, 10))),
    mm.Grid(**spread(0, 8), low=0),
    mm.Choice((1, 1, 1, 1, 1, 1, 1), holes=0.5),
    mm.Grid(**spread(0, 4), low=0, high=4),
)


def fair(counts: Tensor, probabilities: Tensor) -> None:
    """Assert by a chi-squared test that counts are of draws with these probabilities.

    Rare values are counted together. At 1e-6 a correct sampler fails once in a million tests.
    """
    expected = counts.sum() * probabilities
    order = expected.argsort()
    counts, expected = counts[order].double(), expected[order]
    # The fewest values with at least 5 expected draws, and those above one by one.
    rare = int((expected.cumsum(0) < 5).sum()) + 1
    counts = torch.cat([counts[:rare].sum()[None], counts[rare:]])
    expected = torch.cat([expected[:rare].sum()[None], expected[rare:]])
    statistic = ((counts - expected).square() / expected).sum()
    assert stats.chi2.sf(float(statistic), len(expected) - 1) > 1e-6


def parameters(columns, *batch: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    """Random parameters in float64, shape (*batch, P)."""
    source = torch.Generator().manual_seed(seed)
    shape = (*batch, mm.TableDecoder.num_outputs(columns))
    return scale * torch.randn(shape, generator=source, dtype=torch.float64)


def distribution(columns, *batch: int, scale: float = 1.0, seed: int = 0, **options):
    given = parameters(columns, *batch, scale=scale, seed=seed)
    return mm.TableDistribution(columns, given, **options)


def model(columns, latents: int = 3, floor: float = 0.2, hidden: tuple[int, ...] = (20,)):
    features, outputs = mm.TableFeatures.num_features(columns), mm.TableDecoder.num_outputs(columns)
    encoder = nn.Sequential(mm.TableFeatures(columns), mm.MLP(features, 2 * latents, hidden=hidden))
    decoder = mm.TableDecoder(columns, mm.MLP(latents, outputs, hidden=hidden))
    return mm.Joint(mm.Gaussian(encoder, floor), decoder, mm.StandardNormal(latents))


def forest(seed: int) -> list[mm.Choice]:
    """Six columns in trees of random shape, in an order that does not follow the trees."""
    source = torch.Generator().manual_seed(seed)

    def whole(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator=source))

    places = torch.randperm(6, generator=source).tolist()
    parents = {places[i]: places[whole(0, i - 1)] if i and whole(0, 4) else None for i in range(6)}
    columns = []
    for index in range(6):
        frequencies = tuple(float(whole(1, 9)) for _ in range(whole(1, 4)))
        columns.append(mm.Choice(frequencies, parent=parents[index]))
    return columns


class Enumerated:
    """Probabilities of a distribution of choices, by a sum over all combinations of levels.

    Args:
        rows: The distribution, of batch shape ().
    """

    def __init__(self, rows) -> None:
        layout, columns = rows.layout, rows.columns
        logits = rows.parameters
        edges = {edge.column: edge for edge in layout.edges}
        self.combinations = torch.tensor(
            list(itertools.product(*(range(column.levels) for column in columns)))
        )
        self.log_probs = torch.zeros(len(self.combinations), dtype=logits.dtype)
        for index in range(len(columns)):
            each = logits[layout.logits_of(index)].expand(len(self.combinations), -1)
            if index in edges:
                table = rows.tables[edges[index].table].reshape(edges[index].shape)
                each = each + table[self.combinations[:, columns[index].parent]]
            own = self.combinations[:, index : index + 1]
            self.log_probs += each.log_softmax(-1).gather(-1, own).squeeze(-1)

    def fits(self, row: Tensor) -> Tensor:
        """Which combinations have the known levels of a row."""
        return ((self.combinations == row) | ~row.isfinite()).all(-1)

    def log_prob(self, row: Tensor) -> Tensor:
        return self.log_probs[self.fits(row)].logsumexp(-1)
