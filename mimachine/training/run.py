"""Run directory: what training leaves on disk, and the only thing later commands need.

=====================  ====================================================================
experiment.json        the settings, written before training starts
data.json              how a user's own data were preprocessed, and a mark to know them by
metrics.jsonl          a line for each epoch
model.safetensors      weights of the best epoch so far
state.ckpt             what is needed to go on after an interruption: there from before the first
                       epoch on, gone once the run is finished
report.json            measured numbers, see `mimachine.evaluation`
refit.json             of a run whose prior was fitted after training: to which run, and how
=====================  ====================================================================

Every file but metrics.jsonl is replaced as a whole, and of metrics.jsonl an incomplete last line
is ignored, so a run can be killed at any moment and read or resumed.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine._support.files import replacing, write_json
from mimachine._support.messages import quoted

if TYPE_CHECKING:
    from torch import nn

    from mimachine.training.state import Epoch, State

__all__ = [
    "Run",
]


class Run:
    """A directory that holds one training run.

    Args:
        path: The directory; made by `create`, expected to exist otherwise.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            what = "is not a directory" if self.path.exists() else "the directory does not exist"
            raise FileNotFoundError(f"no run at {self.path}: {what}")

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        experiment: dict[str, Any],
        data: dict[str, Any] | None = None,
    ) -> Run:
        """Make the directory and write the settings.

        Args:
            path: The directory.
            experiment: The settings.
            data: What to keep of a user's data, see `data_record`.

        Raises:
            FileExistsError: If something that is not an empty directory is there: a run is never
                overwritten.
        """
        cls.check_free(path)
        directory = Path(path)
        directory.mkdir(parents=True, exist_ok=True)
        run = cls(directory)
        try:
            if data is not None:
                run.write_json("data.json", data)
            # Last: a directory with settings is a run.
            run.write_json("experiment.json", experiment)
        except BaseException:
            # A disk that is full, a value that JSON does not have, Ctrl-C: no half a run.
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return run

    @staticmethod
    def check_free(path: str | os.PathLike[str]) -> None:
        """See that a run can be made there.

        Raises:
            FileExistsError: If something that is not an empty directory is there.
        """
        directory = Path(path)
        if directory.exists() and not (directory.is_dir() and _is_empty(directory)):
            raise FileExistsError(
                f"{directory} is there already; give another place, or remove it first"
            )

    def data_record(self) -> dict[str, Any] | None:
        """What was kept of a user's data; None if the run was trained on a named data set.

        Raises:
            ValueError: If it is damaged.
        """
        if not (self.path / "data.json").exists():
            return None
        record = self.read_json("data.json")
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("fingerprint"), str)
            or not isinstance(record.get("preprocessing"), dict)
        ):
            raise ValueError(f"{self.path / 'data.json'} is damaged: it lacks what was kept")
        return record

    def refit_record(self) -> dict[str, Any] | None:
        """How the prior was fitted after training; None if it was trained with the rest.

        Raises:
            ValueError: If it is damaged.
        """
        if not (self.path / "refit.json").exists():
            return None
        record = self.read_json("refit.json")
        if not isinstance(record, dict) or not {"run", "kind", "components", "seed"} <= set(record):
            raise ValueError(f"{self.path / 'refit.json'} is damaged: it lacks what was kept")
        return record

    @property
    def finished(self) -> bool:
        """Whether training came to its end and was measured.

        The state is there from before the first epoch to the end, so a run that was broken off is
        not finished, whatever else was made of it.
        """
        return (self.path / "report.json").exists() and not self._state_file.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training this run.

        The lock is the operating system's and ends with the process, however that ends.

        Raises:
            BlockingIOError: If another process has it.
        """
        try:
            import fcntl
        except ImportError:  # Windows has no flock.
            yield
            return
        # The settings are written once and never replaced, so all processes lock one file.
        with (self.path / "experiment.json").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(f"{self.path} is in use by another process") from error
            yield

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
            if (self.path / "comparison.json").is_file():
                runs = sorted(map(quoted, (p.parent for p in self.path.glob("*/experiment.json"))))
                raise FileNotFoundError(
                    f"{self.path} is a comparison and has no {name}; its runs are {', '.join(runs)}"
                )
            raise FileNotFoundError(f"{self.path} is not a complete run: it has no {name}")
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is not valid JSON: {error}") from error

    def append_metrics(self, epoch: Epoch) -> None:
        """Add a line to metrics.jsonl, in one write."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(dataclasses.asdict(epoch), allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics.jsonl, oldest first; none if there is no such file.

        Raises:
            ValueError: If one of them is not the record of an epoch.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        # Bytes that are no text are found as a line that is no JSON.
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [_record(line, f"line {number} of {file}") for number, line in enumerate(lines, 1)]

    def save_weights(self, model: nn.Module) -> None:
        """Write the weights; what parts share is stored once, under its first name.

        safetensors' own `save_model` chooses among the names at random, and equal models would
        give unequal files.
        """
        from safetensors.torch import save

        tensors, stored = {}, set()
        for name, tensor in model.state_dict().items():
            memory = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
            if memory not in stored:
                tensors[name] = tensor.contiguous()
                stored.add(memory)
        with replacing(self.path / "model.safetensors") as temporary:
            # Written here and not there, for a disk that is full to be the system's OSError.
            temporary.write_bytes(save(tensors))

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
            raise FileNotFoundError(f"{self.path} has no weights yet: it was not trained so far")
        try:
            load_model(model, str(file))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{file} does not hold the weights of this model: {error}") from error

    def checkpoint(self, state: State) -> None:
        """Write the state and the best weights so far."""
        self.save_state(state)
        with state.taken():
            self.save_weights(getattr(state.loss, "model", state.loss))

    def save_state(self, state: State) -> None:
        """Write the state, as it is between two epochs."""
        import torch

        # torch makes a RuntimeError of its own of a disk that is full.
        saved = io.BytesIO()
        torch.save(state.to_dict(), saved)
        with replacing(self._state_file) as temporary:
            temporary.write_bytes(saved.getbuffer())

    def resume(self, state: State, rewrite: bool = True) -> None:
        """Bring a fresh state to where the run was when its state was last written.

        The records of later epochs are dropped, since these are done again.

        Args:
            state: What to bring there.
            rewrite: Whether to drop the records from disk, which one process of several does.

        Raises:
            ValueError: If the state is damaged or belongs to another model.
        """
        from mimachine.training.state import Epoch

        saved = self._saved_state()
        records = self.metrics()[: 0 if saved is None else saved["epoch"]]
        if saved is not None:
            try:
                state.restore(saved, [Epoch(**record) for record in records])
            except ValueError as error:
                raise ValueError(f"{self._state_file} cannot be used: {error}") from error
            except (KeyError, TypeError, AttributeError, IndexError) as error:
                raise ValueError(f"{self._state_file} is damaged: it is not whole") from error
        if not rewrite:
            return
        text = "".join(json.dumps(record) + "\n" for record in records)
        with replacing(self.path / "metrics.jsonl") as temporary:
            temporary.write_text(text)
        for leftover in self.path.glob(".*.????????"):
            leftover.unlink()

    def finish(self) -> None:
        """Forget the state: the run came to its end."""
        self._state_file.unlink(missing_ok=True)

    @property
    def _state_file(self) -> Path:
        return self.path / "state.ckpt"

    def _saved_state(self) -> dict[str, Any] | None:
        import torch

        if not self._state_file.exists():
            return None
        stored = self._state_file.read_bytes()
        try:
            saved = torch.load(io.BytesIO(stored), weights_only=True, map_location="cpu")
        except Exception as error:
            # Bytes that are no archive, or another one, fail in ways that torch does not list.
            raise ValueError(f"{self._state_file} is damaged: it cannot be read") from error
        if not isinstance(saved, dict) or not isinstance(saved.get("epoch"), int):
            raise ValueError(f"{self._state_file} is damaged: it is not the state of a training")
        return saved


def _is_empty(directory: Path) -> bool:
    """Whether nothing is there but what a process leaves that is killed in `Run.create`."""
    begun = {*directory.glob(".data.json.????????"), *directory.glob(".experiment.json.????????")}
    return begun.issuperset(directory.iterdir())


_NUMBERS = {"epoch", "beta", "learning_rate", "train_loss", "val_loss"}


def _record(line: str, place: str) -> dict[str, Any]:
    """An epoch's record from its line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is damaged: it is not valid JSON: {error}") from error
    if not isinstance(record, dict) or set(record) != _NUMBERS:
        raise ValueError(f"{place} is damaged: it must have {', '.join(sorted(_NUMBERS))}")
    for name, value in record.items():
        values = value if isinstance(value, list) else [value]
        # One of several models may have no loss any more, and there may be no held-out data.
        optional = isinstance(value, list) or name == "val_loss"
        if not all(isinstance(v, int | float) or (optional and v is None) for v in values):
            raise ValueError(f"{place} is damaged: {name} must be a number, got {value!r}")
    return record
