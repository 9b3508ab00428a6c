"""Whole training step in one compiled graph: loss, gradient and Adam."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from mimachine.model.annealing import Annealing
from mimachine.training.ensemble import Ensemble, first_names
from mimachine.training.optimizers import is_adam
from mimachine.training.recipe import Training
from mimachine.training.steps.step import Mean

__all__ = ["WholeStep", "fits"]

# The moments of a parameter, as `torch.optim.Adam` names them.
_FIRST, _SECOND, _COUNT = "exp_avg", "exp_avg_sq", "step"


class _Step(Protocol):
    def __call__(
        self, x: Tensor, annealing: Annealing, check: Callable[[Tensor], None] | None = None
    ) -> Mean: ...


def fits(
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Training,
    device: torch.device,
) -> bool:
    """Whether whole steps of a training can be compiled: Adam in full precision, on a CPU."""
    parameters = list(loss.parameters())
    return (
        is_adam(optimizer, decoupled=False)
        and _is_plain(optimizer, parameters)
        and training.precision == "full"
        and training.gradient == "plain"
        and training.clip_norm is None
        and not training.cuda_graphs
        and device.type == "cpu"
        and all(p.requires_grad for p in parameters)
        and not any(_changes(part) for part in loss.modules())
    )


def _is_plain(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    """Whether an Adam has all parameters in one group, and none of its variants."""
    group, *others = optimizer.param_groups
    return (
        not others
        and list(map(id, group["params"])) == list(map(id, parameters))
        and not (group["amsgrad"] or group["maximize"] or group["weight_decay"])
    )


def _changes(module: nn.Module) -> bool:
    """Whether a module changes its buffers in training, as batch normalisation does."""
    return getattr(module, "track_running_stats", False) is True


class _Graphs(dict[tuple[Any, ...], Callable[..., Tensor]]):
    """Compiled steps of a loss, kept with it so that a second training compiles nothing.

    A copy of the loss, or one that is loaded again, has none.
    """

    def __deepcopy__(self, memo: object) -> _Graphs:
        return _Graphs()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Graphs, ()


class WholeStep:
    """Training step that is compiled as a whole, once the warm-up is complete.

    The noise is that of the ordinary step, and weights differ by rounding. A batch whose losses are
    all not finite changes nothing. Batches of another size than the recipe's, which end an epoch,
    and steps of the warm-up are ordinary ones. If compiling fails, for example without a C++
    compiler, it warns once and all steps are ordinary.

    Args:
        loss: The loss of one model, or an `Ensemble`.
        optimizer: Its Adam.
        ordinary: The ordinary step.
        batch_size: Number of rows of the batches to compile for.
    """

    def __init__(
        self, loss: nn.Module, optimizer: torch.optim.Adam, ordinary: _Step, batch_size: int
    ) -> None:
        self.loss, self.optimizer = loss, optimizer
        self.ordinary, self.batch_size = ordinary, batch_size
        self._names = [name for name, _ in loss.named_parameters()]
        self._parameters = list(loss.parameters())
        self._weights = [p.detach() for p in self._parameters]
        self._moments: list[list[Tensor]] = []
        self._rate = torch.zeros((), dtype=torch.float64)
        self._failed = False
        # What no guard checks: a loss may have got other parts since a graph was made.
        self._structure = (repr(loss), getattr(loss, "objective", None), *self._names)

    def __call__(
        self, x: Tensor, annealing: Annealing, check: Callable[[Tensor], None] | None = None
    ) -> Mean:
        """Do one step on a batch, as `Step` does."""
        size = x.shape[isinstance(self.loss, Ensemble)]
        if self._failed or annealing.beta < 1 or size != self.batch_size or not self._started():
            return self.ordinary(x, annealing, check)
        group = self.optimizer.param_groups[0]
        self._rate.fill_(group["lr"])
        try:
            step = self._graph(x, annealing, group)
            loss = step(self._weights, *self._moments, self._rate, x)
        except Exception as error:
            # Compilers raise undocumented errors. One of the loss is raised by the ordinary step.
            self._failed = True
            mean = self.ordinary(x, annealing, check)
            warnings.warn(
                f"steps are not compiled, and slower: torch.compile failed with "
                f"{type(error).__name__}: {' '.join(str(error).split(chr(10))[:2])}",
                RuntimeWarning,
                stacklevel=4,
            )
            return mean
        if check is not None:
            check(loss)
        return Mean(loss, size)

    def _started(self) -> bool:
        """Whether Adam has moments, which it makes in its first step; find them."""
        first = self.optimizer.state.get(self._parameters[0])
        if not first:
            return False
        # Another state may have been loaded.
        if not self._moments or self._moments[0][0] is not first[_FIRST]:
            states = [self.optimizer.state.get(p) or {} for p in self._parameters]
            # A parameter without gradients has none.
            if not all(states):
                return False
            self._moments = [[s[name] for s in states] for name in (_FIRST, _SECOND, _COUNT)]
        return True

    def _graph(self, x: Tensor, annealing: Annealing, group: dict[str, Any]) -> Callable[..., Any]:
        of_batch = (x.shape, x.stride(), x.dtype)
        constants = (*group["betas"], group["eps"], self.loss.training)
        key = (self._structure, annealing, *of_batch, *constants)
        graphs: _Graphs = self.loss.__dict__.setdefault("_whole_steps", _Graphs())
        if key not in graphs:
            graphs[key] = _compiled(self.loss, self._names, annealing, group)
        return graphs[key]


def _compiled(
    loss: nn.Module, names: list[str], annealing: Annealing, group: dict[str, Any]
) -> Callable[..., Tensor]:
    """Compile a step of a loss at one state of the warm-up."""
    (first, second), eps = group["betas"], group["eps"]
    tied = first_names(loss)

    def total(weights: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        by_name = dict(zip(names, weights, strict=True))
        named = {name: by_name[first] for name, first in tied.items() if first in by_name}
        # A model of an ensemble that has stopped is computed, too: another number of models would
        # be another graph.
        values: Tensor = functional_call(loss, named, (x, annealing), tie_weights=False)
        means = values.mean(-1)
        return (means.sum() if means.dim() else means), means

    def step(
        weights: list[Tensor],
        firsts: list[Tensor],
        seconds: list[Tensor],
        counts: list[Tensor],
        rate: Tensor,
        x: Tensor,
    ) -> Tensor:
        found: tuple[list[Tensor], Tensor] = grad(total, has_aux=True)(weights, x)
        gradients, means = found
        usable = means.isfinite().any()
        # All parameters have been updated as often.
        count = (counts[0] + 1).double()
        size = rate / (1 - first**count)
        root = (1 - second**count).sqrt()
        for p, m, v, number, g in zip(weights, firsts, seconds, counts, gradients, strict=True):
            momentum = m + (1 - first) * (g - m)
            square = second * v + (1 - second) * g * g
            change = size.to(p.dtype) * momentum / (square.sqrt() / root.to(p.dtype) + eps)
            p.copy_(torch.where(usable, p - change, p))
            m.copy_(torch.where(usable, momentum, m))
            v.copy_(torch.where(usable, square, v))
            number.copy_(torch.where(usable, number + 1, number))
        return means

    # Graphs of functions with the same code would be taken for one another without guards.
    step.__code__ = step.__code__.replace()
    compiled: Callable[..., Tensor] = torch.compile(step, fullgraph=True, options=_options())
    return compiled


def _options() -> dict[str, Any]:
    """Options of the compiler, as far as this torch has them."""
    options: dict[str, Any] = {
        # Inductor's own random numbers differ from torch's, and are slower on a CPU.
        "fallback_random": True,
        "cpp_wrapper": True,
        "size_asserts": False,
        "alignment_asserts": False,
        "cpp.use_decompose_tanh": True,
    }
    known = set(torch._inductor.list_options())
    options = {name: value for name, value in options.items() if name in known}
    skip = getattr(torch.compiler, "skip_all_guards_unsafe", None)
    if skip is not None:
        # The key of the graph says all that the guards would check, in a tenth of the time.
        options["guard_filter_fn"] = skip
    return options
