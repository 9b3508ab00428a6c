"""Steps: what training does with one batch, and its replay as a CUDA graph.

A step of a small model starts more operations than a GPU needs time for. A CUDA graph starts all
of them as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mimachine.model.annealing import Annealing
from mimachine.training.recipe import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = [
    "Mean",
    "Step",
    "held_out",
    "normalise_gradients",
]


class Mean(NamedTuple):
    """Mean loss over a batch, () or (M,) in nats, without gradient, and the number of its data."""

    loss: Tensor
    num_data: int


class Step:
    """A training step: the loss of a batch, its gradient, and the optimiser's step.

    Args:
        module: The loss as it is called.
        optimizer: The optimiser of its parameters, set up by the fabric.
        fabric: Device and precision.
        training: The recipe.
    """

    def __init__(
        self, module: nn.Module, optimizer: _FabricOptimizer, fabric: Fabric, training: Training
    ) -> None:
        self.module, self.optimizer, self.fabric = module, optimizer, fabric
        self.normalised = training.gradient == "normalised"

    def __call__(
        self, x: Tensor, annealing: Annealing, check: Callable[[Tensor], None] | None = None
    ) -> Mean:
        """Change the weights.

        Args:
            x: The batch, on the device.
            annealing: State of the warm-up.
            check: Is shown the losses, () or (M,), before anything is changed.
        """
        value = self.module(x, annealing)
        loss = value.mean(-1)
        if check is not None:
            check(loss)
        self.optimizer.optimizer.zero_grad(set_to_none=True)
        # Independent models add up and do not meet in any gradient.
        self.fabric.backward(loss.sum() if loss.dim() else loss)
        if self.normalised:
            normalise_gradients(self.module.parameters(), stacked=loss.dim() > 0)
        self.optimizer.step()
        return Mean(loss.detach(), value.shape[-1])


def held_out(module: nn.Module) -> Callable[[Tensor, Annealing], Mean]:
    """What a loss is at a batch, without a gradient."""

    @torch.no_grad()
    def mean(x: Tensor, annealing: Annealing) -> Mean:
        value = module(x, annealing)
        return Mean(value.mean(-1), value.shape[-1])

    return mean


# What the released code adds to a norm, so that a gradient of zeros stays one.
_LEAST_NORM = 1e-7


@torch.no_grad()
def normalise_gradients(parameters: Iterable[Tensor], *, stacked: bool = False) -> None:
    """Divide the gradient of each parameter tensor by its own L2 norm + 1e-7, in place.

    With it in front of Adam no scale of the loss, nor of a layer, counts. Every tensor has a norm
    of its own, so a layer that is stored as one tensor is trained otherwise than one in two. The
    gradients have to be whole: not the shards of a strategy such as FSDP, nor multiplied by the
    factor of a gradient scaler.

    Args:
        parameters: The parameters; those without a gradient are left alone.
        stacked: Whether the first axis of every tensor has an entry for each of some independent
            models, as in an `Ensemble`. Each entry then has a norm of its own.

    References:
        Normalized gradient with adaptive stepsize method for deep neural network training (Yu et
        al., 2017), https://arxiv.org/abs/1707.04822; VAE with a VampPrior (Tomczak and Welling,
        2018), whose code has it

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> (w * torch.tensor([30.0, 40.0])).sum().backward()
        >>> mm.normalise_gradients([w])
        >>> w.grad
        tensor([0.6000, 0.8000])
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    # torch has no norms along axes for many tensors at once.
    norms = list(map(_norms_of_entries, gradients)) if stacked else torch._foreach_norm(gradients)
    torch._foreach_add_(norms, _LEAST_NORM)
    torch._foreach_div_(gradients, norms)


def _norms_of_entries(gradient: Tensor) -> Tensor:
    """Norms along all axes but the first, shape (M, 1, ...)."""
    if gradient.dim() == 1:
        return gradient.abs()
    axes = tuple(range(1, gradient.dim()))
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=axes, keepdim=True)
    return norms
