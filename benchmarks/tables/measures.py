"""What is measured of methods for mixed tables, on the same encoding of the rows for all.

Numbers stay numbers, with a missing value as such; dates have their weekday as a second column;
levels are categories of the trees, of which missing is one, and one pools what is rare or new. The
encoding is learnt from real training rows, never from generated ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from tables.columns import Column, Floats, Levels, Numbers, columns_of, to_floats

# The trees allow 255 categories.
_MOST_LEVELS = 250
_MOST_COMPARED, _MOST_FITTED = 2000, 20_000
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Encoding:
    """Rows as the trees see them.

    Attributes:
        columns: Columns by name.
    """

    columns: dict[str, Column]

    @classmethod
    def of(cls, train: pl.DataFrame) -> Encoding:
        """Learn from real training rows."""
        found = columns_of(train)
        pooled = [
            Levels.of(train[column.name], _MOST_LEVELS) if isinstance(column, Levels) else column
            for column in found
        ]
        return cls({column.name: column for column in pooled})

    def encode(self, rows: pl.DataFrame) -> tuple[Floats, list[bool]]:
        """Numbers of the trees, shape (N, D'), and which of the columns are categories."""
        parts: list[Floats] = []
        categories: list[bool] = []
        for name in rows.columns:
            column = self.columns[name]
            if isinstance(column, Levels):
                parts.append(column.index(rows[name].cast(column.kind)).astype(np.float64))
                categories.append(True)
                continue
            values = to_floats(rows[name])
            parts.append(values)
            categories.append(False)
            if column.kind == pl.Date or column.kind.base_type() == pl.Datetime:
                parts.append(np.floor(values) % 7)
                categories.append(False)
        return np.stack(parts, 1), categories


# --- generated rows ------------------------------------------------------------------------------


def two_sample_auc(
    generated: pl.DataFrame, real: pl.DataFrame, encoding: Encoding, seed: int
) -> float:
    """Mean AUC over five folds of trees that tell generated from held-out real rows.

    Args:
        generated: Generated rows, with all columns of the table or some of them.
        real: Held-out real rows; the columns that the generated rows lack are left out.
        encoding: Of real training rows.
        seed: Seed of the rows chosen of more than 2,000, of the folds and of the trees.
    """
    random = np.random.default_rng(seed)
    count = min(_MOST_COMPARED, len(generated), len(real))
    samples = []
    for rows in (generated, real.select(generated.columns)):
        chosen = random.permutation(len(rows))[:count]
        values, categories = encoding.encode(rows[chosen])
        samples.append(values)
    x, y = np.concatenate(samples), np.repeat([1, 0], count)
    found = []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y):
        # Of the settings that the library's measure of numbers uses, but with all 255 bins, so
        # that values between those of a grid are seen.
        classifier = HistGradientBoostingClassifier(
            categorical_features=np.array(categories),
            max_leaf_nodes=8,
            min_samples_leaf=5,
            max_features=0.3,
            early_stopping=False,
            random_state=seed,
        )
        classifier.fit(x[train], y[train])
        found.append(roc_auc_score(y[test], classifier.decision_function(x[test])))
    return float(np.mean(found))


def utility(
    train: pl.DataFrame, test: pl.DataFrame, target: str, encoding: Encoding, seed: int
) -> float:
    """Accuracy, or R² of a target of numbers, on real test rows of trees fitted to given rows.

    Rows without a target are left out, and columns that the given rows lack.
    """
    column = encoding.columns[target]
    parts = []
    for rows in (train[:_MOST_FITTED], test.select(train.columns)):
        kept = rows.drop_nulls(target)
        x, categories = encoding.encode(kept.drop(target))
        is_number = isinstance(column, Numbers)
        y = to_floats(kept[target]) if is_number else column.index(kept[target].cast(column.kind))
        parts.append((x, y))
    (x, y), (x_test, y_test) = parts
    if len(y) == 0:
        return math.nan
    arguments: dict[str, Any] = {
        "categorical_features": np.array(categories),
        "max_leaf_nodes": 15,
        "min_samples_leaf": 5,
        "early_stopping": False,
        "random_state": seed,
    }
    if isinstance(column, Numbers):
        predicted = HistGradientBoostingRegressor(**arguments).fit(x, y).predict(x_test)
        return 1 - float(np.square(y_test - predicted).mean() / np.var(y_test))
    if len(np.unique(y)) == 1:
        return float((y_test == y[0]).mean())
    fitted = HistGradientBoostingClassifier(**arguments).fit(x, y)
    return float((fitted.predict(x_test) == y_test).mean())


class Settled(NamedTuple):
    """A column of levels that another column settles.

    Attributes:
        parent: Name of the settling column.
        child: Name of the settled column.
        pairs: Pairs of their values that occur.
    """

    parent: str
    child: str
    pairs: frozenset[tuple[Any, Any]]


def settled_columns(rows: pl.DataFrame) -> list[Settled]:
    """All pairs of columns of which one settles the other in 99.9 % of the rows.

    The settled column has levels; the other may have whole numbers, too. Its values have 20 rows or
    more on average, and the settled column is not nearly constant.
    """
    names = [c.name for c in columns_of(rows) if isinstance(c, Levels)]
    whole = [n for n in rows.columns if n not in names and rows[n].dtype.is_integer()]
    found = []
    for parent in names + whole:
        if not 2 <= rows[parent].drop_nulls().n_unique() <= len(rows) / 20:
            continue
        for child in names:
            if child == parent:
                continue
            both = rows.select(parent, child).drop_nulls()
            counted = both.group_by(parent, child).len()
            most = counted.group_by(parent).agg(pl.col("len").max())["len"].sum()
            commonest = both[child].value_counts()["count"].max()
            if isinstance(commonest, int) and most >= 0.999 * len(both) > 1.02 * commonest:
                pairs = frozenset(counted.select(parent, child).iter_rows())
                found.append(Settled(parent, child, pairs))
    return found


def contradictions(generated: pl.DataFrame, settled: list[Settled]) -> float:
    """Share of rows with a pair of values of settled columns that never occurs in the data.

    It is NaN where the generated rows have no such pair of columns.
    """
    wrong = np.zeros(len(generated), dtype=bool)
    known = [s for s in settled if {s.parent, s.child} <= set(generated.columns)]
    for each in known:
        for row, pair in enumerate(generated.select(each.parent, each.child).iter_rows()):
            wrong[row] |= None not in pair and pair not in each.pairs
    return float(wrong.mean()) if known else math.nan


def copies(generated: pl.DataFrame, train: pl.DataFrame) -> float:
    """Share of generated rows that are training rows, cell by cell."""
    known = train.select(generated.columns).unique()
    found = generated.join(known, on=generated.columns, how="semi", nulls_equal=True)
    return len(found) / len(generated)


# --- anomalies -----------------------------------------------------------------------------------


def mixed_up(test: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, Bools]:
    """Test rows with anomalies made of two rows each, and which rows these are.

    Half of the columns, chosen for each, of 5 % of the rows come from another random row: every
    value is usual, the row is not.
    """
    random = np.random.default_rng(seed)
    count, columns = test.shape
    anomalous = random.random(count) < 0.05
    anomalous[0] = True
    taken = anomalous[:, None] & (random.random((count, columns)).argsort(1) < columns // 2)
    other = random.permutation(count)
    source = np.where(taken, other[:, None], np.arange(count)[:, None])
    mixed = [test[name][source[:, place]] for place, name in enumerate(test.columns)]
    return pl.DataFrame(mixed), anomalous


def auroc(scores: Floats, anomalous: Bools) -> float:
    """Probability that an anomaly has a higher score than another row."""
    return float(roc_auc_score(anomalous, scores))


# --- imputation ----------------------------------------------------------------------------------


def hide(test: pl.DataFrame, share: float, seed: int) -> tuple[pl.DataFrame, Bools]:
    """Test rows with random cells set to null, and which cells these are, shape (N, D).

    Each cell that is not missing is hidden with the same probability.
    """
    random = np.random.default_rng(seed)
    seen = np.stack([test[name].is_not_null().to_numpy() for name in test.columns], 1)
    hidden = (random.random(test.shape) < share) & seen
    rows = [
        pl.select(pl.when(pl.Series(~hidden[:, place])).then(test[name])).to_series().alias(name)
        for place, name in enumerate(test.columns)
    ]
    return pl.DataFrame(rows), hidden


class Imputed(NamedTuple):
    """Rows with hidden cells filled.

    Attributes:
        rows: The rows; only cells that were hidden count.
        low: For columns of numbers, lower ends of 90 % intervals as `to_floats` gives them, shape
            (N,) by name; None if a method has none.
        high: Upper ends.
    """

    rows: pl.DataFrame
    low: dict[str, Floats] | None = None
    high: dict[str, Floats] | None = None


def imputation(
    found: Imputed, test: pl.DataFrame, hidden: Bools, train: pl.DataFrame
) -> dict[str, float]:
    """Errors of imputed cells.

    Returns:
        rmse: Root of the mean, over the columns of numbers, of the mean squared error of the hidden
            cells, in standard deviations of the training rows.
        accuracy: Share of the hidden cells of other columns that are right.
        coverage: Share of the hidden numbers within their 90 % intervals.
        width: Mean width of the intervals, in standard deviations.
    """
    errors, right, covered, widths = [], [], [], []
    for column in columns_of(train):
        cells = hidden[:, test.columns.index(column.name)]
        if not cells.any():
            continue
        true, filled = (rows[column.name].filter(pl.Series(cells)) for rows in (test, found.rows))
        if isinstance(column, Levels):
            right.extend((true == filled.cast(true.dtype)).fill_null(False).to_list())
            continue
        values, deviation = to_floats(true), float(np.nanstd(to_floats(train[column.name])))
        errors.append(float(np.square((to_floats(filled) - values) / deviation).mean()))
        if found.low is None or found.high is None:
            continue
        low, high = found.low[column.name][cells], found.high[column.name][cells]
        # Ends that equal a value in other arithmetic hold it.
        slack = 1e-9 * (np.abs(values) + deviation)
        covered.extend((values >= low - slack) & (values <= high + slack))
        widths.extend((high - low) / deviation)
    measured = {}
    if errors:
        measured["rmse"] = math.sqrt(float(np.mean(errors)))
    if right:
        measured["accuracy"] = float(np.mean(right))
    if covered:
        measured |= {"coverage": float(np.mean(covered)), "width": float(np.mean(widths))}
    return measured
