"""Branch a decay of the learning rate from a training that goes on."""

from __future__ import annotations

import os
from dataclasses import replace

from mimachine.experiment.settings import to_json
from mimachine.training.run import Run
from mimachine.training.schedules import WarmupStableDecay
from mimachine.workflow.find_data import relative_paths
from mimachine.workflow.stored_settings import stored_settings

__all__ = ["branch"]


def branch(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Run:
    """Copy a run that is trained at a stable rate to a new one, whose decay begins now.

    The copy begins at the last checkpoint; `resume` trains and measures it. The run itself may be
    trained by another process at the same time, and can go on as if nothing had happened.

    Args:
        path: A run with the schedule `WarmupStableDecay` that is not finished.
        out: Directory of the copy, which must not exist or be empty.

    Raises:
        FileExistsError: If `out` is taken.
        ValueError: If the run has another schedule, is finished, or decays already.
    """
    run = Run(path)
    settings = stored_settings(run)
    schedule = settings.training.schedule
    if not isinstance(schedule, WarmupStableDecay):
        raise ValueError(
            "a decay can be branched from runs with training.schedule warmup-stable-decay only, "
            f"and {run.path} has {'none' if schedule is None else schedule.kind}"
        )
    snapshot = run.snapshot()
    epoch, last = len(snapshot.epochs), settings.training.epochs - schedule.decay
    if epoch > last:
        raise ValueError(
            f"{run.path} decays already, since epoch {last + 1}: resume it for its own end"
        )
    training = replace(settings.training, epochs=epoch + schedule.decay)
    record = run.data_record()
    if record is not None:
        record = {**record, "relative": relative_paths(settings.data, out)}
    with Run.claimed(out) as create:
        snapshot.write(out)
        return create(to_json(replace(settings, training=training)), record)
