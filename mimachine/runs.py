"""Run directory: what training leaves on disk, and the only thing later commands need.

=====================  ====================================================================
experiment.json        the settings, written before training starts
metrics.jsonl          a line for each epoch
model.safetensors      weights of the best epoch so far
report.json            measured numbers, see `mimachine.evaluation`
=====================  ====================================================================
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Run", "replacing", "write_json"]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A new file that takes the name of the old one only once it is complete on disk."""
    descriptor, temporary_name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(descriptor)
    temporary = Path(temporary_name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON; a reader sees the old file or the new one, never a part."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with replacing(file) as temporary:
        temporary.write_text(text)


class Run:
    """A directory that holds one training run.

    Args:
        path: The directory; made by `create`, expected to exist otherwise.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"no run at {self.path}: the directory does not exist")

    @classmethod
    def create(cls, path: str | os.PathLike[str], experiment: dict[str, Any]) -> Run:
        """Make the directory and write the settings.

        Raises:
            FileExistsError: If something that is not an empty directory is there: a run is never
                overwritten.
        """
        directory = Path(path)
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise FileExistsError(
                f"{directory} is there already; give another place, or remove it first"
            )
        directory.mkdir(parents=True, exist_ok=True)
        run = cls(directory)
        run.write_json("experiment.json", experiment)
        return run

    def write_json(self, name: str, value: Any) -> None:
        """Write one of the run's JSON files, all of it or nothing."""
        write_json(self.path / name, value)

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            FileNotFoundError: If the run has no such file.
            ValueError: If it is not JSON.
        """
        file = self.path / name
        if not file.is_file():
            raise FileNotFoundError(f"{self.path} is not a complete run: it has no {name}")
        try:
            return json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{file} is not valid JSON: {error}") from error

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl, in one write."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl, oldest first; none if there is no such file."""
        file = self.path / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def save_weights(self, model: nn.Module) -> None:
        """Write the weights; parts that share a parameter are stored once."""
        from safetensors.torch import save_model

        with replacing(self.path / "model.safetensors") as temporary:
            save_model(model, str(temporary))

    def load_weights(self, model: nn.Module) -> None:
        """Load the weights into a model of the same architecture.

        Raises:
            FileNotFoundError: If the run has no weights.
            ValueError: If they are damaged or belong to another architecture.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        file = self.path / "model.safetensors"
        if not file.is_file():
            raise FileNotFoundError(f"{self.path} has no weights: training never finished an epoch")
        try:
            load_model(model, str(file))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{file} does not hold the weights of this model: {error}") from error
