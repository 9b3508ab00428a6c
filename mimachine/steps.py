"""Steps: what training does with one batch, and its replay as a CUDA graph.

A step of a small model starts more operations than a GPU needs time for. A CUDA graph starts all
of them as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mimachine.gradients import normalise_gradients
from mimachine.model.annealing import Annealing
from mimachine.training import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["CudaGraphs", "Mean", "Recorder", "Replayed", "Step", "held_out"]

# A capture must not meet what libraries and compilers do at the first calls.
_WARM_UP = 3


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


class Recorder(Protocol):
    """Where functions are recorded, and where they run before they are."""

    def aside(self) -> AbstractContextManager[None]:
        """Where a function runs that is going to be recorded."""
        ...

    def record(self, function: Callable[[], Mean]) -> tuple[Mean, Callable[[], None]]:
        """Where the result is going to be, and what puts it there whenever it is called."""
        ...


class Replayed:
    """A function of batches that is recorded once and replayed for all batches of one size.

    What is replayed is all that a GPU did, with the noise that the generator gives at the time, so
    the results are those of the function. What the processor decides is decided once: the function
    must not look at values. It is recorded anew for another state of the warm-up, after three calls
    of it, which count as any others.

    Args:
        function: Takes a batch and a state of the warm-up. What it changes, such as weights, it
            has to change in place.
        batch_size: Data in the batches that are replayed; others the function is called for.
        recorder: Records it.
    """

    def __init__(
        self, function: Callable[[Tensor, Annealing], Mean], batch_size: int, recorder: Recorder
    ) -> None:
        self.function, self.batch_size, self.recorder = function, batch_size, recorder
        self._key: tuple[object, ...] = ()
        self._calls, self._input = 0, torch.empty(0)
        self._recording: tuple[Mean, Callable[[], None]] | None = None

    def __call__(self, x: Tensor, annealing: Annealing) -> Mean:
        """What the function gives."""
        if len(x) != self.batch_size:
            return self.function(x, annealing)
        key = (annealing, x.shape, x.dtype)
        if key != self._key:
            # The former recording's memory is free before there is another.
            self._key, self._calls, self._recording = key, 0, None
        self._calls += 1
        if self._calls <= _WARM_UP:
            with self.recorder.aside():
                return self.function(x, annealing)
        if self._recording is None:
            buffer = self._input = x.clone()
            self._recording = self.recorder.record(lambda: self.function(buffer, annealing))
        mean, replay = self._recording
        self._input.copy_(x)
        replay()
        # The next replay writes to the same place.
        return mean._replace(loss=mean.loss.clone())


class CudaGraphs:
    """Records what functions do on a GPU as CUDA graphs.

    torch lets a graph draw from the device's default generator: a replay takes the seed and the
    place in its sequence from there and moves it on as the function would, so a generator that was
    seeded since is obeyed.

    Args:
        device: The GPU.

    References:
        https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On the stream of the captures, so that a backward pass meets no other one there."""
        around = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            yield
        around.wait_stream(self._stream)

    def record(self, function: Callable[[], Mean]) -> tuple[Mean, Callable[[], None]]:
        """Capture a function without doing what it does.

        Raises:
            RuntimeError: If it does something that a graph cannot hold.
        """
        graph, around = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                mean = function()
        except RuntimeError as error:
            # A capture that fails ends where it was.
            torch.cuda.set_stream(around)
            raise RuntimeError(
                "training.cuda_graphs needs a loss that a CUDA graph can hold, and this one waits "
                "for the GPU, decides by values or copies from the processor's memory; train it "
                "with cuda_graphs=False"
            ) from error
        return mean, graph.replay
