"""Files at paths that a user chose: never written over what mimachine did not write.

What it wrote before is known from a record of paths and digests, so that results of any format can
be told from a file that was edited or replaced since.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mimachine._support.files import replacing
from mimachine._support.messages import Option, OptionError
from mimachine._support.reading import read_bytes, require_regular

__all__ = ["RECORD", "Outputs", "check_place", "existing_parent"]

# Name of the record in a run directory, or in a directory of results.
RECORD = "written.jsonl"


@dataclass(frozen=True)
class Outputs:
    """Which files a command may write.

    A file that does not exist may be written, and one that mimachine wrote and that did not change
    since. An input is never overwritten. A file of an earlier version, which kept no record, may
    have been edited: it keeps its content under a name that ends in .old.

    Attributes:
        record: Directory with the record of what was written before; None: nothing is known.
        is_own: Whether a file that is not in the record was written by an earlier version, which
            kept none.
        input_at: What an input of the command is, such as "the data", if writing a file would
            change it; None for other files.
        force: Whether any other file may be overwritten; None: this is not an option.
        say: Called with a message if a file of an earlier version is kept.
    """

    record: Path | None = None
    is_own: Callable[[Path], bool] = lambda file: False
    input_at: Callable[[Path], str | None] = lambda file: None
    force: bool | None = False
    say: Callable[[str], None] = lambda text: None

    def check(self, *files: Path) -> None:
        """Check that files may be written, as far as it can be known before they are.

        Raises:
            ValueError: If a file is an input, or was not written by mimachine.
            OSError: If a file cannot be written at its path.
        """
        for file in files:
            check_place(file)
            what = self.input_at(file)
            if what is not None:
                raise ValueError(
                    f"out must be another file than {what}: {file} would be overwritten"
                )
            if not (self.force or not os.path.lexists(file) or self._is_ours(file)):
                raise self._refusal(file)

    @contextlib.contextmanager
    def replacing(self, file: Path) -> Iterator[Path]:
        """Yield a temporary file that becomes the file once it is complete, if `check` allows it.

        The check is repeated when the file is complete: another process may have written it.
        """
        self.check(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, self._place) as temporary:
            yield temporary

    def _place(self, temporary: Path, file: Path) -> None:
        there = os.path.lexists(file)
        self.check(file)
        digest = _digest(temporary)
        if there and not (self.force or self._digests(file) or _digest(file) == digest):
            self._keep(file)
        # Recorded first: if the process ends in between, the old file is still in the record too.
        self._remember(file, digest)
        if there or self.force:
            temporary.replace(file)
            return
        try:
            _place_new(temporary, file)
        except FileExistsError as error:
            raise self._refusal(file) from error

    def _refusal(self, file: Path) -> ValueError:
        refusal = (
            f"{file} already exists, and mimachine did not write it or it has changed since; "
            "choose another file"
        )
        if self.force is None:
            return ValueError(refusal)
        return OptionError(f"{refusal}, or overwrite it with ", Option("force", True))

    def _keep(self, file: Path) -> None:
        """Give the content of a file another name besides its own."""
        for number in itertools.count(1):
            old = file.with_name(f"{file.name}.old{f'-{number}' if number > 1 else ''}")
            try:
                _place_new(file, old)
            except FileExistsError:
                continue
            self.say(f"kept {file.name} of an earlier version, which may be edited, as {old}")
            return

    def _is_ours(self, file: Path) -> bool:
        digests = self._digests(file)
        if not digests:
            return self.is_own(file)
        return file.is_file() and _digest(file) in digests

    def _digests(self, file: Path) -> list[str]:
        """Digests of what was written to a file; none if there is no record of it."""
        return [digest for name, digest in self._recorded() if name == self._name(file)]

    def _name(self, file: Path) -> str:
        """Name of a file in the record, which stays valid if its directory is moved."""
        place = Path(os.path.realpath(file.parent), file.name)
        home = os.path.realpath(self.record) if self.record is not None else None
        return str(place.relative_to(home) if home and place.is_relative_to(home) else place)

    def _recorded(self) -> list[tuple[str, str]]:
        """Names and digests of what was written; lines that are damaged are skipped."""
        if self.record is None:
            return []
        found = []
        # Not if it is something else than a file, or larger than the memory.
        with contextlib.suppress(OSError, ValueError):
            text = read_bytes(self.record / RECORD).decode("utf-8", errors="replace")
            for line in text.split("\n"):
                with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                    entry = json.loads(line)
                    found.append((entry["file"], entry["blake2b"]))
        return found

    def _remember(self, file: Path, digest: str) -> None:
        """Add a file to the record, if the record's directory is writable."""
        if self.record is None or (self._name(file), digest) in self._recorded():
            return
        line = json.dumps({"file": self._name(file), "blake2b": digest}) + "\n"
        # A result is worth more than its record: that of a shared run may be read-only.
        with contextlib.suppress(OSError, ValueError):
            self.record.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(record := self.record / RECORD):
                require_regular(record)
            with record.open("ab+") as stream:
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    # The last line may be incomplete.
                    line = line if stream.read(1) == b"\n" else "\n" + line
                stream.write(line.encode())


def existing_parent(file: Path) -> Path:
    """The nearest parent of a file that exists, be it a directory or not."""
    parent = file.parent
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    return parent


def check_place(file: Path, name: str = "out") -> None:
    """Check that a path can be written, whether its parents exist or not.

    Args:
        file: The path.
        name: What the user knows it as, for the message.

    Raises:
        ValueError: If it is something else than a regular file.
        OSError: If it is a directory, or cannot be written there.
    """
    if os.path.isdir(file):
        raise IsADirectoryError(f"{name} must be a file, got the directory {file}")
    if os.path.exists(file) and not os.path.isfile(file):
        raise ValueError(f"{name} must be a regular file, got {file}")
    parent = existing_parent(file)
    if not os.path.isdir(parent):
        raise NotADirectoryError(f"{file} cannot be written: {parent} is not a directory")
    try:
        # Permissions alone do not tell, for example for root or on a network.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise type(error)(
            f"{file} cannot be written: the directory {parent} is not writable: {error.strerror}"
        ) from error
    for part in file.relative_to(parent).parts:
        # Raises an error for a name that is too long.
        with contextlib.suppress(FileNotFoundError):
            os.lstat(parent / part)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _place_new(there: Path, file: Path) -> None:
    """Give a file a name, unless the name is taken by now; its own name is no longer needed.

    Raises:
        FileExistsError: If a file of that name exists.
    """
    try:
        os.link(there, file)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        # A file system without hard links: claim the name with an empty file.
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        there.replace(file)
