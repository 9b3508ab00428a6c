"""Types of command-line options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mimachine.data.files.options import File

__all__ = [
    "DataName",
    "FileOptions",
    "Log",
    "MovedData",
    "MovedTrainingData",
    "NewDirectory",
    "OptionalDataName",
    "Preset",
    "RunPath",
    "SplitName",
    "optional",
]


def optional(metavar: str, default: str) -> Any:
    """How the help shows an option that is None by default: its value's kind, and what None does.

    A default that is known for the data at hand is shown as it is.
    """

    def shown(value: str) -> str:
        return f"(default: {default if value in ('', 'None') else value})"

    return tyro.conf.arg(metavar=metavar, help_behavior_hint=shown)


DataName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
OptionalDataName = Annotated[
    str | None, tyro.conf.Positional, optional("[DATA]", "the data that the run was trained on")
]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
NewDirectory = Annotated[Path | None, optional("DIR", "a new directory under runs/")]
MovedData = Annotated[
    str | None, optional("PATH", "where it was, or where it was relative to the run")
]
MovedTrainingData = Annotated[MovedData, tyro.conf.arg(name="data")]
FileOptions = Annotated[File, tyro.conf.arg(name="")]
SplitName = Annotated[
    Literal["train", "val", "test", "all"] | None,
    optional("{train,val,test,all}", "all for a file or folder, test for a named data set"),
]
Preset = Literal["default", "fast", "published", "paper"]
Log = Annotated[Literal["tensorboard"] | None, optional("tensorboard", "none")]
