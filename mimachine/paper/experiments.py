"""Reproduce an experiment of the paper by name, and write its figures and tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from mimachine._support.files import directory_lock, replacing, write_json
from mimachine._support.version import __version__
from mimachine.paper import images, low_dimensional
from mimachine.paper.line import figures
from mimachine.paper.reproduction import Reproduction, Request

__all__ = ["EXPERIMENTS", "default_jobs", "reproduce"]

EXPERIMENTS: dict[str, Callable[[Request], Reproduction]] = {
    "figure1": low_dimensional.figure1,
    "figure2": low_dimensional.figure2,
    "figure3": low_dimensional.figure3,
    "figure7": low_dimensional.figure7,
    "figure8": low_dimensional.figure8,
    "figure9": figures.figure9,
    "figure10": figures.figure10,
    "figure11": figures.figure11,
    "mixture-20d": low_dimensional.mixture_20d,
    "schedules": low_dimensional.schedules,
    "table1": images.table1_of(*images.DATA),
    **{f"table1-{data}": images.table1_of(data) for data in images.DATA},
}


def default_jobs() -> int:
    """Number of processes: one per core, or one if there is a GPU."""
    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def reproduce(name: str, request: Request) -> Path:
    """Run an experiment of the paper and write its results.

    Args:
        name: One of `EXPERIMENTS`.
        request: Options and output directory.

    Returns:
        Directory with the figures as PNG and SVG, results.json and table.md.
    """
    if (request.out / "experiment.json").exists():
        raise FileExistsError(f"{request.out} is a run directory; choose another directory")
    directory = request.out / f"{name}-{request.label}"
    with _locked(directory):
        _write(
            directory, f"mimachine reproduce {name}{request.options}", EXPERIMENTS[name](request)
        )
    return directory


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Make and lock a directory; if an error leaves it empty, it is removed again."""
    made = [each for each in (directory, directory.parent) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with directory_lock(directory):
            yield
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def _write(directory: Path, command: str, made: Reproduction) -> None:
    """Write the figures, and the tables and numbers with the command that made them."""
    for title, figure in made.figures.items():
        for suffix in (".png", ".svg"):
            with replacing(directory / f"{title}{suffix}") as temporary:
                figure.savefig(temporary, format=suffix[1:])
    about = {
        "command": command,
        "machine": {
            "torch": torch.__version__,
            "mimachine": __version__,
            "python": platform.python_version(),
            "processor": f"{platform.machine()}, {os.cpu_count()} cores",
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
    write_json(directory / "results.json", {**about, **made.results})
    with replacing(directory / "table.md") as temporary:
        temporary.write_text(f"`{command}`\n\n{made.table}\n", encoding="utf-8")
