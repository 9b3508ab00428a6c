"""Train and evaluate a model from settings, in a run directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mimachine._support import checks
from mimachine._support.files import replacing
from mimachine._support.messages import quoted
from mimachine.data.dataset import Dataset
from mimachine.data.files.load import data_record
from mimachine.data.files.options import File, check_there
from mimachine.data.sources import Source
from mimachine.evaluation.metric import Report
from mimachine.experiment.presets import default
from mimachine.experiment.settings import Data, Experiment, from_json, to_json
from mimachine.model.loss import Loss
from mimachine.training import claims
from mimachine.training.fit import History, fit
from mimachine.training.principal_components import fit_in_closed_form
from mimachine.training.records import Epoch
from mimachine.training.run import Create, Run
from mimachine.workflow.find_data import (
    found_again,
    known_by,
    relative_paths,
    with_absolute_paths,
    with_data,
)
from mimachine.workflow.fitted_prior import fit_prior
from mimachine.workflow.load_run import Trained, open_run
from mimachine.workflow.logs import Log, check_log, loggers_of
from mimachine.workflow.measure_run import measure
from mimachine.workflow.prepare_run import cautions, prepare_training
from mimachine.workflow.reports import kept_epoch
from mimachine.workflow.tables.stored_frame import FRAME, is_frame, stored

__all__ = ["resume", "train"]

# Data, loss, and sources of the training and the validation data.
Ready = tuple[Dataset, Loss, Source, Source]
Done = tuple[Trained, History, Report]


class _How(NamedTuple):
    """How training shows what it does and keeps it."""

    progress: bool | None
    say: Callable[[str], None]
    checkpoint_seconds: float
    log: Log


def train(
    settings: Experiment | str | Any,
    out: str | os.PathLike[str],
    *,
    file: File = File(),
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
    log: Log = None,
    then: Callable[[Trained], object] = lambda trained: None,
) -> tuple[Trained, History, Report]:
    """Train a model, evaluate it, and store everything in a run directory.

    After an interruption the same call goes on from the last checkpoint; on a CPU the results are
    the same as without the interruption.

    Args:
        settings: Settings of the experiment; or the name of a data set, a path, or a data frame of
            pandas, polars or arrow, for the default settings of that data. A data frame is stored
            in the run, as table.parquet.
        file: How to read a path or a data frame, such as File(labels="kind").
        out: The run directory; it must not exist, be empty, or hold an unfinished run of the same
            settings.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Function that receives progress messages.
        checkpoint_seconds: Minimum time in seconds between two checkpoints.
        log: "tensorboard" to write the losses and learning rates to the directory tensorboard of
            the run while training; needs tensorboard.
        then: Called with the run before it counts as finished, to write further files.

    Raises:
        ImportError: If tensorboard is not installed and there is to be a log of it.
        ValueError: If the settings are not valid; nothing is written.
        FileNotFoundError: If the data do not exist; nothing is written.
        FileExistsError: If `out` holds a finished run, a run of other settings or other files.
    """
    how = _How(progress, say, checkpoint_seconds, log)
    check_log(log)
    checks.path("out", out)
    checks.function("say", say)
    checks.function("then", then)
    if is_frame(settings):
        with stored(settings) as (place, mark):
            start = default(str(place), file=file)
            inside = os.path.join(os.path.abspath(out), FRAME)
            start = replace(start, data=replace(start.data, name=inside))
            request = {"command": "train", **to_json(start), "frame": mark}
            return _requested(start, out, request, how, then, place)
    if isinstance(settings, str):
        settings = default(settings, file=file)
    elif file != File():
        raise ValueError("file must be left out with settings, which have their own data.file")
    if not isinstance(settings, Experiment) or not isinstance(settings.data, Data):
        raise TypeError(
            "settings must be an Experiment, whose data is a Data, the name of a data set, a path "
            f"or a data frame; got {settings!r}"
        )
    if settings.data.is_path:
        check_there(settings.data.name)
    settings = replace(settings, data=with_absolute_paths(settings.data))
    known = known_by(settings.data, out)
    request = {"command": "train", **to_json(settings), "known_by": known}
    return _requested(settings, out, request, how, then)


def resume(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
    log: Log = None,
    then: Callable[[Trained], object] = lambda trained: None,
) -> tuple[Trained, History, Report]:
    """Resume an interrupted run; on a CPU the results are the same as without the interruption.

    Args:
        path: The run directory.
        data: File or folder of the training data, if it moved.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Function that receives progress messages.
        checkpoint_seconds: Minimum time in seconds between two checkpoints.
        log: As for `train`; a run that has a log goes on with it.
        then: As for `train`.

    Raises:
        FileNotFoundError: If the run or its data do not exist.
        ValueError: If the run is finished, or a file of the run is damaged.
        BlockingIOError: If another process is training the run.
    """
    how = _How(progress, say, checkpoint_seconds, log)
    check_log(log)
    run = Run(path)
    given = None if data is None else checks.path("data", data)
    request = claims.request_in(run.path, "train")
    if request is not None and not (run.path / "experiment.json").exists():
        # Interrupted before there was a run.
        wanted, known = {"command": "train", **request}, request.pop("known_by", {})
        request.pop("frame", None)
        settings = from_json(request, run.path / claims.UNFINISHED)
        settings = replace(settings, data=found_again(settings.data, run.path, known, given))
        return _requested(settings, path, wanted, how, then)
    # Locked before the check: another process may be about to finish the run.
    with run.locked():
        unfinished = claims.request_in(run.path) is not None
        if run.refit_record() is not None or (run.finished and not unfinished):
            raise ValueError(
                f"{run.path} is finished; evaluate it with: mimachine evaluate {quoted(run.path)}"
            )
        done = _gone_on(run, given, how)
        then(done[0])
        claims.ended(run.path)
        return done


def _requested(
    settings: Experiment,
    out: str | os.PathLike[str],
    request: Mapping[str, Any],
    how: _How,
    then: Callable[[Trained], object],
    frame: Path | None = None,
) -> Done:
    """Do what a request asks for, or go on with it, in its directory.

    `frame` is the file of a data frame to store there.
    """
    with Run.claimed(out, request) as create:
        if (Path(out) / "experiment.json").exists():
            done = _gone_on(Run(out), None, how)
        else:
            with _with_frame(frame, Path(out)):
                run, prepared = _begun(settings, out, create, how.say)
            done = _fit_and_measure(run, settings, prepared, how)
        then(done[0])
        return done


@contextmanager
def _with_frame(frame: Path | None, out: Path) -> Iterator[None]:
    """Store the file of a data frame in a directory, if there is one, and remove it on errors.

    A frame that cannot be used then leaves nothing, as a file does.
    """
    place = out / FRAME
    if frame is not None and not place.exists():
        with replacing(place) as temporary:
            temporary.write_bytes(frame.read_bytes())
    try:
        yield
    except BaseException:
        if frame is not None:
            place.unlink(missing_ok=True)
        raise


def _begun(
    settings: Experiment,
    out: str | os.PathLike[str],
    create: Create,
    say: Callable[[str], None],
) -> tuple[Run, Ready]:
    """Create a run in its claimed directory; the run and what is ready for its training."""
    prepared = prepare_training(settings)
    data = prepared[0]
    for note in (*data.notes, *cautions(settings, data)):
        say(note)
    record = None
    if data.schema is not None or data.preprocessing is not None:
        record = {**data_record(data), "relative": relative_paths(settings.data, out)}
    run = create(to_json(settings), record)
    say(f"training {settings.objective} on {data.name}, run directory {run.path}")
    return run, prepared


def _gone_on(
    run: Run,
    moved: str | None,
    how: _How,
) -> Done:
    """Go on with a run that is locked; if it is trained and measured, open it.

    `moved` is the place of its data, if they moved.
    """
    if run.finished:
        how.say(f"{run.path} is trained and measured already")
        return _opened(run, moved)
    settings, prepared = with_data(run, moved, lambda found: prepare_training(found, run))
    how.say(f"resuming {settings.objective} on {prepared[0].name}, run directory {run.path}")
    return _fit_and_measure(run, settings, prepared, how)


def _fit_in_closed_form(run: Run, loss: Loss, data: Dataset) -> History:
    """Fit principal components, recorded as a single epoch."""
    history = fit_in_closed_form(loss, data.train, data.val)
    run.save_weights(loss.model)
    if not run.metrics():
        run.append_metrics(history.epochs[0])
    return history


def _opened(run: Run, moved: str | None) -> Done:
    """A run that is trained and measured."""
    trained, records = open_run(run.path, moved), run.metrics()
    best = kept_epoch(records)
    early = len(records) < trained.experiment.training.epochs
    epochs = [Epoch(**record) for record in records]
    return trained, History(epochs, None if best is None else best["epoch"], early), trained.report


def _fit_and_measure(
    run: Run,
    settings: Experiment,
    prepared: Ready,
    how: _How,
) -> Done:
    """Train a run that is locked, and measure it."""
    data, loss, train_source, val_source = prepared
    if settings.model.architecture == "pca":
        history = _fit_in_closed_form(run, loss, data)
    else:
        history = fit(
            loss,
            train_source,
            val_source,
            settings.training,
            run=run,
            loggers=loggers_of(run, how.log),
            progress=how.progress,
            checkpoint_seconds=how.checkpoint_seconds,
        )
    trained = Trained(run, settings, data, loss.model.cpu())
    fit_prior(trained)
    report = measure(trained, settings.num_samples)
    run.finish()
    return trained, history, report
