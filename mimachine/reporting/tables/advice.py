"""Advice on what to try next with a model of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mimachine.data.tables.schema import Levels
from mimachine.evaluation.glossary import listed
from mimachine.reporting import command_lines
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.tables.words import brief, contradictions, percent

__all__ = ["generated_off", "lost_columns", "told_apart", "with_contradictions"]

_MOST_NAMED = 5
# Total variation distance from which a column is far off, and gain below which one is lost.
_FAR_OFF, _LOST = 0.1, 0.1
_MOST_CONTRADICTIONS, _TOLD_APART = 0.01, 0.8


def _named(texts: Sequence[str]) -> str:
    more = [f"{len(texts) - _MOST_NAMED:,} more"] if len(texts) > _MOST_NAMED else []
    return listed([*texts[:_MOST_NAMED], *more])


def _names(outcome: Outcome) -> list[str]:
    return [f"'{brief(name)}'" for name in outcome.trained.data.columns or ()]


def _far_off(outcome: Outcome) -> list[int]:
    """Columns whose generated distribution is far from that of the test rows, the worst first."""
    order = np.argsort(-outcome.drift, kind="stable")
    return [int(index) for index in order if outcome.drift[index] > _FAR_OFF]


def generated_off(outcome: Outcome) -> str | None:
    """Columns with generated values of another distribution."""
    far, names = _far_off(outcome), _names(outcome)
    if not far:
        return None
    parts = [f"{names[index]} (by {percent(float(outcome.drift[index]))})" for index in far]
    epochs = outcome.trained.experiment.training.epochs
    return (
        f"The distributions of generated rows are far from those of the test rows in "
        f"{_named(parts)}. Check in the figures what they miss, and under Kinds of columns whether "
        f"each kind is right. Then try --training.epochs {4 * epochs}, or a --training.seed of "
        "another number to see whether it was chance."
    )


def with_contradictions(outcome: Outcome) -> str | None:
    """Pairs of levels that cannot be."""
    share = contradictions(outcome)
    if share is None or not share > _MOST_CONTRADICTIONS:
        return None
    assert outcome.trained.data.schema is not None
    pairs = [
        f"'{brief(column.name)}' by '{brief(column.parent)}'"
        for column in outcome.trained.data.schema.modelled
        if isinstance(column, Levels) and column.parent is not None
    ]
    if not pairs:
        return None
    return (
        f"{percent(share)} of the generated rows have a pair of levels that no training row has, "
        f"although one settles the other ({_named(pairs)}). Drop such rows, or fill in the settled "
        "column from its pair in the training table; training for longer makes them rarer."
    )


def lost_columns(outcome: Outcome) -> str | None:
    """Columns that codes hardly tell anything about."""
    gains, names = outcome.fits.gains, _names(outcome)
    lost = [int(index) for index in np.argsort(gains, kind="stable") if gains[index] < _LOST]
    if not lost:
        return None
    return (
        f"The codes tell next to nothing about {_named([names[index] for index in lost])}. If "
        "these columns matter, try more latents or longer training; leave out those that are only "
        "noise, with --drop."
    )


def told_apart(outcome: Outcome) -> str | None:
    """Generated rows that a classifier recognises, while each column by itself is right."""
    for name in ("fitted_prior_generated_auc", "generated_auc"):
        if outcome.report.has(name):
            auc = outcome.report[name]
            break
    else:
        return None
    if not auc.value > _TOLD_APART or _far_off(outcome):
        return None
    return (
        f"A classifier tells generated rows from test rows (AUC {auc}), though no column by itself "
        "is far off: the model misses how columns depend on each other, see Associations. Check "
        f"whether another objective does better: {command_lines.comparing(outcome)}"
    )
