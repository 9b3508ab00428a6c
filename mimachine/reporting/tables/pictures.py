"""Pictures of a table's columns: test rows beside generated rows, in the units of the file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mimachine.data.tables.schema import Levels, Stepped
from mimachine.reporting.html_image import Picture, drawing
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.style import labels
from mimachine.reporting.tables import figures
from mimachine.reporting.tables.cells import Array
from mimachine.reporting.tables.units import bins
from mimachine.reporting.tables.words import brief, percent, shown_level, shown_steps

__all__ = ["column_picture"]

# Levels with bars of their own, and letters of their names.
_MOST_BARS, _LETTERS = 8, 13


def column_picture(outcomes: Sequence[Outcome], index: int, name: str) -> Picture:
    """Picture of a column (one of D), with the shares of missing values if there are any."""
    schema = outcomes[0].trained.data.schema
    assert schema is not None
    column, real = schema.modelled[index], outcomes[0].real[:, index]
    single = len(outcomes) == 1
    generated = {
        "generated" if single else outcome.name: outcome.samples[:, index].double().cpu().numpy()
        for outcome in outcomes
    }
    drift = [float(outcome.drift[index]) for outcome in outcomes]
    caption = _caption(name, drift, list(generated))
    if isinstance(column, Levels):
        return _of_levels(column, real, generated, name, caption)
    return _of_numbers(column, real, generated, name, caption)


def _caption(name: str, drift: Sequence[float], models: Sequence[str]) -> str:
    name = brief(name)
    if len(drift) == 1:
        return f"{name}: {percent(drift[0])}" if drift[0] >= 0.005 else f"{name}: no difference"
    parts = (f"{model} {percent(share)}" for model, share in zip(models, drift, strict=True))
    return f"{name}: {', '.join(parts)}"


def _missing(values: Array) -> float:
    return float(1 - np.isfinite(values).mean())


def _of_numbers(
    column: Stepped, real: Array, generated: dict[str, Array], name: str, caption: str
) -> Picture:
    missing = figures.Missing(_missing(real), [_missing(each) for each in generated.values()])
    every = np.concatenate(list(generated.values()))
    found = bins(column, real, every)
    alt = f"Histogram of {brief(name)}: the test data have {_spread(real, column)}"
    alt += "".join(f"; {key} rows {_spread(each, column)}" for key, each in generated.items())
    if found is None:
        # Nothing but holes: bars of the only thing that there is to say.
        shares = {key: np.array([_missing(each)]) for key, each in generated.items()}
        figure = figures.paired_bars(["missing"], np.array([missing.real]), shares)
        return drawing(figure, f"{alt}.", caption)
    if missing.real == 1:
        caption += ". All test rows lack a value."
    if found.log:
        caption += " (logarithmic axis)"
    return drawing(figures.distribution(found, real, generated, missing), f"{alt}.", caption)


def _spread(values: Array, column: Stepped) -> str:
    """Quartiles and missing values in words."""
    known = values[np.isfinite(values)]
    text = "no values"
    if len(known):
        quartiles = np.quantile(known, (0.25, 0.5, 0.75), method="inverted_cdf")
        low, middle, high = shown_steps(quartiles, column)
        text = f"median {middle} and quartiles {low} and {high}"
    lost = _missing(values)
    return f"{text}, {percent(lost)} missing" if lost > 0 else text


def _of_levels(
    column: Levels, real: Array, generated: dict[str, Array], name: str, caption: str
) -> Picture:
    count = len(column.levels)
    tables = [_shares(each, count) for each in (real, *generated.values())]
    own, more = _bars(column, tables[0])
    groups = [[level] for level in own]
    names = [shown_level(column, level) for level in own]
    key_names, key = labels(names, _LETTERS)
    rest = [level for level in more if any(table[level] > 0 for table in tables)]
    if rest:
        groups.append(rest)
        key_names.append(
            f"{len(more)} others"
            if len(more) > 1
            else labels([shown_level(column, more[0])], _LETTERS)[0][0]
        )
    if any(table[count] > 0 for table in tables):
        groups.append([count])
        key_names.append("missing")
    heights = [np.array([table[group].sum() for group in groups]) for table in tables]
    shares = dict(zip(generated, heights[1:], strict=True))
    alt = f"Bars of the levels of {brief(name)}: in the test data "
    alt += _spoken(names, heights[0])
    alt += "".join(f"; in {key} rows {_spoken(names, each)}" for key, each in shares.items())
    figure = figures.paired_bars(key_names, heights[0], shares)
    return drawing(figure, f"{alt}.", f"{caption}.{key}" if key else caption)


def _shares(values: Array, count: int) -> Array:
    """Shares of the levels, and of missing values as the last, shape (count + 1,)."""
    places = np.where(np.isfinite(values), values, count).astype(np.int64)
    found: Array = np.bincount(places, minlength=count + 1) / max(1, len(values))
    return found


def _bars(column: Levels, real: Array) -> tuple[list[int], list[int]]:
    """Levels with a bar of their own, the most frequent first, and the others.

    Ordered levels keep their order if all have room.
    """
    count = len(column.levels)
    order = [int(level) for level in np.argsort(-real[:count], kind="stable")]
    if column.kind == "ordered" and count <= _MOST_BARS + 1:
        return list(range(count)), []
    most = count if count <= _MOST_BARS + 1 else _MOST_BARS
    return order[:most], order[most:]


def _spoken(names: Sequence[str], shares: Array) -> str:
    """The first few shares in words."""
    pairs = zip(names[:3], shares, strict=False)
    return ", ".join(f"{brief(name)} {percent(float(share))}" for name, share in pairs)
