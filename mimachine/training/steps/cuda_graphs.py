"""CUDA graphs: record a training step once and replay it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from mimachine.model.annealing import Annealing
from mimachine.training.steps.step import Mean

__all__ = ["CudaGraphs", "Recorder", "Replayed"]

# Uncaptured calls first, since libraries and compilers do extra work in their first calls.
_WARM_UP = 3


class Recorder(Protocol):
    """Interface of a recorder of functions, such as `CudaGraphs`."""

    def aside(self) -> AbstractContextManager[None]:
        """Context in which a function runs before it is recorded."""
        ...

    def record(self, function: Callable[[], Mean]) -> tuple[Mean, Callable[[], None]]:
        """Record a function: return its result's buffers and a function that replays it."""
        ...


class Replayed:
    """Function of batches that is recorded once and replayed for all batches of one size.

    A replay repeats all work of the GPU, with new noise from the generator, so the results are
    those of the function. Decisions of the CPU are recorded once: the function must not branch on
    values. Each new warm-up state is recorded anew, after three ordinary calls.

    Args:
        function: Takes a batch and a warm-up state. It must change tensors such as weights in
            place.
        batch_size: Number of rows in the batches to replay; for others the function is called.
        recorder: Recorder of the function.
    """

    def __init__(
        self, function: Callable[[Tensor, Annealing], Mean], batch_size: int, recorder: Recorder
    ) -> None:
        self.function, self.batch_size, self.recorder = function, batch_size, recorder
        self._key: tuple[object, ...] = ()
        self._calls, self._input = 0, torch.empty(0)
        self._recording: tuple[Mean, Callable[[], None]] | None = None

    def __call__(self, x: Tensor, annealing: Annealing) -> Mean:
        """Call or replay the function."""
        if len(x) != self.batch_size:
            return self.function(x, annealing)
        key = (annealing, x.shape, x.dtype)
        if key != self._key:
            # Free the memory of the previous recording before the next one.
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
        # The next replay overwrites the buffer.
        return mean._replace(loss=mean.loss.clone())


class CudaGraphs:
    """Recorder of functions on a GPU as CUDA graphs.

    A graph draws from the device's default generator: a replay uses the generator's current seed
    and offset and advances it as the function would, so seeding it between replays has the usual
    effect.

    Args:
        device: The GPU.

    References:
        https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run on the stream of the captures, so that a backward pass uses no other stream."""
        around = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            yield
        around.wait_stream(self._stream)

    def record(self, function: Callable[[], Mean]) -> tuple[Mean, Callable[[], None]]:
        """Capture a function without executing it.

        Raises:
            RuntimeError: If a CUDA graph cannot capture the function.
        """
        graph, around = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                mean = function()
        except RuntimeError as error:
            # A failed capture does not restore the stream.
            torch.cuda.set_stream(around)
            raise RuntimeError(
                "training.cuda_graphs needs a loss that a CUDA graph can capture; this one waits "
                "for the GPU, branches on values or copies from CPU memory: use cuda_graphs=False"
            ) from error
        return mean, graph.replay
