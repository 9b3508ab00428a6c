"""Gradients: what is done to them between the backward pass and the optimiser's step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["normalise_gradients"]

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
