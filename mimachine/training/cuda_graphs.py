"""CUDA graphs: record a training step once and replay it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from mimachine.model.annealing import Annealing
from mimachine.training.step import Mean

__all__ = [
    "CudaGraphs",
    "Recorder",
    "Replayed",
]


# A capture must not meet what libraries and compilers do at the first calls.
_WARM_UP = 3


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
