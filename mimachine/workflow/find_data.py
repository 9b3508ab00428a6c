"""Find the file or folder that a run was trained on, also after they moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mimachine._support.messages import Option, OptionError
from mimachine.data.files.options import DataChangedError, check_there, is_columns
from mimachine.experiment.settings import Data, Experiment
from mimachine.training.run import Run
from mimachine.workflow.stored_settings import stored_settings

__all__ = [
    "MissingDataError",
    "candidates",
    "found_again",
    "known_by",
    "relative_paths",
    "with_absolute_paths",
    "with_data",
]

Result = TypeVar("Result")


class MissingDataError(OptionError, FileNotFoundError):
    """The data of a run or a comparison are not where they were."""

    def __init__(self, directory: Path, name: str) -> None:
        self.place = name
        super().__init__(
            f"no file or folder {name}, the data of {directory}; if it moved, say where with ",
            Option("data", "PATH"),
        )


def with_absolute_paths(data: Data) -> Data:
    """Make paths absolute, since later commands may run in another directory; names are unchanged.

    Symbolic links are not resolved, since their targets may have another suffix.
    """
    if not data.is_path:
        return data
    file, labels = data.file, data.file.labels
    if labels is not None and os.path.isfile(os.path.expanduser(labels)):
        file = replace(file, labels=os.path.abspath(os.path.expanduser(labels)))
    columns = tuple(map(_absolute, file.columns))
    if columns != file.columns:
        file = replace(file, columns=columns)
    return replace(data, name=os.path.abspath(os.path.expanduser(data.name)), file=file)


def _absolute(entry: str) -> str:
    """An entry of `File.columns` with an absolute path, if it is the path of a file."""
    path = os.path.expanduser(entry)
    return os.path.abspath(path) if is_columns(entry) and os.path.isfile(path) else entry


def relative_paths(data: Data, run: str | os.PathLike[str]) -> dict[str, str]:
    """Paths of the data and of a file of labels relative to a run, for data.json."""
    paths = {"data": data.name, "labels": data.file.labels}
    return {
        name: os.path.relpath(path, os.path.abspath(run))
        for name, path in paths.items()
        if path is not None and os.path.isabs(path)
    }


def known_by(data: Data, directory: str | os.PathLike[str], prefix: str = "") -> dict[str, str]:
    """Paths of data relative to a directory by their names in a request, see `claims`.

    Args:
        data: The data.
        directory: The directory that is claimed.
        prefix: Begins the names.
    """
    names = {"data": "data.name", "labels": "data.file.labels"}
    return {f"{prefix}{names[n]}": path for n, path in relative_paths(data, directory).items()}


def found_again(
    data: Data,
    directory: Path,
    known: Mapping[str, Any],
    given: str | None = None,
    prefix: str = "",
) -> Data:
    """Data of a request of which no run was made yet, also after they moved.

    Args:
        data: The data, as requested.
        directory: The directory with the request.
        known: Result of `known_by` for the request.
        given: The place that the user named, if any.
        prefix: As for `known_by`.

    Raises:
        FileNotFoundError: If nothing exists at the place that the user named, or the data are not
            found.
        ValueError: If a place is given for a named data set.
    """
    if not data.is_path:
        _refuse_place(directory, data, given)
        return data
    names = known_by(data, directory)
    here = {
        name: os.path.normpath(os.path.join(os.path.abspath(directory), path))
        for name in names
        if isinstance(path := known.get(f"{prefix}{name}"), str)
    }
    if given is not None:
        check_there(given)
        data = with_absolute_paths(replace(data, name=given))
    elif not os.path.exists(data.name):
        data = replace(data, name=here.get("data.name", data.name))
        if not os.path.exists(data.name):
            raise MissingDataError(directory, data.name)
    return _with_labels(data, here.get("data.file.labels"))


def _refuse_place(directory: Path, data: Data, given: str | None) -> None:
    if given is not None:
        raise OptionError(
            Option("data", given),
            f" is for runs on a file or folder; {directory} was trained on {data.name}",
        )


def candidates(run: Run, settings: Experiment, given: str | None = None) -> list[Data]:
    """Places where the data of a run may be now, the most likely one first.

    Args:
        run: The run.
        settings: Its settings, whose data are a file or folder.
        given: The place that the user named, which is then the only one.

    Raises:
        FileNotFoundError: If nothing exists at the place that the user named.
    """
    stored, record = settings.data, run.data_record()
    moved: dict[str, Any] = {} if record is None else record.get("relative", {})
    here = {name: os.path.normpath(run.path.absolute() / path) for name, path in moved.items()}
    if given is not None:
        check_there(given)
        return [_with_labels(with_absolute_paths(replace(stored, name=given)), here.get("labels"))]
    places = [stored, *([replace(stored, name=here["data"])] if "data" in here else [])]
    there = [place for place in places if os.path.exists(place.name)]
    return [_with_labels(place, here.get("labels")) for place in there]


def _with_labels(data: Data, relative: str | None) -> Data:
    """Data whose file of labels, if it is no longer there, is searched for where it may be."""
    labels = data.file.labels
    if labels is None or not os.path.isabs(labels) or os.path.exists(labels):
        return data
    beside = Path(data.name).parent / Path(labels).name
    for place in (relative, str(beside)):
        if place is not None and os.path.isfile(place):
            return replace(data, file=replace(data.file, labels=place))
    return data


def with_data(
    run: Run, given: str | None, use: Callable[[Experiment], Result]
) -> tuple[Experiment, Result]:
    """Call a function with the settings of a run and the place where its data are now.

    If there are several places, the first one whose content is that of the training data is used.

    Args:
        run: The run.
        given: The place that the user named, if any.
        use: Loads the data.

    Returns:
        The settings with the place of the data, and the result of the function.

    Raises:
        FileNotFoundError: If the data are not found.
        ValueError: If they changed, or the run was trained on a named data set and a place is
            given.
    """
    settings = stored_settings(run)
    if not settings.data.is_path:
        _refuse_place(run.path, settings.data, given)
        return settings, use(settings)
    places = candidates(run, settings, given)
    if not places:
        raise MissingDataError(run.path, settings.data.name)
    changed: DataChangedError | None = None
    for place in places:
        found = replace(settings, data=place)
        try:
            return found, use(found)
        except DataChangedError as error:
            changed = changed or error
    assert changed is not None
    raise changed
