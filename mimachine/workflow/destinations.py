"""Where commands write results of a run, decided and checked before the run is loaded.

This module does not import torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimachine._support.outputs import RECORD, Outputs
from mimachine._support.reading import read_bytes
from mimachine.data.catalogue import IMAGES, NAMES
from mimachine.data.files.image_folder import would_change
from mimachine.experiment.settings import Data, Experiment, from_json
from mimachine.training.run import Run
from mimachine.workflow.export_results import ARRAYS, result_file
from mimachine.workflow.find_data import candidates
from mimachine.workflow.tables.stored_frame import FRAME

__all__ = ["Destination", "destination", "is_of_table", "outputs_of"]

# Results that commands write into a run by default. Version 0.1 kept no record of them.
_RESULTS = (
    "codes.npz",
    "reconstructions.npz",
    "reconstructions.png",
    "samples.npz",
    "samples.png",
)
_RUN_FILES = (
    "experiment.json",
    "data.json",
    "metrics.jsonl",
    "model.safetensors",
    "fitted_prior.safetensors",
    "table_proposal.safetensors",
    "state.ckpt",
    "report.json",
    "refit.json",
    FRAME,
    RECORD,
)


@dataclass(frozen=True)
class Destination:
    """Where a command writes its results.

    Attributes:
        file: The .npz or .csv file.
        picture: The picture beside it.
        outputs: Rules for writing both.
    """

    file: Path
    picture: Path
    outputs: Outputs


def destination(
    run: Path,
    name: str,
    out: str | os.PathLike[str] | None = None,
    *,
    data: str | None = None,
    moved: str | None = None,
    pictured: bool = False,
    force: bool = False,
    suffixes: tuple[str, str] = ARRAYS,
) -> Destination:
    """Decide where a command writes results of a run, and check that it may.

    Args:
        run: Run directory.
        name: Name of the file in the run if there is no `out`.
        out: File that the user named.
        data: Data that the command reads instead of those of the run.
        moved: Where the data of the run are now, if the user says so.
        pictured: Whether results on images get a picture.
        force: Whether a file that mimachine did not write may be overwritten.
        suffixes: Suffixes of the formats of the file.

    Raises:
        FileNotFoundError: If the run does not exist.
        ValueError: If a file has an unknown suffix or would destroy a file of the user.
        OSError: If a file cannot be written.
    """
    settings = _settings(run)
    file = run / name if out is None else result_file("out", out, suffixes)
    found = Destination(
        file,
        file.with_suffix(".png"),
        outputs_of(run, settings, data=data, moved=moved, force=force),
    )
    found.outputs.check(file)
    if pictured and _are_images(run, settings):
        found.outputs.check(found.picture)
    return found


def outputs_of(
    run: Path,
    settings: Experiment | None = None,
    *,
    data: str | None = None,
    moved: str | None = None,
    force: bool = False,
) -> Outputs:
    """Rules for writing results of a run: never over its files, its data or its labels.

    Args:
        run: Run directory.
        settings: Its settings, if they are known.
        data: Data that are read too.
        moved: Where the data of the run are now, if the user says so.
        force: Whether other files that mimachine did not write may be overwritten.
    """
    settings = settings or _settings(run)
    read = [(data, "the data")]
    for place in _places(run, settings, moved):
        read.append((place.name, "the data"))
        if os.path.isabs(os.path.expanduser(labels := place.file.labels or "")):
            # Others are columns.
            read.append((labels, "the labels"))
    inputs = [
        (os.path.expanduser(path), what)
        for path, what in read
        if path is not None and path not in NAMES
    ]
    inputs += [(str(run / name), f"{name} of the run") for name in _RUN_FILES]

    def is_result(file: Path) -> bool:
        in_run = os.path.realpath(file.parent) == os.path.realpath(run)
        return file.name in _RESULTS and in_run and _is_old(run)

    return Outputs(run, is_result, lambda file: _input_at(file, inputs), force)


def _is_old(run: Path) -> bool:
    """Whether a run is of version 0.1, whose epochs have no digests."""
    try:
        return b'"digest"' not in read_bytes(run / "metrics.jsonl")
    except (OSError, ValueError):
        return False


def _input_at(file: Path, inputs: Sequence[tuple[str, str]]) -> str | None:
    for path, what in inputs:
        if os.path.isdir(path):
            if would_change(path, file):
                return f"an image of {path}"
        elif os.path.exists(path) and os.path.exists(file) and os.path.samefile(path, file):
            return what
    return None


def _places(run: Path, settings: Experiment, moved: str | None) -> list[Data]:
    """Places where the data of a run are or may be."""
    if not settings.data.is_path:
        return []
    there = candidates(Run(run), settings)
    return [settings.data, *there, *(candidates(Run(run), settings, moved) if moved else ())]


def _settings(run: Path) -> Experiment:
    # The weights are not looked at yet, as `stored_settings` does.
    return from_json(Run(run).read_json("experiment.json"), run / "experiment.json")


def is_of_table(run: Path) -> bool:
    """Whether a run is of a table whose columns have kinds."""
    record = Run(run).data_record()
    return record is not None and record.get("schema") is not None


def _are_images(run: Path, settings: Experiment) -> bool:
    record = Run(run).data_record()
    if record is None:
        return settings.data.name in IMAGES
    learned = record["preprocessing"]
    return learned is not None and learned.get("image_shape") is not None
