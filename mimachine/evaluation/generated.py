"""Do rows that a model generates look like data? A classifier and a distance compare them."""

from __future__ import annotations

import torch
from torch import Tensor

from mimachine._support.memory import rows_at_once
from mimachine.estimation.codes.moments import Codes
from mimachine.estimation.two_samples.classifier import two_sample_auc
from mimachine.estimation.two_samples.energy import energy_distance
from mimachine.evaluation.budgets import (
    DRAWN_VALUES,
    DRAWS,
    FEWEST_GENERATED,
    GENERATED_ROWS,
    VALUES,
    fewer_if_wide,
    random_rows,
    subset_note,
)
from mimachine.evaluation.glossary import measured
from mimachine.evaluation.metric import Metric
from mimachine.evaluation.reconstruction import has_closed_mean
from mimachine.evaluation.tables import columns_of, generated_of_table
from mimachine.model.joint import Joint

__all__ = ["generated_of_model"]


def generated_of_model(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Compare rows of z ~ p(z), x ~ p(x|z) with as many of the data.

    There are no metrics for fewer than 20 rows, or where a generated row is not finite.

    Args:
        model: The model, in evaluation mode.
        x: Data, shape (N, *X).
        encoded: Codes of the data.
    """
    if columns_of(model) is not None:
        return generated_of_table(model, x)
    most = fewer_if_wide(GENERATED_ROWS, VALUES, x[0].numel())
    if not has_closed_mean(model, encoded):
        # Such decoders may draw one value after the other.
        most = max(FEWEST_GENERATED, min(most, DRAWN_VALUES // (DRAWS * x[0].numel())))
    rows = x[random_rows(len(x), most)]
    if len(rows) < FEWEST_GENERATED:
        return []
    generated = _generated(model, rows)
    if not generated.isfinite().all():
        return []
    seed = int(torch.randint(1 << 31, ()))
    notes = subset_note(len(rows), len(x))
    # In the model's units, which its likelihood also uses.
    auc = two_sample_auc(generated, rows, standardize=False, seed=seed)
    metrics = [measured("generated_auc", auc, notes=notes, count=len(rows))]
    if (rows != rows[0]).any():
        distance = energy_distance(generated, rows, standardize=False)
        metrics.append(
            measured("generated_energy_distance", distance, notes=notes, count=len(rows))
        )
    return metrics


def _generated(model: Joint, like: Tensor) -> Tensor:
    """As many generated rows as given ones (N, *X), and of their type."""
    z = model.prior().sample(torch.Size((len(like),)))
    parts = [model.decoder(some).sample() for some in z.split(rows_at_once(like.shape, 512))]
    return torch.cat(parts).to(like.dtype)
