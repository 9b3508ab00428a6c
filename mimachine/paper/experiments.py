"""Reproduce an experiment of the paper by name, and write its figures and tables."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from mimachine._support.files import directory_lock, save_figure, write_json
from mimachine._support.outputs import RECORD, Outputs
from mimachine._support.reading import read_bytes
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
    "entropy": low_dimensional.entropy,
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
        outputs = _outputs(directory, name)
        command = f"mimachine reproduce {name}{request.options}"
        _write(directory, command, EXPERIMENTS[name](request), outputs)
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


def _write(directory: Path, command: str, made: Reproduction, outputs: Outputs) -> None:
    """Write the figures, and the tables and numbers with the command that made them."""
    for title, figure in made.figures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, directory / f"{title}{suffix}", outputs.replacing)
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
    results = {**about, **made.results}
    write_json(directory / "results.json", results, outputs.replacing)
    with outputs.replacing(directory / "table.md") as temporary:
        temporary.write_text(f"`{command}`\n\n{made.table}\n", encoding="utf-8")


def _outputs(directory: Path, name: str) -> Outputs:
    """Rules for writing results: never over files that were not written by a reproduction.

    Raises:
        ValueError: If there are such files.
        OSError: If the directory cannot be written.
    """
    # Earlier versions kept no record.
    old = not (directory / RECORD).exists() and _is_reproduction(directory / "results.json", name)
    outputs = Outputs(directory, is_own=lambda file: old, force=None)
    pictures = (file for suffix in ("png", "svg") for file in sorted(directory.glob(f"*.{suffix}")))
    # Checked before the training, which may take hours.
    outputs.check(directory / "results.json", directory / "table.md", *pictures)
    return outputs


def _is_reproduction(file: Path, name: str) -> bool:
    try:
        command = json.loads(read_bytes(file))["command"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False
    return str(command).split()[:3] == ["mimachine", "reproduce", name]
