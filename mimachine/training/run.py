"""Run directory: the files that training writes and later commands read.

=========================  ======================================================================
experiment.json            settings, written before training starts
data.json                  schema or preprocessing, and fingerprint, of the user's data
table.parquet              the data frame that a run was trained on
metrics.jsonl              one line per epoch
model.safetensors          weights of the best epoch so far
fitted_prior.safetensors   a prior fitted to the codes after training, see `Trained`
table_proposal.safetensors for imputation, written when it is first needed
state.ckpt                 state to resume from after an interruption; written before the first
                           epoch and removed once the run is finished
report.json                measured numbers, see `mimachine.evaluation`
refit.json                 for a run whose prior was fitted after training: the original run,
                           and how
unfinished.json            what the command was asked for, until it is through, see `claims`
written.jsonl              results that commands wrote, see `mimachine._support.outputs`
=========================  ======================================================================

All files except metrics.jsonl are written atomically, and an incomplete last line of metrics.jsonl
is ignored, so a run can be killed at any moment and then read or resumed.

All files are checked when they are read, since anybody may have edited or damaged them: names,
types and limits of the entries of JSON files; names, shapes, types and finiteness of tensors. A
digest of the content, in all files except experiment.json, detects values that are possible but
were changed. Files of version 0.1 have no digest and are accepted without.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mimachine._support import checks
from mimachine._support.digest import check_digest, sealed, without_digest
from mimachine._support.files import directory_lock, replacing, write_json
from mimachine._support.messages import quoted
from mimachine._support.reading import parse_json, read_bytes
from mimachine._support.schema import validated
from mimachine.training import claims
from mimachine.training.records import (
    DataRecord,
    Epoch,
    RefitRecord,
    epoch_line,
    epochs_of,
    may_be_cut_off,
)
from mimachine.training.weights import load_weights, save_weights, weight_shapes

if TYPE_CHECKING:
    from torch import nn

    from mimachine.model.priors import FullGaussianMixture
    from mimachine.training.state import State

__all__ = ["Run", "Snapshot"]

_WEIGHTS, _STATE, _METRICS = "model.safetensors", "state.ckpt", "metrics.jsonl"
_PRIOR = "fitted_prior.safetensors"
# People may edit the settings, such as the path of the data.
_WITHOUT_DIGEST = ("experiment.json",)

# Writes the settings and the record of the data, if there is one, of a new run.
Create = Callable[..., "Run"]


class Snapshot(NamedTuple):
    """State of a training between two epochs, and the records of the epochs before."""

    state: bytes
    epochs: list[Epoch]

    def write(self, directory: str | os.PathLike[str]) -> None:
        """Write it to the directory of a run."""
        with replacing(Path(directory) / _STATE) as temporary:
            temporary.write_bytes(self.state)
        with replacing(Path(directory) / _METRICS) as temporary:
            temporary.write_text("".join(map(epoch_line, self.epochs)))


class Run:
    """A directory that holds one training run.

    Args:
        path: The directory, which must exist; `create` makes a new one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(checks.path("path", path))
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
            request: What the run is made for; None if no later command may continue it.

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
            ValueError: If the file is damaged, or was changed after it was written.
        """
        return self._record("data.json", DataRecord)

    def refit_record(self) -> dict[str, Any] | None:
        """Read refit.json, how the prior was fitted after training; None if there was no refit.

        Raises:
            ValueError: If the file is damaged, or was changed after it was written.
        """
        return self._record("refit.json", RefitRecord)

    def _record(self, name: str, kind: type[Any]) -> dict[str, Any] | None:
        """Read a file that some runs have, and check its entries."""
        if not os.path.lexists(self.path / name):
            return None
        record: dict[str, Any] = self.read_json(name, kind)
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
        """Write a JSON file of the run atomically, with a digest unless it is the settings."""
        has_digest = name not in _WITHOUT_DIGEST and isinstance(value, dict)
        write_json(self.path / name, sealed(value) if has_digest else value)

    def read_json(self, name: str, kind: type[Any] | None = None, fault: str = "is damaged") -> Any:
        """Read a JSON file of the run, without its digest.

        Args:
            name: Name of the file.
            kind: Dataclass that says what its entries must be; None to check none.
            fault: What to say of a file whose entries are not those.

        Raises:
            FileNotFoundError: If the run has no such file.
            ValueError: If it is not a regular file, not JSON or not of that kind, or was changed
                after it was written.
        """
        file = self.path / name
        if not os.path.lexists(file):
            if (self.path / "comparison.json").is_file():
                runs = sorted(map(quoted, (p.parent for p in self.path.glob("*/experiment.json"))))
                raise FileNotFoundError(
                    f"{self.path} is a comparison and has no {name}; its runs are {', '.join(runs)}"
                )
            raise FileNotFoundError(f"{self.path} is not a complete run: it has no {name}")
        value = parse_json(read_bytes(file), str(file))
        content = value if name in _WITHOUT_DIGEST else without_digest(value)
        # Before the digest, since these messages say more.
        if kind is not None:
            validated(kind, content, f"{file} {fault}")
        if name not in _WITHOUT_DIGEST:
            check_digest(value, str(file))
        return content

    def append_metrics(self, epoch: Epoch) -> None:
        """Add a line to metrics.jsonl, in one write."""
        with (self.path / _METRICS).open("a") as file:
            file.write(epoch_line(epoch))

    def metrics(self) -> list[dict[str, Any]]:
        """Read all complete lines of metrics.jsonl, oldest first; empty without the file.

        Raises:
            ValueError: If a line is not the record of its epoch, or was changed after it was
                written.
        """
        return [dataclasses.asdict(epoch) for epoch in self._epochs()]

    def _epochs(self) -> list[Epoch]:
        file = self.path / _METRICS
        if not os.path.lexists(file):
            return []
        # Bytes that are not UTF-8 make a line that is not JSON, which is reported.
        *lines, rest = read_bytes(file).decode("utf-8", errors="replace").split("\n")
        if not may_be_cut_off(rest) or (rest and self.finished):
            raise ValueError(f"line {len(lines) + 1} of {file} is damaged: it is incomplete")
        return epochs_of(lines, str(file))

    def save_weights(self, model: nn.Module) -> None:
        """Write the weights, see `weights.save_weights`."""
        save_weights(self.path / _WEIGHTS, model)

    def load_weights(self, model: nn.Module) -> None:
        """Load the weights into a model of the same architecture.

        Raises:
            FileNotFoundError: If the run has no weights.
            ValueError: If the weights are damaged, were changed, are not finite, or belong to
                another architecture.
        """
        if not os.path.lexists(self.path / _WEIGHTS):
            raise FileNotFoundError(f"{self.path} has no weights yet: it has not been trained")
        load_weights(self.path / _WEIGHTS, model)

    @property
    def has_fitted_prior(self) -> bool:
        """Whether a prior fitted to the codes is stored."""
        return os.path.lexists(self.path / _PRIOR)

    def save_fitted_prior(self, prior: nn.Module) -> None:
        """Write the weights of a prior fitted to the codes, a `FullGaussianMixture`."""
        save_weights(self.path / _PRIOR, prior)

    def load_fitted_prior(self) -> FullGaussianMixture:
        """The prior that `save_fitted_prior` stored.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If its file is damaged or was changed.
        """
        from mimachine.model.priors import FullGaussianMixture

        file = self.path / _PRIOR
        shapes = weight_shapes(file)
        shape = shapes.get("loc", [])
        # The largest tensor too, before memory is taken for it.
        if len(shape) != 2 or not all(shape) or shapes.get("below_diagonal") != [*shape, shape[1]]:
            raise ValueError(f"{file} does not hold a mixture of normals")
        prior = FullGaussianMixture(shape[1], shape[0])
        load_weights(file, prior)
        return prior

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
        from mimachine.training.saved_state import Damaged

        try:
            saved = self._saved_state()
            records = self._epochs()[: 0 if saved is None else saved["epoch"]]
            if saved is not None:
                self._restore(state, saved, records)
        except Damaged as error:
            raise ValueError(f"{self._state_file} is damaged: {error}") from error
        if not rewrite:
            return
        text = "".join(map(epoch_line, records))
        with replacing(self.path / _METRICS) as temporary:
            temporary.write_text(text)

    def snapshot(self) -> Snapshot:
        """The last state with the records until then, while another process may train the run.

        Raises:
            ValueError: If the run has no state, because it is finished, or the state is damaged.
        """
        from mimachine.training.saved_state import Damaged, read_state

        if not os.path.lexists(self._state_file):
            raise ValueError(f"{self.path} has no state to begin from: it is finished")
        try:
            content = read_bytes(self._state_file)
            epoch = read_state(io.BytesIO(content))["epoch"]
        except Damaged as error:
            raise ValueError(f"{self._state_file} is damaged: {error}") from error
        return Snapshot(content, self._epochs()[:epoch])

    def finish(self) -> None:
        """Remove the state of a run that has ended."""
        self._state_file.unlink(missing_ok=True)

    @property
    def _state_file(self) -> Path:
        return self.path / _STATE

    def _restore(self, state: State, saved: dict[str, Any], records: list[Epoch]) -> None:
        from mimachine.training.saved_state import Damaged

        try:
            state.restore(saved, records)
        except Damaged:
            raise
        except ValueError as error:
            raise ValueError(f"{self._state_file} cannot be used: {error}") from error

    def _saved_state(self) -> dict[str, Any] | None:
        from mimachine.training.saved_state import read_state

        if not os.path.lexists(self._state_file):
            return None
        return read_state(self._state_file)
