"""From settings to a trained, measured run: what the commands do, for use in Python too."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from mimachine.data.dataset import Dataset
from mimachine.data.files.load import data_record
from mimachine.data.files.options import check_there
from mimachine.data.sources import Source
from mimachine.evaluation.metric import Report
from mimachine.experiment.settings import Experiment, from_json, to_json
from mimachine.model.loss import Loss
from mimachine.training.fit import History, fit
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained
from mimachine.workflow.measure_run import measure
from mimachine.workflow.prepare_run import cautions, prepare_training, with_absolute_paths

__all__ = [
    "resume",
    "train",
]


def train(
    settings: Experiment,
    out: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
) -> tuple[Trained, History, Report]:
    """Train and measure, with everything recorded in a run directory.

    Args:
        settings: What to do.
        out: The run directory; it must not exist, or be empty.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Told where the run is, once it has begun.
        checkpoint_seconds: Least time between two writes of the state.

    Raises:
        ValueError: If the settings make no sense; nothing is written then.
        FileExistsError: If there is something at `out`.
    """
    if settings.data.is_path:
        check_there(settings.data.name)
        settings = replace(settings, data=with_absolute_paths(settings.data))
    prepared = prepare_training(settings)
    data = prepared[0]
    for note in (*data.notes, *cautions(settings, data)):
        say(note)
    record = None if data.preprocessing is None else data_record(data)
    run = Run.create(out, to_json(settings), record)
    say(f"training {settings.objective} on {data.name}, run directory {run.path}")
    return _carry_out(run, settings, prepared, progress, checkpoint_seconds)


def resume(
    path: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
) -> tuple[Trained, History, Report]:
    """Go on with an interrupted run; on a processor it ends as if it had not been interrupted.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run is finished, or a file of it is damaged.
        BlockingIOError: If another process is training it.
    """
    run = Run(path)
    settings = from_json(run.read_json("experiment.json"))
    if run.finished or run.refit_record() is not None:
        raise ValueError(f"{run.path} is finished; see it with: mimachine evaluate {run.path}")
    prepared = prepare_training(settings, run)
    say(f"going on with {settings.objective} on {prepared[0].name}, run directory {run.path}")
    return _carry_out(run, settings, prepared, progress, checkpoint_seconds)


def _carry_out(
    run: Run,
    settings: Experiment,
    prepared: tuple[Dataset, Loss, Source, Source],
    progress: bool | None,
    checkpoint_seconds: float,
) -> tuple[Trained, History, Report]:
    data, loss, train_source, val_source = prepared
    with run.locked():
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
