"""Training step: loss, gradient and optimiser step on one batch; gradient normalisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from mimachine.model.annealing import Annealing
from mimachine.training.one_device import OneDevice
from mimachine.training.recipe import Training
from mimachine.training.steps.fused_adam import FusedAdam

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["Mean", "Step", "clip_gradients", "held_out", "normalise_gradients"]


class Mean(NamedTuple):
    """Mean loss over a batch, () or (M,) in nats, without gradient, and the number of rows."""

    loss: Tensor
    num_data: int


class Step:
    """Training step: the loss of a batch, its gradient, and the optimiser's step.

    Args:
        module: The loss, set up by the fabric.
        optimizer: The optimiser of its parameters, set up by the fabric.
        fabric: Device and precision.
        training: The recipe.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: _FabricOptimizer | torch.optim.Optimizer,
        fabric: Fabric | OneDevice,
        training: Training,
    ) -> None:
        self.module, self.fabric = module, fabric
        self.optimizer: _FabricOptimizer | torch.optim.Optimizer | FusedAdam = optimizer
        # The wrapper of a fabric does not pass on all arguments.
        inner: Any = getattr(optimizer, "optimizer", optimizer)
        if isinstance(fabric, OneDevice) and not training.cuda_graphs and FusedAdam.fits(inner):
            inner = self.optimizer = FusedAdam(inner)
        self.inner: torch.optim.Optimizer | FusedAdam = inner
        self.normalised, self.most = training.gradient == "normalised", training.clip_norm

    def __call__(
        self, x: Tensor, annealing: Annealing, check: Callable[[Tensor], None] | None = None
    ) -> Mean:
        """Do one step on a batch.

        Args:
            x: The batch, on the device.
            annealing: Warm-up state.
            check: Called with the losses, () or (M,), before the weights change.
        """
        value = self.module(x, annealing)
        loss = value.mean(-1)
        if not loss.requires_grad:
            raise ValueError("loss must depend on parameters to train, got values without gradient")
        if check is not None:
            check(loss)
        self.inner.zero_grad()
        # The sum over independent models gives each its own gradient.
        self.fabric.backward(loss.sum() if loss.dim() else loss)
        if self.normalised:
            normalise_gradients(self.module.parameters(), stacked=loss.dim() > 0)
        if self.most is not None:
            clip_gradients(self.module.parameters(), self.most, stacked=loss.dim() > 0)
        self.optimizer.step()
        return Mean(loss.detach(), value.shape[-1])


def held_out(module: nn.Module) -> Callable[[Tensor, Annealing], Mean]:
    """Return a function that computes the mean loss of a batch without gradient."""

    @torch.no_grad()
    def mean(x: Tensor, annealing: Annealing) -> Mean:
        value = module(x, annealing)
        return Mean(value.mean(-1), value.shape[-1])

    return mean


# Added to the norm by the released code, so that a zero gradient stays zero.
_LEAST_NORM = 1e-7


@torch.no_grad()
def normalise_gradients(parameters: Iterable[Tensor], *, stacked: bool = False) -> None:
    """Divide the gradient of each parameter tensor by its own L2 norm + 1e-7, in place.

    Adam then does not depend on the scale of the loss or of a layer. Each tensor is divided by its
    own norm, so a layer stored as one tensor is trained differently from one stored as two. The
    gradients must be complete and unscaled: not the shards of a strategy such as FSDP, nor
    multiplied by a gradient scaler.

    Args:
        parameters: The parameters; those without a gradient are skipped.
        stacked: Whether the first axis of every tensor has one entry per independent model, as in
            an `Ensemble`. Each entry is then divided by its own norm.

    References:
        Normalized gradient with adaptive stepsize method for deep neural network training (Yu et
        al., 2017), https://arxiv.org/abs/1707.04822; used by the code of VAE with a VampPrior
        (Tomczak and Welling, 2018)

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> (w * torch.tensor([30.0, 40.0])).sum().backward()
        >>> normalise_gradients([w])
        >>> w.grad
        tensor([0.6000, 0.8000])
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    # torch has no fused norms along axes for many tensors.
    norms = list(map(_norms_of_entries, gradients)) if stacked else torch._foreach_norm(gradients)
    torch._foreach_add_(norms, _LEAST_NORM)
    torch._foreach_div_(gradients, norms)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], most: float, *, stacked: bool = False) -> None:
    """Scale gradients down to an L2 norm of all parameters together, in place.

    Args:
        parameters: The parameters; those without a gradient are skipped. Their gradients must be
            complete and unscaled, as for `normalise_gradients`.
        most: The largest norm.
        stacked: Whether the first axis of every tensor has one entry per independent model; each
            entry is then scaled by its own norm.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    norms = [
        _norms_of_entries(each).flatten() if stacked else torch.linalg.vector_norm(each)
        for each in gradients
    ]
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    # A norm that is not finite leaves no gradient to use; the loss was checked before.
    factor = (most / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1.0)
    factors = [
        factor.reshape(-1, *[1] * (each.dim() - 1)) if stacked else factor for each in gradients
    ]
    torch._foreach_mul_(gradients, factors)


def _norms_of_entries(gradient: Tensor) -> Tensor:
    """Norms along all axes but the first, shape (M, 1, ...)."""
    if gradient.dim() == 1:
        return gradient.abs()
    axes = tuple(range(1, gradient.dim()))
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=axes, keepdim=True)
    return norms
