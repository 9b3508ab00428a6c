"""Run directory: the files that training writes and later commands read.

=====================  ====================================================================
experiment.json        settings, written before training starts
data.json              preprocessing and fingerprint of the user's data
metrics.jsonl          one line per epoch
model.safetensors      weights of the best epoch so far
state.ckpt             state to resume from after an interruption; written before the first epoch
                       and removed once the run is finished
report.json            measured numbers, see `mimachine.evaluation`
refit.json             for a run whose prior was fitted after training: the original run, and how
unfinished.json        what the command was asked for, until it is through, see `claims`
written.jsonl          results that commands wrote, see `mimachine._support.outputs`
=====================  ====================================================================

All files except metrics.jsonl are written atomically, and an incomplete last line of metrics.jsonl
is ignored, so a run can be killed at any moment and then read or resumed.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine._support.files import directory_lock, replacing, utf8_path, write_json
from mimachine._support.messages import quoted
from mimachine.training import claims

if TYPE_CHECKING:
    from torch import nn

    from mimachine.training.state import Epoch, State

__all__ = ["Run"]

# Writes the settings and the record of the data, if there is one, of a new run.
Create = Callable[..., "Run"]


class Run:
    """A directory that holds one training run.

    Args:
        path: The directory, which must exist; `create` makes a new one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            what = "it is not a directory" if self.path.exists() else "the directory does not exist"
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
            data: Record of the user's data, see `data_record`.

        Raises:
            FileExistsError: If the path exists and is not an empty directory; a run is never
                overwritten.
        """
        with cls.claimed(path) as create:
            return create(experiment, data)

    @classmethod
    @contextmanager
    def claimed(
        cls, path: str | os.PathLike[str], request: Mapping[str, Any] | None = None
    ) -> Iterator[Create]:
        """Claim a directory for a run that is created later, and lock it until the end.

        See `claims.claimed`; with a request, an unfinished run of the same request is no error.

        Args:
            path: The directory.
            request: What the run is made for; None if it cannot be gone on with.

        Yields:
            A function that writes the settings and the record of the data, as `create` does, and
            returns the run. The run is locked until the context ends.

        Raises:
            FileExistsError: If the path exists and is not an empty directory, or another process
                has claimed it.
        """
        directory = Path(path)
        with claims.claimed(directory, request):
            yield partial(cls._write_new, directory)

    @classmethod
    def _write_new(
        cls, directory: Path, experiment: dict[str, Any], data: dict[str, Any] | None = None
    ) -> Run:
        run = cls(directory)
        try:
            if data is not None:
                run.write_json("data.json", data)
            # Write the settings last: a directory with settings is a run.
            run.write_json("experiment.json", experiment)
        except BaseException:
            # A full disk, a value that JSON does not allow, Ctrl-C: leave no partial run.
            for name in ("data.json", "experiment.json"):
                (directory / name).unlink(missing_ok=True)
            raise
        return run

    @staticmethod
    def check_free(path: str | os.PathLike[str]) -> None:
        """Check that a run can be created at a path.

        Raises:
            FileExistsError: If the path exists and is not an empty directory.
        """
        claims.check(Path(path))

    def data_record(self) -> dict[str, Any] | None:
        """Read data.json, the record of the user's data; None if a named data set was used.

        Raises:
            ValueError: If the file is damaged.
        """
        if not (self.path / "data.json").exists():
            return None
        record = self.read_json("data.json")
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("fingerprint"), str)
            or not isinstance(record.get("preprocessing"), dict)
        ):
            raise ValueError(
                f"{self.path / 'data.json'} is damaged: it must have fingerprint and preprocessing"
            )
        return record

    def refit_record(self) -> dict[str, Any] | None:
        """Read refit.json, how the prior was fitted after training; None if there was no refit.

        Raises:
            ValueError: If the file is damaged.
        """
        if not (self.path / "refit.json").exists():
            return None
        record = self.read_json("refit.json")
        if not isinstance(record, dict) or not set(record) >= _REFIT_KEYS:
            raise ValueError(
                f"{self.path / 'refit.json'} is damaged: it must have "
                f"{', '.join(sorted(_REFIT_KEYS))}"
            )
        return record

    @property
    def finished(self) -> bool:
        """Whether training ended and the model was measured.

        The state exists from before the first epoch until the end, so an interrupted run is not
        finished, whatever other files it has.
        """
        return (self.path / "report.json").exists() and not self._state_file.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run, so that no other process trains it.

        Raises:
            BlockingIOError: If another process has the lock.
        """
        with directory_lock(self.path):
            yield

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run atomically."""
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
        """Read all complete lines of metrics.jsonl, oldest first; empty without the file.

        Raises:
            ValueError: If a line is not the record of an epoch.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        # Bytes that are not UTF-8 make a line that is not JSON, which is reported.
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [_record(line, f"line {number} of {file}") for number, line in enumerate(lines, 1)]

    def save_weights(self, model: nn.Module) -> None:
        """Write the weights; shared tensors are stored once, under their first name.

        safetensors' own `save_model` chooses among the names at random, so that equal models would
        give different files.
        """
        from safetensors.torch import save

        tensors, stored = {}, set()
        for name, tensor in model.state_dict().items():
            memory = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
            if memory not in stored:
                tensors[name] = tensor.contiguous()
                stored.add(memory)
        with replacing(self.path / "model.safetensors") as temporary:
            # Not written by safetensors, so that a full disk raises an OSError.
            temporary.write_bytes(save(tensors))

    def load_weights(self, model: nn.Module) -> None:
        """Load the weights into a model of the same architecture.

        Raises:
            FileNotFoundError: If the run has no weights.
            ValueError: If the weights are damaged or belong to another architecture.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        file = self.path / "model.safetensors"
        if not file.is_file():
            raise FileNotFoundError(f"{self.path} has no weights yet: it has not been trained")
        try:
            with utf8_path(file) as path:
                load_model(model, str(path))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{file} does not hold the weights of this model: {error}") from error

    def checkpoint(self, state: State) -> None:
        """Write the state and the best weights so far."""
        self.save_state(state)
        with state.taken():
            self.save_weights(getattr(state.loss, "model", state.loss))

    def save_state(self, state: State) -> None:
        """Write the state between two epochs."""
        import torch

        # torch.save would raise a RuntimeError for a full disk.
        saved = io.BytesIO()
        torch.save(state.to_dict(), saved)
        with replacing(self._state_file) as temporary:
            temporary.write_bytes(saved.getbuffer())

    def resume(self, state: State, rewrite: bool = True) -> None:
        """Resume a run: restore a fresh state to the last one that was written.

        Records of later epochs are dropped, since these epochs are repeated.

        Args:
            state: State to restore.
            rewrite: Whether to drop the records on disk too; only one of several processes does.

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
                raise ValueError(f"{self._state_file} is damaged: it is incomplete") from error
        if not rewrite:
            return
        text = "".join(json.dumps(record) + "\n" for record in records)
        with replacing(self.path / "metrics.jsonl") as temporary:
            temporary.write_text(text)

    def finish(self) -> None:
        """Remove the state of a run that has ended."""
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
            # torch.load raises undocumented errors for bytes that are not its archive.
            raise ValueError(f"{self._state_file} is damaged: it cannot be read") from error
        if not isinstance(saved, dict) or not isinstance(saved.get("epoch"), int):
            raise ValueError(f"{self._state_file} is damaged: it is not a training state")
        return saved


_REFIT_KEYS = {"run", "kind", "components", "seed"}
_NUMBERS = {"epoch", "beta", "learning_rate", "train_loss", "val_loss"}


def _record(line: str, place: str) -> dict[str, Any]:
    """Parse the record of an epoch from its line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is damaged: it is not valid JSON: {error}") from error
    if not isinstance(record, dict) or set(record) != _NUMBERS:
        raise ValueError(f"{place} is damaged: it must have {', '.join(sorted(_NUMBERS))}")
    for name, value in record.items():
        values = value if isinstance(value, list) else [value]
        # A model of several that has stopped has no loss, and there may be no held-out data.
        optional = isinstance(value, list) or name == "val_loss"
        if not all(isinstance(v, int | float) or (optional and v is None) for v in values):
            raise ValueError(f"{place} is damaged: {name} must be a number, got {value!r}")
    return record
