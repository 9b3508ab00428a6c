"""Logs of a training for TensorBoard, in the directory of the run."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from mimachine.training.run import Run

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

__all__ = ["Log", "check_log", "loggers_of"]

Log = Literal["tensorboard"] | None
_FOLDER = "tensorboard"


def check_log(log: object) -> None:
    """Check the kind of a log.

    Raises:
        ImportError: If tensorboard is not installed.
        ValueError: If there is no such log.
    """
    if log is None:
        return
    if log != "tensorboard":
        raise ValueError(f"log must be 'tensorboard' or None, got {log!r}")
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("log 'tensorboard' needs tensorboard: pip install mimachine[log]")


def loggers_of(run: Run, log: Log) -> list[Logger]:
    """The logger of a run: one that is asked for, or that the run had before an interruption.

    Raises:
        ImportError: If tensorboard is not installed.
    """
    if log is None and not (run.path / _FOLDER).is_dir():
        return []
    check_log("tensorboard")
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    return [TensorBoardLogger(run.path, name=_FOLDER, version="")]
