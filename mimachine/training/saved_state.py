"""Read a saved training state, and check that it fits a fresh one before any of it is used.

Optimisers and kernels do not check the shapes, types and layouts of the tensors in their state, so
a wrong one could crash the process.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mimachine._support.digest import CHANGED, ENTRY, digest, is_unchanged
from mimachine._support.reading import opened
from mimachine.training.records import Epoch

__all__ = ["Damaged", "check", "read_state", "with_digest"]

_ENTRIES = {"epoch", "tensors", "optimizer", "best"}
# Of these version 0.1 had none.
_LATER = {"average", "stopped", ENTRY}
_MOMENTS = {"exp_avg", "exp_avg_sq"}
_NOT_FINITE = "its weights are not finite"


class Damaged(ValueError):
    """A saved state is not one that training writes; the message says what it is."""


def read_state(file: Path | IO[bytes]) -> dict[str, Any]:
    """Read the containers, numbers and tensors of a saved state, without executing any code.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a regular file.
        Damaged: If it cannot be read, or is not a training state.
    """
    with opened(file) if isinstance(file, Path) else nullcontext(file) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                stored = sum(entry.file_size for entry in archive.infolist())
            if stored > stream.seek(0, 2):
                raise Damaged("it cannot be read")  # It is compressed, as no state is.
            stream.seek(0)
            with warnings.catch_warnings(action="ignore"):
                saved = torch.load(stream, weights_only=True, map_location="cpu")
        except Exception as error:
            # torch.load raises undocumented errors for bytes that are not its archive.
            raise Damaged("it cannot be read") from error
    if type(saved) is not dict or type(saved.get("epoch")) is not int or saved["epoch"] < 0:
        raise Damaged("it is not a training state")
    return saved


def with_digest(saved: dict[str, Any]) -> dict[str, Any]:
    """A state with the digest of all of it that is read back."""
    return {**saved, ENTRY: digest(_parts(_used(saved)))}


def check(
    saved: dict[str, Any],
    tensors: Sequence[Tensor],
    parameters: Sequence[Tensor],
    is_adam: bool,
    is_averaged: bool,
    num_models: int | None,
    epochs: Sequence[Epoch],
) -> None:
    """Check a saved state.

    Args:
        saved: Result of `read_state`.
        tensors: The weights and buffers of the model, as `State` saves them.
        parameters: The parameters of the optimiser.
        is_adam: Whether that is Adam, whose kernels check nothing.
        is_averaged: Whether there is a moving average of the weights.
        num_models: Number of models trained together, if the loss says it.
        epochs: Records of the epochs until the state was saved.

    Raises:
        Damaged: If the state has other entries, or tensors of another kind.
        ValueError: If it belongs to another model or recipe, was changed, has weights that are not
            finite, or the record of an epoch is missing.
    """
    if not saved.keys() - _LATER == _ENTRIES or type(saved.get("stopped", False)) is not bool:
        raise Damaged("it is incomplete")
    _check_weights(saved["tensors"], tensors)
    if len(epochs) != saved["epoch"]:
        raise ValueError(f"{saved['epoch']} epochs are saved, but {len(epochs)} are recorded")
    _check_number_of_models(epochs, tensors, num_models)
    if is_averaged != (saved.get("average") is not None):
        raise ValueError("the saved state belongs to another recipe: its ema_decay differs")
    _check_best(saved["best"], tensors, epochs)
    _check_average(saved.get("average"), tensors)
    _check_moments(saved["optimizer"], parameters, _is_adams if is_adam else _is_optimizers)
    if ENTRY in saved and not is_unchanged(saved[ENTRY], digest(_parts(_used(saved)))):
        raise ValueError(f"it {CHANGED}")
    _check_values(saved, tensors, _may_be_nonfinite(saved["best"], epochs))


def _used(saved: dict[str, Any]) -> dict[str, Any]:
    """The part of a state that is used: hyperparameters of the optimiser come from the recipe."""
    content = {name: value for name, value in saved.items() if name != ENTRY}
    return {**content, "optimizer": saved["optimizer"]["state"]}


def _parts(value: Any) -> Iterator[str | Tensor]:
    """All values in nested containers, in a fixed order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield f"{len(value)} entries"
        for name in sorted(value, key=repr):
            yield repr(name)
            yield from _parts(value[name])
    elif isinstance(value, list):
        yield f"{len(value)} values"
        for each in value:
            yield from _parts(each)
    else:
        yield repr(value)


def _is_plain(value: Any) -> bool:
    """Whether a value is an ordinary dense tensor in memory that is its own."""
    return (
        type(value) is Tensor
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.requires_grad or value.is_neg() or value.is_conj())
    )


def _is_like(value: Any, tensor: Tensor) -> bool:
    return _is_plain(value) and value.dtype == tensor.dtype and value.shape == tensor.shape


def _are_like(values: Any, tensors: Sequence[Tensor]) -> bool:
    return (
        type(values) is list and len(values) == len(tensors) and all(map(_is_like, values, tensors))
    )


def _check_weights(values: Any, tensors: Sequence[Tensor]) -> None:
    if type(values) is not list or not all(map(_is_plain, values)):
        raise Damaged("it is incomplete")
    if not _are_like(values, tensors):
        raise ValueError("the saved state belongs to another model")


def _check_number_of_models(
    epochs: Sequence[Epoch], tensors: Sequence[Tensor], num_models: int | None
) -> None:
    """Check that the epochs are of as many models as there are weights of."""
    for count in {epoch.num_models for epoch in epochs}:
        if num_models not in (None, count) or (
            count is not None and any(t.dim() == 0 or len(t) != count for t in tensors)
        ):
            raise ValueError("its epochs are of another number of models")


def _check_best(best: Any, tensors: Sequence[Tensor], epochs: Sequence[Epoch]) -> None:
    if type(best) is not dict or best.keys() != {"saved", "loss", "epoch", "done"}:
        raise Damaged("it has no best weights")
    loss, epoch, done = best["loss"], best["epoch"], best["done"]
    if not all(map(_is_plain, (loss, epoch, done))) or done.dtype != torch.bool:
        raise Damaged("it has no losses of the best weights")
    if type(best["saved"]) is list and not best["saved"]:
        if not loss.numel() == epoch.numel() == done.numel() == 0:
            raise Damaged("it has losses without weights")
        return
    if not _are_like(best["saved"], tensors) or not epochs:
        raise Damaged("its best weights are not of this model")
    count = epochs[-1].num_models
    shape = torch.Size(() if count is None else (count,))
    if not loss.shape == epoch.shape == done.shape == shape or not loss.is_floating_point():
        raise Damaged("its losses are not those of its epochs")
    if epoch.dtype != torch.long or not ((epoch >= 1) & (epoch <= len(epochs))).all():
        raise Damaged("it has no epochs of its best weights")
    if not (loss.isfinite() | done).all():
        raise Damaged("its losses are not finite")


def _check_average(average: Any, tensors: Sequence[Tensor]) -> None:
    if average is None:
        return
    if (
        type(average) is not dict
        or average.keys() != {"values", "count"}
        or not _are_like(average["values"], tensors)
        or type(average["count"]) is not int
        or average["count"] < 0
    ):
        raise Damaged("it has no average of the weights")


def _check_moments(
    optimizer: Any, parameters: Sequence[Tensor], fits: Callable[[Any, Tensor], bool]
) -> None:
    """Check an optimiser's state; a parameter without gradients has none."""
    moments = optimizer.get("state") if type(optimizer) is dict else None
    if type(moments) is not dict or not all(
        type(index) is int and 0 <= index < len(parameters) and fits(value, parameters[index])
        for index, value in moments.items()
    ):
        raise Damaged("it has no moments of this model's gradients")


def _is_adams(value: Any, parameter: Tensor) -> bool:
    return (
        type(value) is dict
        and value.keys() == {"step", *_MOMENTS}
        and all(_is_like(value[name], parameter) for name in _MOMENTS)
        and _is_plain(value["step"])
        and value["step"].shape == ()
        and value["step"].dtype in (torch.float32, torch.float64)
    )


def _is_optimizers(value: Any, parameter: Tensor) -> bool:
    """Whether a value can be the state of an optimiser of the caller's for a parameter."""
    return type(value) is dict and all(
        type(name) is str
        and (
            each is None
            or type(each) in (bool, int, float)
            or (_is_plain(each) and _is_broadcast(each.shape, parameter.shape))
        )
        for name, each in value.items()
    )


def _is_broadcast(shape: torch.Size, to: torch.Size) -> bool:
    """Whether a shape has at most the sizes of another: Adafactor has means of rows and columns."""
    sizes = (1,) * (len(to) - len(shape)) + tuple(shape)
    return len(sizes) == len(to) and all(a in (1, b) for a, b in zip(sizes, to, strict=True))


def _may_be_nonfinite(best: dict[str, Any], epochs: Sequence[Epoch]) -> Tensor | None:
    """Which of several models may have non-finite weights: those that stopped or have no loss."""
    if not epochs or epochs[-1].num_models is None:
        return None
    last = epochs[-1]
    train, val = last.train_loss, last.val_loss
    lost = torch.tensor([each is None for each in train])  # type: ignore[union-attr]
    if isinstance(val, list):
        lost |= torch.tensor([each is None for each in val])
    else:
        # Without held-out data, the last step of an epoch may have spoilt the weights unseen.
        lost[:] = True
    return lost | best["done"] if best["saved"] else lost


def _check_values(
    saved: dict[str, Any],
    tensors: Sequence[Tensor],
    exempt: Tensor | None,
) -> None:
    """Check that weights are finite wherever those of a fresh model are, and moments too."""
    average, moments = saved.get("average"), saved["optimizer"]["state"]
    lists = [saved["tensors"], saved["best"]["saved"], [] if average is None else average["values"]]
    for values in lists:
        # No best weights are stored before the first epoch after the warm-up.
        for value, fresh in zip(values, tensors, strict=bool(values)):
            if not is_finite_like(value, fresh, exempt):
                raise ValueError(_NOT_FINITE)
    for value in moments.values():
        each = {name: torch.as_tensor(v) for name, v in value.items() if v is not None}
        zeros = {name: torch.zeros(()).expand(v.shape) for name, v in each.items()}
        if not all(is_finite_like(v, zeros[n], exempt) for n, v in each.items() if n != "step"):
            raise ValueError(_NOT_FINITE)
        if "exp_avg_sq" in each and (each["exp_avg_sq"] < 0).any():
            raise Damaged("it has negative squares of gradients")
        if "step" in each and not (each["step"].isfinite() and each["step"] >= 0).all():
            raise Damaged("it has no number of steps")


def is_finite_like(value: Tensor, fresh: Tensor, exempt: Tensor | None = None) -> bool:
    """Whether a tensor is finite wherever a fresh one is, and NaN only where that is.

    Args:
        value: The tensor.
        fresh: The tensor of a freshly built model, of the same shape, on any device. Some masks are
            infinite.
        exempt: Which models, along the first axis, may have other values; None for none.
    """
    if not value.is_floating_point() and not value.is_complex():
        return True
    if exempt is not None and value.dim() and len(value) == len(exempt):
        kept = ~exempt
        value, fresh = value[kept], fresh[kept.to(fresh.device)]
    if value.isfinite().all():
        return True
    fresh = fresh.detach().to(value.device)
    return bool(
        (value.isfinite() | ~fresh.isfinite()).all() and (~value.isnan() | fresh.isnan()).all()
    )
