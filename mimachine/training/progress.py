"""Progress bar of training in a terminal: loss, β and the maximal remaining time."""

from __future__ import annotations

import math
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from mimachine._support.messages import visible
from mimachine._support.streams import Printable, is_terminal, unfiltered

if TYPE_CHECKING:
    from mimachine.training.records import Epoch

__all__ = ["Progress"]


class Progress:
    """Progress bar on standard error, one step per epoch.

    Args:
        epochs: Maximal number of epochs; early stopping may end before.
        show: Whether to show the bar; None shows it in a terminal only.
        description: Name of what is trained.
    """

    def __init__(self, epochs: int, show: bool | None = None, description: str = "") -> None:
        self.epochs, self.description = epochs, visible(description)
        self.show = is_terminal(sys.stderr) if show is None else show
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if self.show and sys.stderr is not None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("epoch {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Bar(
                *columns,
                console=Console(file=unfiltered(sys.stderr)),
                transient=True,
                # A file or pipe must get its own text.
                redirect_stdout=is_terminal(sys.stdout),
            )
            self._task = self._bar.add_task(self.description, total=self.epochs)
            self._bar.start()
            _filter_redirected()
        return self

    def update(self, epoch: Epoch) -> None:
        """Advance the bar by one epoch."""
        if self._bar is None:
            return
        losses = f"train {_mean(epoch.train_loss):.3f}"
        if epoch.val_loss is not None:
            losses += f", held out {_mean(epoch.val_loss):.3f}"
        text = f"{self.description} loss {losses} nats, β {epoch.beta:.2f}".strip()
        self._bar.update(self._task, completed=epoch.epoch, description=text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _filter_redirected() -> None:
    """Show control characters in what is printed above the bar, until the bar stops."""
    from rich.file_proxy import FileProxy

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, FileProxy):
            setattr(sys, name, Printable(cast(TextIO, stream)))


def _mean(value: float | list[float | None]) -> float:
    if not isinstance(value, list):
        return value
    live = [each for each in value if each is not None]
    return sum(live) / len(live) if live else math.nan
