"""Adam's step on lists that are collected once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mimachine.training.optimizers import is_adam

__all__ = ["FusedAdam"]


class FusedAdam:
    """The step of a `torch.optim.Adam`, to the same bits, without what is done around it each time.

    For a small model torch's own checks, hooks and lists take longer than the arithmetic. If
    anything is unusual the optimiser's own step is taken.

    Args:
        optimizer: An Adam of one group with fused=True, whose parameters are on one device.
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        self.optimizer = optimizer
        self.parameters: list[Tensor] = optimizer.param_groups[0]["params"]
        self._lists: tuple[list[Tensor], ...] = ()

    @staticmethod
    def fits(optimizer: torch.optim.Optimizer) -> bool:
        """Whether an optimiser is such an Adam."""
        groups = optimizer.param_groups
        plain = is_adam(optimizer, decoupled=False) and len(groups) == 1
        return (
            plain
            and bool(groups[0]["fused"])
            and not (groups[0]["amsgrad"] or groups[0]["maximize"])
            and hasattr(torch, "_fused_adam_")
            and len({p.device for p in groups[0]["params"]}) == 1
        )

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Do a step."""
        group: dict[str, Any] = self.optimizer.param_groups[0]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not self._collected() or len(gradients) < len(self.parameters):
            self.optimizer.step()
            return
        first, second, counts = self._lists
        torch._foreach_add_(counts, 1)
        with torch.no_grad():
            torch._fused_adam_(
                self.parameters,
                gradients,
                first,
                second,
                [],
                counts,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=None,
                found_inf=None,
            )

    def _collected(self) -> bool:
        """Collect the moments, which Adam makes in its first step."""
        state = self.optimizer.state
        now = state.get(self.parameters[0])
        if not now:
            return False
        # Another state may have been loaded.
        if not self._lists or self._lists[0][0] is not now["exp_avg"]:
            if any(not state.get(p) for p in self.parameters):
                return False
            names = ("exp_avg", "exp_avg_sq", "step")
            self._lists = tuple([state[p][name] for p in self.parameters] for name in names)
        return True
