"""What is told of each epoch: to a function of the caller, and to loggers of Lightning Fabric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mimachine.training.records import Epoch

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

__all__ = ["Reported", "Stop", "check_callbacks"]


class Stop(Exception):
    """Ends training after the present epoch, raised in `on_epoch` of `fit`.

    The model gets the best weights so far, the run is complete, and nothing is raised by `fit`.

    Example:
        >>> def on_epoch(epoch):
        ...     if epoch.val_loss < 1.5:
        ...         raise mm.Stop
    """


class Reported:
    """Tells a function and loggers of each epoch.

    Args:
        on_epoch: The function; None for none.
        loggers: The loggers.
    """

    def __init__(
        self, on_epoch: Callable[[Epoch], object] | None, loggers: Sequence[Logger]
    ) -> None:
        self.on_epoch, self.loggers = on_epoch, loggers

    def __call__(self, epoch: Epoch) -> bool:
        """Tell of an epoch; whether training shall stop."""
        for logger in self.loggers:
            logger.log_metrics(_numbers(epoch), step=epoch.epoch)
        try:
            if self.on_epoch is not None:
                self.on_epoch(epoch)
        except Stop:
            return True
        return False

    def end(self) -> None:
        """Write what the loggers still have in memory."""
        for logger in self.loggers:
            logger.save()
            logger.finalize("success")


def check_callbacks(on_epoch: object, loggers: object) -> None:
    """Check the types of both.

    Raises:
        TypeError: If `on_epoch` is not a function, or a logger has no `log_metrics`.
    """
    if on_epoch is not None and not callable(on_epoch):
        raise TypeError(
            f"on_epoch must be a function of an Epoch or None, got a {type(on_epoch).__name__}"
        )
    if isinstance(loggers, str) or not isinstance(loggers, Sequence):
        raise TypeError(f"loggers must be a list of loggers, got a {type(loggers).__name__}")
    for logger in loggers:
        if not callable(getattr(logger, "log_metrics", None)):
            raise TypeError(
                "loggers must be of lightning_fabric, such as TensorBoardLogger, "
                f"got a {type(logger).__name__}"
            )


def _numbers(epoch: Epoch) -> dict[str, float]:
    """Numbers of an epoch by name; of several models one for each."""
    found = {"beta": epoch.beta, "learning_rate": epoch.learning_rate}
    for name, loss in (("train_loss", epoch.train_loss), ("val_loss", epoch.val_loss)):
        several = dict(enumerate(loss)) if isinstance(loss, list) else {None: loss}
        for index, value in several.items():
            if value is not None:
                found[name if index is None else f"{name}/{index}"] = value
    return found
