"""Optimisers: Adam, Muon for matrices, or what a factory of the caller's makes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mimachine.training.recipe import Training

__all__ = ["Adam", "AdamW", "Factory", "Muon", "is_adam", "make"]

Factory = Callable[..., torch.optim.Optimizer]
"""Called with the parameters and `lr`, such as `torch.optim.AdamW`."""

# Coefficients of the quintic iteration, and its steps, of Jordan et al. (2024).
_QUINTIC, _ITERATIONS = (3.4445, -4.775, 2.0315), 5


def make(loss: nn.Module, training: Training, factory: Factory | None) -> torch.optim.Optimizer:
    """The optimiser of a loss by the recipe, or by the caller's factory.

    Raises:
        ValueError: If the loss has no parameter to train, or the factory makes something else.
    """
    parameters = [p for p in loss.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("loss has no parameter that can be trained")
    rate, decay = training.learning_rate, training.weight_decay
    if factory is not None:
        return _by(factory, parameters, training)
    if training.optimizer == "muon":
        stacked = hasattr(loss, "num_models")
        dtype = torch.bfloat16 if training.precision == "bf16-mixed" else None
        return Muon(_groups(loss, decay), lr=rate, stacked=stacked, dtype=dtype)
    if decay == 0:
        return Adam(parameters, lr=rate, fused=True)
    return AdamW(_groups(loss, decay), lr=rate, fused=True)


def _by(
    factory: Factory, parameters: Sequence[Tensor], training: Training
) -> torch.optim.Optimizer:
    if training.optimizer != "adam" or training.weight_decay != 0:
        raise ValueError(
            "training.optimizer and training.weight_decay must have their defaults if an optimizer "
            "is given, which has its own: functools.partial(torch.optim.AdamW, weight_decay=0.1)"
        )
    if not callable(factory):
        raise TypeError(
            "optimizer must be a function of the parameters and lr, such as torch.optim.AdamW, "
            f"got a {type(factory).__name__}"
        )
    optimizer = factory(parameters, lr=training.learning_rate)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must return a torch.optim.Optimizer, got a {type(optimizer).__name__}"
        )
    known = set(map(id, parameters))
    if any(id(p) not in known for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("optimizer must be of the parameters that it is called with, got others")
    return optimizer


def _groups(loss: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: the matrices of layers, and all others, which do not decay."""
    axes = 2 + hasattr(loss, "num_models")
    matrices, others = list[Tensor](), list[Tensor]()
    for name, parameter in loss.named_parameters():
        if parameter.requires_grad:
            # Pseudo-inputs and the means of mixtures are matrices, too, but no layer's.
            is_matrix = name.replace("/", ".").endswith("weight") and parameter.dim() >= axes
            (matrices if is_matrix else others).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": decay, "matrices": True},
        {"params": others, "weight_decay": 0.0, "matrices": False},
    ]
    return [group for group in groups if group["params"]]


class _Eager(torch.optim.Optimizer):
    """An optimiser whose methods do not load torch's compiler.

    torch wraps these methods so that its compiler skips them, and the wrappers load the compiler,
    which takes longer than torch itself. `fit` never compiles them.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class Adam(_Eager, torch.optim.Adam):
    """`torch.optim.Adam`, to the same bits, without loading torch's compiler."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(_Eager, torch.optim.AdamW):
    """`torch.optim.AdamW`, to the same bits, without loading torch's compiler."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def is_adam(optimizer: torch.optim.Optimizer, *, decoupled: bool = True) -> bool:
    """Whether an optimiser is Adam or, if `decoupled`, AdamW; none with a step of its own."""
    kinds = (Adam, torch.optim.Adam, *((AdamW, torch.optim.AdamW) if decoupled else ()))
    return type(optimizer) in kinds


class Muon(_Eager):
    r"""Muon (Jordan et al., 2024) for the matrices of layers, Adam for all other parameters.

    The momentum of a matrix's gradient is replaced by the nearest orthogonal matrix, approximately,
    times :math:`0.2 \sqrt{\max(A, B)}` for a matrix of shape (A, B). Its root mean square is then
    that of Adam's steps, so both take the same learning rate (Liu et al., 2025). Kernels of
    convolutions are taken as matrices of (out, rest). Weight decay is decoupled.

    Args:
        groups: Groups of parameters; `matrices` says which are matrices of layers.
        lr: Learning rate.
        momentum: Decay of the momentum of matrices, which is Nesterov's.
        betas: Decays of Adam's moments.
        eps: Added to the root of Adam's second moment.
        stacked: Whether the first axis of every tensor has one entry per independent model.
        dtype: Type in which matrices are made orthogonal, by default their own. In bfloat16 this
            takes half of the time on processors and GPUs that multiply it fast.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        stacked: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(groups, {**defaults, "weight_decay": 0.0, "matrices": False})
        self.stacked, self.dtype = stacked, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do a step with the gradients that the parameters have."""
        value = None if closure is None else closure()
        for group in self.param_groups:
            one = self._step_of_matrix if group["matrices"] else self._step_of_adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    if group["weight_decay"]:
                        parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    one(parameter, group)
        return value

    def _step_of_matrix(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        nesterov = gradient.lerp(momentum, group["momentum"]).flatten(1 + self.stacked)
        update = _orthogonal(nesterov, self.dtype or nesterov.dtype).to(parameter.dtype)
        size = 0.2 * math.sqrt(max(update.shape[-2:]))
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)

    def _step_of_adam(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        (first, second), count = group["betas"], float(state["step"])
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (state["exp_avg_sq"] / (1 - second**count)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["exp_avg"], scale, value=-group["lr"] / (1 - first**count))


def _orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular values between 0.7 and 1.2."""
    x: Tensor
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)).to(dtype)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
