"""Check with the first batch of a training that data, model and loss fit together.

A loss that is computed by broadcasting, or on values that the decoder cannot give, would train
without an error. The check costs one loss without gradient, and the steps cost nothing more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine.data.examples import reader_of_missing
from mimachine.model.annealing import Annealing
from mimachine.model.joint import Joint
from mimachine.model.loss import Loss
from mimachine.model.misfit import naming_misfits

__all__ = ["check_first_batch"]


@torch.no_grad()
def check_first_batch(loss: nn.Module, called: nn.Module, x: Tensor, annealing: Annealing) -> None:
    """Compute the loss of a batch once, and check its shape.

    Args:
        loss: The loss, in evaluation mode.
        called: The loss, or the module that wraps it.
        x: The batch, shape (B, *X), or (M, B, *X) for M models.
        annealing: Warm-up state.

    Raises:
        ValueError: If the parts do not fit together; the message names the part or the argument.
    """
    is_ensemble, model = hasattr(loss, "num_models"), _model(loss)
    rows = x[0] if is_ensemble and x.dim() > 1 else x
    _check_rows(loss, rows)
    with naming_misfits(model, rows, "train"):
        value = called(x, annealing)
    expected = tuple(x.shape[: 1 + is_ensemble])
    got = tuple(value.shape) if isinstance(value, Tensor) else ()
    # A loss of one's own may be that of M models, too, but hardly of as many as there are rows.
    of_models = len(got) == 2 and got[1:] == expected != got[:1]
    if got != expected and not (of_models and not isinstance(loss, Loss)):
        one = "(M, B) for M models and B rows" if is_ensemble else "(B,) for B rows"
        raise ValueError(
            f"loss must give one value per row, shape {one}, here {expected}, got "
            f"{got if isinstance(value, Tensor) else type(value).__name__}; an objective must not "
            "average over rows, and must sum over the values of a row"
        )
    assert isinstance(value, Tensor)
    if not value.is_floating_point():
        raise ValueError(f"loss must give floating-point numbers, got the type {value.dtype}")
    if isinstance(model, Joint):
        _check_levels(model, rows)


def _check_rows(loss: nn.Module, x: Tensor) -> None:
    """Check rows that may have missing values, which a source has not checked for this model."""
    check = getattr(reader_of_missing(loss), "check_rows", None)
    if check is not None:
        check("train", x)


def _model(loss: nn.Module) -> object:
    """The model of a loss, or of the losses of an ensemble."""
    parts = getattr(loss, "parts", None) or (loss,)
    return getattr(parts[0], "model", None)


def _check_levels(model: Joint, x: Tensor) -> None:
    """Check that values are on the grid of levels that the decoder gives probabilities of."""
    try:
        levels = _levels(model.decoder(model.encoder(x[:2]).mean))
    except (NotImplementedError, AttributeError):
        return
    if levels is None:
        return
    places = x * (levels - 1)
    rounding = max(1e-3, 4 * torch.finfo(x.dtype).eps * (levels - 1))
    off = ((places - places.round()).abs() > rounding) | (x < 0) | (x > 1)
    if off.any():
        raise ValueError(
            f"train must have values k / {levels - 1}, k from 0 to {levels - 1}, since the "
            f"decoder's levels are {levels}, got {float(x[off][0]):g}"
        )


def _levels(decoder: Distribution) -> int | None:
    """Number of grey levels that a distribution, perhaps of flattened images, has; or None."""
    image = getattr(decoder, "image", decoder)
    pixels = getattr(getattr(image, "network", None), "pixels", image)
    levels = getattr(pixels, "levels", None)
    return levels if isinstance(levels, int) else None
