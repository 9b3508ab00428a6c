"""Ensemble: train independent models of one shape together.

Small models spend their time on starting operations, not on arithmetic. M models stacked along a
first axis start as many operations as one model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mimachine._support.checks import instance
from mimachine.model.annealing import Annealing
from mimachine.model.loss import Loss
from mimachine.training.steps.compilation import Fused

__all__ = ["Ensemble", "first_names"]


class Ensemble(nn.Module):
    """Loss of M independent models of one shape, trained together; its shape is (M, B).

    `fit` trains it like a `Loss`. Each model has its own weights, data, noise, early stopping and
    best weights, and ends as it would alone with the same noise. Data have a first axis of size M,
    see `sources.Stacked`.

    The models run under `torch.vmap`, so their parts must not branch on a tensor's values. Buffers
    that change in place, such as the running statistics of batch normalisation, are per model.

    Args:
        losses: Losses of models of one shape under one objective, each with its own weights, which
            are copied.

    Raises:
        ValueError: If there are no losses, or their architectures or objectives differ.

    Example:
        >>> def model():
        ...     encoder, decoder = mm.Gaussian(mm.MLP(3, 4)), mm.Gaussian(mm.MLP(2, 6))
        ...     return mm.Joint(encoder, decoder, mm.StandardNormal(2))
        >>> ensemble = mm.Ensemble([mm.Loss(model(), mm.MIM) for _ in range(5)])
        >>> ensemble(torch.randn(5, 7, 3)).shape
        torch.Size([5, 7])
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        super().__init__()
        _check_alike(losses)
        # Not a submodule: its weights are replaced in every call.
        self._template = (copy.deepcopy(losses[0]),)
        self._names = [name for name, _ in losses[0].named_parameters()]
        self._buffer_names = [name for name, _ in losses[0].named_buffers()]
        # functional_call finds tensors with several names by itself, but does not restore a module
        # that is registered twice, such as the encoder of a VampPrior.
        self._first_names = first_names(losses[0])
        for name in self._names:
            stacked = torch.stack([loss.get_parameter(name).detach() for loss in losses])
            frozen = not losses[0].get_parameter(name).requires_grad
            parameter = nn.Parameter(stacked, requires_grad=not frozen)
            self.register_parameter(_without_dots(name), parameter)
        for name in self._buffer_names:
            stacked = torch.stack([loss.get_buffer(name) for loss in losses])
            self.register_buffer(_without_dots(name), stacked)
        self.num_models = len(losses)
        self._active: Tensor | None = None
        self._compiled: Fused | None = None

    def __len__(self) -> int:
        return self.num_models

    @property
    def parts(self) -> tuple[Loss, ...]:
        """The loss whose weights are replaced by those of each model, as a tuple."""
        return self._template

    def forward(self, x: Tensor, annealing: Annealing | float = 1.0) -> Tensor:
        """Loss of each model at its own data; 0 for the models that have stopped.

        Args:
            x: Data, shape (M, B, *X).
            annealing: Warm-up state, or its β.

        Returns:
            Shape (M, B), in nats.
        """
        instance("x", x, Tensor, "a tensor of shape (M, B, *X)")
        if len(x) != self.num_models:
            raise ValueError(
                f"x must have shape (M, B, *X) with M = {self.num_models}, got {tuple(x.shape)}"
            )
        weights, buffers = self._stacked(self._names), self._stacked(self._buffer_names)
        if self._active is None:
            return self._losses(weights, buffers, x, annealing)
        active = self._active.to(x.device)
        weights = {name: tensor.index_select(0, active) for name, tensor in weights.items()}
        buffers = {name: tensor.index_select(0, active) for name, tensor in buffers.items()}
        value = self._losses(weights, buffers, x.index_select(0, active), annealing)
        if self.training:
            # The buffers that changed, such as running statistics, were copies.
            for name, tensor in self._stacked(self._buffer_names).items():
                tensor.index_copy_(0, active, buffers[name])
        all_models = value.new_zeros(self.num_models, value.shape[1])
        return all_models.index_copy(0, active, value)

    def _losses(
        self,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Tensor,
        annealing: Annealing | float,
    ) -> Tensor:
        """Losses (m, B) of some models by their weights, compiled after `compile`."""
        self._template[0].train(self.training)
        if self._compiled is None or not _warmed_up(annealing):
            return self._together(weights, buffers, x, annealing)
        return self._compiled(weights, buffers, x, annealing)

    def _together(
        self,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Tensor,
        annealing: Annealing | float,
    ) -> Tensor:
        """Losses (m, B) of some models by their weights, under `torch.vmap`."""
        template = self._template[0]

        def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor) -> Tensor:
            tensors = {**weights, **buffers}
            value: Tensor = functional_call(
                template,
                {name: tensors[first] for name, first in self._first_names.items()},
                (rows, annealing),
                tie_weights=False,
            )
            return value

        losses: Tensor = vmap(one, randomness="different")(weights, buffers, x)
        return losses

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the loss with `torch.compile`, from the next call on.

        The noise is the same as without compiling. Compiling takes seconds, once for training and
        once for held-out data, so it pays off for wide models and long trainings. The warm-up, in
        which β changes in every epoch, is not compiled. If compiling fails, for example without a
        C++ compiler, a warning is given and the ensemble runs uncompiled.

        Args:
            args: As for `torch.compile`.
            kwargs: As for `torch.compile`.
        """
        self._compiled = Fused(self._together, "this ensemble", *args, **kwargs)

    def retire(self, done: Tensor) -> None:
        """Stop computing the models that have stopped training; their loss becomes 0.

        Args:
            done: Which models have stopped, shape (M,). `fit` passes it after each epoch.
        """
        self._active = (~done).nonzero().squeeze(1) if done.any() else None

    def member(self, index: int) -> Loss:
        """Copy one model with its loss."""
        loss = copy.deepcopy(self._template[0])
        with torch.no_grad():
            for name in self._names:
                loss.get_parameter(name).copy_(getattr(self, _without_dots(name))[index])
            for name in self._buffer_names:
                loss.get_buffer(name).copy_(getattr(self, _without_dots(name))[index])
        return loss.train(self.training)

    def _stacked(self, names: list[str]) -> dict[str, Tensor]:
        return {name: getattr(self, _without_dots(name)) for name in names}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Ensemble:
        super()._apply(fn, recurse)
        # Other tensors of the template, such as those of a known P(x), must follow.
        self._template[0]._apply(fn, recurse)
        return self


def _warmed_up(annealing: Annealing | float) -> bool:
    return (annealing.beta if isinstance(annealing, Annealing) else annealing) >= 1


def _without_dots(name: str) -> str:
    """Name without dots, which parameter names must not contain."""
    return name.replace(".", "/")


def first_names(loss: nn.Module) -> dict[str, str]:
    """Map each name of a parameter or buffer to the first name of the same tensor."""
    first: dict[int, str] = {}
    names = {}
    # A module that is registered twice occurs once here.
    for path, module in loss.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                full = f"{path}.{name}" if path else name
                names[full] = first.setdefault(id(tensor), full)
    return names


def _check_alike(losses: Sequence[Loss]) -> None:
    instance("losses", losses, (Sequence, nn.ModuleList), "a list of losses")
    for index, loss in enumerate(losses):
        instance(f"losses[{index}]", loss, Loss, "a Loss")
    if not losses:
        raise ValueError("losses must contain at least one loss, got none")

    def shape(loss: Loss) -> tuple[Any, ...]:
        tensors = [*loss.named_parameters(), *loss.named_buffers()]
        return (str(loss), loss.objective, [(n, t.shape, t.dtype) for n, t in tensors])

    for index, loss in enumerate(losses):
        if shape(loss) != shape(losses[0]):
            raise ValueError(
                "losses must have the same architecture and objective; number "
                f"{index} differs from the first"
            )
