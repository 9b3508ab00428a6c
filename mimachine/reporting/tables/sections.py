"""Sections of a report on a table, by model where there are several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mimachine.data.dataset import Dataset
from mimachine.data.tables.schema import Stepped
from mimachine.evaluation.glossary import listed
from mimachine.reporting.html_image import Picture, drawing
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.section import Cell, Listing, Section, Shares
from mimachine.reporting.style import labels
from mimachine.reporting.tables import figures
from mimachine.reporting.tables.associations import associations, strongest
from mimachine.reporting.tables.cells import Array, Cells
from mimachine.reporting.tables.pictures import column_picture
from mimachine.reporting.tables.unusual import unusual
from mimachine.reporting.tables.words import decisions, percent

__all__ = ["table_sections"]

_MOST_COLUMNS, _MOST_SHARES = 12, 20
# Columns of a matrix, and columns whose associations are measured at all.
_MOST_IN_MATRIX, _MOST_ASSOCIATED = 30, 300
_MOST_PAIRS, _LETTERS = 8, 16
# Smallest difference of associations that has the strongest colour.
_LEAST_REACH = 0.2


def table_sections(outcomes: Sequence[Outcome], data: Dataset, prior: str) -> Iterator[Section]:
    """The sections.

    Args:
        outcomes: Runs on the table.
        data: The table.
        prior: What the latents of generated rows are drawn from, in words.
    """
    yield _columns(outcomes, prior)
    if len(_names(outcomes[0])) > 1:
        yield _associations(outcomes)
    yield _explained(outcomes)
    yield unusual(outcomes)
    yield decisions(outcomes, data)


def _names(outcome: Outcome) -> tuple[str, ...]:
    assert outcome.trained.data.columns is not None
    return outcome.trained.data.columns


def _columns(outcomes: Sequence[Outcome], prior: str) -> Section:
    names = _names(outcomes[0])
    drift = np.stack([outcome.drift for outcome in outcomes])
    order = np.argsort(-drift.max(0), kind="stable")
    real, count = outcomes[0].real, len(outcomes[0].samples)
    texts = [
        f"Grey: {len(real):,} test rows. Coloured: {count:,} generated rows, x ~ p(x|z) with z "
        f"from {prior}. The percentages are total variation distances beyond what chance explains: "
        "the share of generated rows that would have to get another value, with numbers in bins at "
        "quantiles. Columns that differ most come first."
    ]
    if len(order) > _MOST_COLUMNS:
        texts.append(
            f"{len(order) - _MOST_COLUMNS:,} more columns, which differ by at most "
            f"{percent(float(drift.max(0)[order[_MOST_COLUMNS]]))}, are not plotted."
        )
    pictures = [
        column_picture(outcomes, int(index), names[index]) for index in order[:_MOST_COLUMNS]
    ]
    return Section("columns", "Columns", tuple(texts), pictures)


def _associations(outcomes: Sequence[Outcome]) -> Section:
    schema = outcomes[0].trained.data.schema
    assert schema is not None
    cells = Cells(outcomes[0].real, schema)
    shown = slice(0, _MOST_ASSOCIATED)
    real = associations(cells.of(outcomes[0].real)[:, shown])
    generated = {
        outcome.name: associations(cells.of(outcome.samples.double().cpu().numpy())[:, shown])
        for outcome in outcomes
    }
    kept = strongest(real, _MOST_IN_MATRIX)
    texts = [
        "Cramér's V of each pair of columns, from 0 for independent columns to 1 for columns that "
        "determine each other, corrected for the bias of few rows (Bergsma, 2013). Numbers are in "
        "bins at quantiles of the test rows; rare levels are one level. Where generated rows have "
        "weaker associations than the test rows, the model has missed how columns depend on each "
        "other."
    ]
    total = len(_names(outcomes[0]))
    if total > len(kept):
        among = f" of the first {_MOST_ASSOCIATED}" if total > _MOST_ASSOCIATED else ""
        texts.append(f"Only the {len(kept)} columns{among} of {total:,} with the strongest ones.")
    pictures = _matrices(outcomes, real, generated, kept)
    pairs = _pairs(_names(outcomes[0]), real, generated)
    return Section("associations", "Associations", tuple(texts), pictures, listings=pairs)


def _matrices(
    outcomes: Sequence[Outcome], real: Array, generated: dict[str, Array], kept: Array
) -> list[Picture]:
    """Matrices of the test rows, of generated rows, and of their differences.

    Those of generated rows are left out if there are several models.
    """
    names = _names(outcomes[0])
    shown, key = labels([names[index] for index in kept], _LETTERS)
    part = np.ix_(kept, kept)
    real, generated = real[part], {name: matrix[part] for name, matrix in generated.items()}
    off = {name: matrix - real for name, matrix in generated.items()}
    largest = [float(np.abs(np.nan_to_num(each)).max()) for each in off.values()]
    reach = max(_LEAST_REACH, *largest)
    alt = f"Matrix of associations of {len(kept)} columns"
    pictures = [
        drawing(
            figures.matrix(real, shown, "test rows"),
            f"{alt} in the test rows: {_average(real)}.",
            f"Test rows.{key}",
        )
    ]
    for name, matrix in generated.items():
        several = len(generated) > 1
        if not several:
            pictures.append(
                drawing(
                    figures.matrix(matrix, shown, "generated rows"),
                    f"{alt} in generated rows of {name}: {_average(matrix)}.",
                    "Generated rows.",
                )
            )
        title = f"{name if several else 'generated'} \N{MINUS SIGN} test"
        pictures.append(
            drawing(
                figures.matrix(off[name], shown, title, reach),
                f"{alt}, those in generated rows of {name} minus those in the test rows: "
                f"{_average(np.abs(off[name]), 'absolute difference')}.",
                f"Generated rows{f' of {name}' if several else ''} minus test rows: red where "
                "associations are too weak, blue where they are too strong.",
            )
        )
    return pictures


def _average(matrix: Array, what: str = "association") -> str:
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    pairs = pairs[np.isfinite(pairs)]
    if not len(pairs):
        return f"no {what} is known"
    return f"the mean {what} is {pairs.mean():.2f} and the largest {pairs.max():.2f}"


def _pairs(names: Sequence[str], real: Array, generated: dict[str, Array]) -> tuple[Listing, ...]:
    """The pairs of columns whose associations differ most."""
    rows, columns = np.triu_indices(len(real), 1)
    off = np.max([np.abs(each - real)[rows, columns] for each in generated.values()], 0)
    order = np.argsort(-np.nan_to_num(off), kind="stable")[:_MOST_PAIRS]
    chosen = [(rows[place], columns[place]) for place in order if off[place] > 0]
    if not chosen:
        return ()
    heads = list(generated) if len(generated) > 1 else ["Generated rows"]
    cells = [
        [
            Cell(f"{names[i]} – {names[j]}"),
            Cell(f"{real[i, j]:.2f}"),
            *[Cell(f"{each[i, j]:.2f}") for each in generated.values()],
        ]
        for i, j in chosen
    ]
    caption = "Pairs of columns whose associations differ most"
    return (Listing(caption, ["Columns", "Test rows", *heads], cells),)


def _explained(outcomes: Sequence[Outcome]) -> Section:
    names, data = _names(outcomes[0]), outcomes[0].trained.data
    assert data.schema is not None
    gains = np.stack([outcome.fits.gains for outcome in outcomes])
    # NaN, where nothing varies, comes last.
    least = np.where(np.isnan(gains).all(0), np.inf, np.nan_to_num(gains, nan=np.inf).min(0))
    order = np.argsort(least, kind="stable")
    rows = []
    for index in order[:_MOST_SHARES]:
        is_number = isinstance(data.schema.modelled[index], Stepped)
        cells = []
        for outcome, gain in zip(outcomes, gains[:, index], strict=True):
            share, guess = outcome.fits.shares[index], outcome.fits.guesses[index]
            text = f"R² {percent(share)}"
            if not is_number:
                text = f"{percent(share)} right, guess {percent(guess)}"
            length = float(np.nan_to_num(gain).clip(0, 1))
            cells.append((text if np.isfinite(share) else "unknown", f"{length:.0%}"))
        rows.append((names[index], cells))
    texts = [
        "How well test rows are reconstructed from their codes without noise, column by column. "
        "Numbers: R², the share of the variance of normal scores (ranks on the scale of a normal "
        "distribution) that is explained. Levels: the share of values that are right; the guess is "
        "what always taking the most frequent level would get right. Bars: the share of the error "
        "of the best constant guess that the codes remove. Columns that are independent of all "
        "others need room in the code of their own, so low shares are no fault by themselves."
    ]
    for outcome in outcomes:
        which = f" by {outcome.name}" if len(outcomes) > 1 else ""
        lost = [
            f"'{names[index]}'"
            for index in np.argsort(outcome.fits.gains)[:3]
            if np.isfinite(outcome.fits.gains[index])
        ]
        if lost and len(names) > len(lost):
            texts.append(f"Least explained{which}: {listed(lost)}.")
    shares = Shares(
        [outcome.name for outcome in outcomes], rows, len(order) - len(rows), "Share explained"
    )
    return Section("explained", "What codes explain", tuple(texts), [], shares=shares)
