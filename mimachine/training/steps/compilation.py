"""Compilation of losses with `torch.compile`, with a fallback if compiling fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mimachine.model.annealing import Annealing

__all__ = ["CompiledLoss", "Fused", "compiling_pays"]


def compiling_pays(loss: nn.Module, device: torch.device) -> bool:
    """Whether a loss is worth compiling; a warning says if it is not.

    With convolutions on a CPU, a compiled loss takes about as long or longer.
    """
    if device.type != "cpu" or not any(isinstance(part, _ConvNd) for part in loss.modules()):
        return True
    warnings.warn(
        "training.compile=True changes nothing: convolutions on a CPU are slower if they are "
        "compiled",
        RuntimeWarning,
        stacklevel=5,
    )
    return False


class Fused:
    """Function compiled by `torch.compile`, or run uncompiled if compiling fails.

    The noise is the same as without compiling. If compiling fails, for example without a C++
    compiler, it warns once.

    Args:
        function: Maps any inputs to a tensor.
        name: Name of the function in the warning.
        args: As for `torch.compile`.
        kwargs: As for `torch.compile`.
    """

    def __init__(
        self, function: Callable[..., Tensor], name: str, *args: Any, **kwargs: Any
    ) -> None:
        if kwargs.get("backend", "inductor") == "inductor":
            # Inductor's own random numbers differ from torch's, and are slower on a CPU.
            kwargs["options"] = {"fallback_random": True, **kwargs.get("options", {})}

        def fresh(*inputs: Any) -> Tensor:
            return function(*inputs)

        # torch limits recompilations to eight per code object: give each function its own.
        fresh.__code__ = fresh.__code__.replace()
        self._function, self._name = function, name
        self._compiled: Callable[..., Tensor] | None = torch.compile(fresh, *args, **kwargs)

    def __call__(self, *inputs: Any) -> Tensor:
        """Call the function."""
        if self._compiled is None:
            return self._function(*inputs)
        try:
            return self._compiled(*inputs)
        except Exception as error:
            # Compilers raise undocumented errors. An error of the function itself is raised again
            # by the uncompiled call.
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
    """Loss of one model compiled by `torch.compile`; it shares the weights of the loss.

    Args:
        loss: The loss, which is not changed.
        args: As for `torch.compile`.
        kwargs: As for `torch.compile`.
    """

    def __init__(self, loss: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.loss = loss
        self._fused = Fused(loss.forward, "this loss", *args, **kwargs)

    def forward(self, x: Tensor, annealing: Annealing | float = 1.0) -> Tensor:
        """Loss of each example, as computed by the loss itself."""
        return self._fused(x, annealing)


def _first_lines(error: Exception) -> str:
    """First two lines of torch's message, what failed and why, without the advice after them."""
    return " ".join(str(error).split("\n")[:2])
