"""Claims on directories: one process works in a directory, and the same command goes on in it.

A command that fills a directory writes to unfinished.json what it was asked for before anything
else, and removes that file once everything is there. So a directory with the file is unfinished,
and the same request may go on in it; any other directory with files in it is taken.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimachine._support.files import PARTIAL, directory_lock, write_json
from mimachine._support.messages import command_line, some
from mimachine._support.reading import read_bytes

__all__ = ["UNFINISHED", "check", "claimed", "command_of", "ended", "request_in"]

UNFINISHED = "unfinished.json"
# What a command was asked for: its name as "command", and its settings. JSON values. "known_by" may
# say for the dotted name of a path what is the same wherever that is, such as the path from the
# directory: where this agrees, the path itself may differ.
Request = Mapping[str, Any]
# What the commands make.
_MADE = {"train": "run", "compare": "comparison", "refit": "refit"}
_REFIT_OPTIONS = ("kind", "components", "seed", "num_samples")
_FINISHED = {"comparison": {"comparison.json"}, "run": {"experiment.json", "report.json"}}


@contextmanager
def claimed(directory: Path, request: Request | None = None) -> Iterator[None]:
    """Claim a directory and lock it until the end.

    Of several processes that claim a directory at once, one gets it. If nothing was made in it, an
    error leaves no unfinished.json, and a directory that was made here is removed.

    Args:
        directory: It must not exist or be empty, or hold an unfinished request that is the same.
        request: What the directory is claimed for. None if no later command may continue it.

    Raises:
        FileExistsError: If the directory is taken, or another process has claimed it.
    """
    check(directory, request)
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with directory_lock(directory):
            # Another process may have used the directory before it was locked.
            check(directory, request)
            try:
                with _marked(directory, request):
                    yield
            finally:
                if made and directory.is_dir() and _is_empty(directory):
                    shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError as error:
        raise FileExistsError(f"{error}; choose another directory") from error


@contextmanager
def _marked(directory: Path, request: Request | None) -> Iterator[None]:
    """Keep the request in the directory until the block is through."""
    if request is None:
        yield
        return
    write_json(directory / UNFINISHED, request)
    try:
        yield
    except BaseException:
        if _is_empty(directory, {UNFINISHED}):
            ended(directory)
        raise
    ended(directory)


def ended(directory: Path) -> None:
    """Take a directory for finished: remove unfinished.json."""
    (directory / UNFINISHED).unlink(missing_ok=True)


def check(directory: Path, request: Request | None = None) -> None:
    """Check that a directory can be claimed.

    Raises:
        FileExistsError: If it is taken; the message says by what and names what differs.
    """
    if not directory.exists() or (directory.is_dir() and _is_empty(directory)):
        return
    stored = request_in(directory)
    if stored is None:
        raise FileExistsError(f"{directory} already exists{_taken(directory)}")
    made = _MADE[stored["command"]]
    if request is None or stored["command"] != request["command"]:
        raise FileExistsError(
            f"{directory} holds an unfinished {made}; choose another directory or remove it"
        )
    differences = list(_differing(stored, json.loads(json.dumps(request))))
    if differences:
        raise FileExistsError(
            f"{directory} holds an unfinished {made} with other settings, "
            f"{some(differences, 3)}; choose another directory, or go on with it: "
            f"{command_of(stored, directory)}"
        )


def request_in(directory: Path, command: str | None = None) -> dict[str, Any] | None:
    """The unfinished request of a directory; None if there is none.

    Args:
        directory: The directory.
        command: The command of the request, which is then left out; None for any.

    Raises:
        ValueError: If the request is for another command.
    """
    try:
        value = json.loads(read_bytes(directory / UNFINISHED))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not _is_request(value):
        return None
    if command is None:
        return value
    if (other := value["command"]) != command:
        raise ValueError(
            f"{directory} holds an unfinished {_MADE[other]}; go on with: "
            f"{command_of(value, directory)}"
        )
    del value["command"]
    return value


def _is_request(value: dict[str, Any]) -> bool:
    """Whether a JSON value is what a command writes; anybody may have edited the file."""
    if not isinstance(value.get("command"), str) or value["command"] not in _MADE:
        return False
    if not isinstance(value.get("known_by", {}), dict):
        return False
    if value["command"] != "compare":
        return True
    names, experiments = value.get("objectives"), value.get("experiments")
    return (
        isinstance(names, list)
        and bool(names)
        and isinstance(experiments, dict)
        # A path would lead out of the directory.
        and all(isinstance(n, str) and n in experiments and Path(n).name == n for n in names)
        and ".." not in names
    )


def _taken(directory: Path) -> str:
    """What a directory without an unfinished request holds, and what to do."""
    if (directory / "state.ckpt").is_file():
        go_on = command_of({"command": "train"}, directory)
        return f" with an unfinished run; choose another directory, or go on with it: {go_on}"
    names = {file.name for file in directory.iterdir()} if directory.is_dir() else set()
    for what, files in _FINISHED.items():
        if names >= files:
            return f" with a finished {what}; choose another directory or remove it"
    return "; choose another directory or remove it"


def command_of(request: Request, directory: Path) -> str:
    """The command line that goes on with an unfinished request in a directory."""
    command = request["command"]
    if command != "refit":
        return command_line(["mimachine", command, "--resume", str(directory)])
    # It has no --resume: the same command goes on.
    words = ["mimachine", command, str(request.get("run", "RUN"))]
    for name in _REFIT_OPTIONS:
        if (value := request.get(name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return command_line([*words, "--out", str(directory)])


def _is_empty(directory: Path, others: Iterable[str] = ()) -> bool:
    """Whether a directory has only certain files and leftovers of a process killed at the start."""
    return all(file.name in others or _is_leftover(file.name) for file in directory.iterdir())


def _is_leftover(name: str) -> bool:
    starts = tuple(f".{each}." for each in ("data.json", "experiment.json", UNFINISHED))
    return name.startswith(starts) and name.endswith(PARTIAL)


_ABSENT = object()


def _differing(stored: dict[str, Any], given: dict[str, Any]) -> Iterator[str]:
    """What differs between two requests, apart from paths of what is the same."""
    there, here = stored.pop("known_by", {}), given.pop("known_by", {})
    alike = {name for name, identity in here.items() if there.get(name, _ABSENT) == identity}
    yield from _differences(stored, given, alike)


def _differences(stored: Any, given: Any, alike: set[str], name: str = "") -> Iterator[str]:
    """Names of settings that differ and are not alike, with the stored and the given value."""
    if stored == given or name in alike:
        return
    if not (isinstance(stored, dict) and isinstance(given, dict)):
        shown = name.removeprefix("experiments.")
        yield f"{shown} ({_shown(stored)} there, {_shown(given)} here)"
        return
    for key in dict.fromkeys((*stored, *given)):
        pair = stored.get(key, _ABSENT), given.get(key, _ABSENT)
        yield from _differences(*pair, alike, f"{name}.{key}" if name else key)


def _shown(value: Any) -> str:
    if value is _ABSENT or isinstance(value, dict):
        return "absent" if value is _ABSENT else "present"
    return json.dumps(value, ensure_ascii=False)
