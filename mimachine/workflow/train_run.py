"""Train and evaluate a model from settings, in a run directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from mimachine._support.messages import quoted
from mimachine.data.dataset import Dataset
from mimachine.data.files.load import data_record
from mimachine.data.files.options import check_there
from mimachine.data.sources import Source
from mimachine.evaluation.metric import Report
from mimachine.experiment.presets import default
from mimachine.experiment.settings import Data, Experiment, to_json
from mimachine.model.loss import Loss
from mimachine.training.fit import History, fit
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained
from mimachine.workflow.measure_run import measure
from mimachine.workflow.prepare_run import cautions, prepare_training, with_absolute_paths
from mimachine.workflow.stored_settings import stored_settings

__all__ = ["resume", "train"]


def train(
    settings: Experiment | str,
    out: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
) -> tuple[Trained, History, Report]:
    """Train a model, evaluate it, and store everything in a run directory.

    Args:
        settings: Settings of the experiment, or the name of a data set or a path, for the default
            settings of that data.
        out: The run directory; it must not exist or be empty.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Function that receives progress messages.
        checkpoint_seconds: Minimum time in seconds between two checkpoints.

    Raises:
        ValueError: If the settings are not valid; nothing is written.
        FileNotFoundError: If the data do not exist; nothing is written.
        FileExistsError: If `out` exists and is not an empty directory.
    """
    if isinstance(settings, str):
        settings = default(settings)
    if not isinstance(settings, Experiment) or not isinstance(settings.data, Data):
        raise TypeError(
            "settings must be an Experiment, whose data is a Data, or the name of a data set or a "
            f"path; got {settings!r}"
        )
    with Run.claimed(out) as create:
        if settings.data.is_path:
            check_there(settings.data.name)
            settings = replace(settings, data=with_absolute_paths(settings.data))
        prepared = prepare_training(settings)
        data = prepared[0]
        for note in (*data.notes, *cautions(settings, data)):
            say(note)
        record = None if data.preprocessing is None else data_record(data)
        run = create(to_json(settings), record)
        say(f"training {settings.objective} on {data.name}, run directory {run.path}")
        return _fit_and_measure(run, settings, prepared, progress, checkpoint_seconds)


def resume(
    path: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
) -> tuple[Trained, History, Report]:
    """Resume an interrupted run; on a CPU the results are the same as without the interruption.

    Args:
        path: The run directory.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Function that receives progress messages.
        checkpoint_seconds: Minimum time in seconds between two checkpoints.

    Raises:
        FileNotFoundError: If the run does not exist.
        ValueError: If the run is finished, or a file of the run is damaged.
        BlockingIOError: If another process is training the run.
    """
    run = Run(path)
    settings = stored_settings(run)
    # Locked before the check: another process may be about to finish the run.
    with run.locked():
        if run.finished or run.refit_record() is not None:
            raise ValueError(
                f"{run.path} is finished; evaluate it with: mimachine evaluate {quoted(run.path)}"
            )
        prepared = prepare_training(settings, run)
        say(f"resuming {settings.objective} on {prepared[0].name}, run directory {run.path}")
        return _fit_and_measure(run, settings, prepared, progress, checkpoint_seconds)


def _fit_and_measure(
    run: Run,
    settings: Experiment,
    prepared: tuple[Dataset, Loss, Source, Source],
    progress: bool | None,
    checkpoint_seconds: float,
) -> tuple[Trained, History, Report]:
    """Train a run that is locked, and measure it."""
    data, loss, train_source, val_source = prepared
    history = fit(
        loss,
        train_source,
        val_source,
        settings.training,
        run=run,
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
    )
    trained = Trained(run, settings, data, loss.model.cpu())
    report = measure(trained, settings.num_samples)
    run.finish()
    return trained, history, report
