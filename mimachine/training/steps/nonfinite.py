"""Explain a non-finite loss: the term and the rows that cause it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mimachine.model.loss import Loss

__all__ = ["explain"]

_NAMES = {
    "p_x_given_z": "log p(x|z)",
    "q_z_given_x": "log q(z|x)",
    "p_z": "log p(z)",
    "q_x": "log q(x)",
}
_MOST_ROWS = 3


@torch.no_grad()
def explain(loss: nn.Module, x: Tensor, rows: Tensor | None) -> str:
    """Name the term that is not finite, or the largest term, and the rows with the largest values.

    Args:
        loss: The loss, with its weights at that step.
        x: The batch, shape (B, *X).
        rows: Their indices in the data, shape (B,); None if unknown.
    """
    size = x.detach().flatten(1).abs().nan_to_num(torch.inf, torch.inf).amax(1)
    largest = size.topk(min(_MOST_ROWS, len(size))).indices.tolist()
    where = "rows" if rows is not None else "rows of the batch"
    places = [i if rows is None else int(rows[i]) for i in largest]
    values = ", ".join(f"{p} ({float(size[i]):.3g})" for p, i in zip(places, largest, strict=True))
    return f"{_term(loss, x)}; {where} with the largest |x|: {values}"


def _term(loss: Any, x: Tensor) -> str:
    """Name the first term that is not finite in a new draw, otherwise the largest term."""
    if not isinstance(loss, Loss):
        return "the terms of the loss are unknown"
    model = loss.model
    samples = [model.encode(x)]
    if loss.objective.sampling == "mixture":
        decode = model.decode if loss.objective.decoded == "draws" else model.decode_mean
        samples.append(decode(model.prior().sample((len(x),))))
    largest, name = -1.0, ""
    for sample in samples:
        log_probs = model.log_probs(sample)._asdict()
        for key, term in _NAMES.items():
            value, place = log_probs[key], f"{term} on {sample.source} samples"
            if not torch.isfinite(value).all():
                return f"{place} is not finite"
            if float(value.abs().max()) > largest:
                largest, name = float(value.abs().max()), place
    return f"the largest term is {name}, up to {largest:.3g} nats"
