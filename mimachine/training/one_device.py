"""One device in full precision: what `fit` needs of a Fabric, without loading Lightning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["OneDevice"]


class OneDevice:
    """One process on one device; a stand-in for `lightning_fabric.Fabric`.

    Its optimisers and modules have no wrapper, whose calls are a fifth of the time of a small step.

    Args:
        device: The device; by default the best available.
    """

    world_size, global_rank, is_global_zero = 1, 0, True

    def __init__(self, device: str | torch.device | None = None) -> None:
        name = next((n for n in ("cuda", "mps") if _is_available(n)), "cpu")
        self.device = torch.device(name if device is None else device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", 0)
        self.loggers: list[object] = []

    def setup(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Move a module to the device; its parameters stay those of the optimiser.

        A module with some weights in double precision becomes double throughout.
        """
        if any(p.dtype == torch.float64 for p in module.parameters()):
            module.double()
        module.to(self.device)
        return module, optimizer

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        loss.backward()


def _is_available(name: str) -> bool:
    return torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()
