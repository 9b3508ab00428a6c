"""Compilation: what `torch.compile` fuses, and what becomes of it where that fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mimachine.model.annealing import Annealing

__all__ = [
    "CompiledLoss",
    "Fused",
]


class Fused:
    """A function that `torch.compile` fuses, and that runs as it is where compiling fails.

    The noise stays what it is without. Where compiling fails, as without a C++ compiler, a warning
    says so, once.

    Args:
        function: Takes anything and gives a tensor.
        name: What to call it in the warning.
        args: As for `torch.compile`.
        kwargs: As for `torch.compile`.
    """

    def __init__(
        self, function: Callable[..., Tensor], name: str, *args: Any, **kwargs: Any
    ) -> None:
        if kwargs.get("backend", "inductor") == "inductor":
            # Its own random numbers are others, and on a processor slower, than torch's.
            kwargs["options"] = {"fallback_random": True, **kwargs.get("options", {})}

        def fresh(*inputs: Any) -> Tensor:
            return function(*inputs)

        # torch counts what it compiled by the code, and stops at eight: a code for each function.
        fresh.__code__ = fresh.__code__.replace()
        self._function, self._name = function, name
        self._compiled: Callable[..., Tensor] | None = torch.compile(fresh, *args, **kwargs)

    def __call__(self, *inputs: Any) -> Tensor:
        """What the function gives."""
        if self._compiled is None:
            return self._function(*inputs)
        try:
            return self._compiled(*inputs)
        except Exception as error:
            # Compilers fail in ways that nobody lists. If the mistake is the function's, it shows
            # again without one.
            self._compiled = None
            value = self._function(*inputs)
            warnings.warn(
                f"{self._name} runs uncompiled, and slower: torch.compile failed with "
                f"{type(error).__name__}: {_first_lines(error)}",
                RuntimeWarning,
                stacklevel=3,
            )
            return value


class CompiledLoss(nn.Module):
    """A loss of one model that `torch.compile` fuses; the weights are the loss's own.

    Args:
        loss: The loss, which stays as it is.
        args: As for `torch.compile`.
        kwargs: As for `torch.compile`.
    """

    def __init__(self, loss: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.loss = loss
        self._fused = Fused(loss.forward, "this loss", *args, **kwargs)

    def forward(self, x: Tensor, annealing: Annealing | float = 1.0) -> Tensor:
        """Loss of each datum, as of the loss itself."""
        return self._fused(x, annealing)


def _first_lines(error: Exception) -> str:
    """What failed and why, which torch says on two lines, without the advice that follows."""
    return " ".join(str(error).split("\n")[:2])
