"""Read .npy and .npz files."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.memory import check_fits, stays_on_disk
from mimachine._support.messages import Option, OptionError, hint, some
from mimachine.data.files.columns import check_label_file, in_order
from mimachine.data.files.table import Table

__all__ = [
    "Header",
    "check_labels",
    "header",
    "holds_bytes",
    "peek_npy",
    "peek_npz",
    "read_arrays",
    "read_npy",
    "read_npz",
]


# numpy itself refuses longer ones.
_LONGEST_HEADER = 10_000
_VALUES, _LABELS = ("x", "X", "data"), ("y", "labels", "target")
Header = tuple[tuple[int, ...], np.dtype[Any]]


def header(stream: IO[bytes], what: str) -> Header:
    """Shape and type of an array in numpy's format; leaves the stream at the values."""
    try:
        version = np.lib.format.read_magic(stream)
        width = 2 if version == (1, 0) else 4
        length = stream.read(width)
        # Before it is read: a damaged or forged one may claim gigabytes.
        if int.from_bytes(length, "little") > _LONGEST_HEADER:
            raise ValueError("its header is too long")
        text = io.BytesIO(length + stream.read(int.from_bytes(length, "little")))
        read = np.lib.format.read_array_header_2_0
        if version == (1, 0):
            read = np.lib.format.read_array_header_1_0
        shape, _, dtype = read(text)
        if any(isinstance(side, bool) or side < 0 for side in shape):
            raise ValueError(f"its shape is {shape}")
    except (OSError, zipfile.BadZipFile):
        raise
    except Exception as error:
        # The header is a Python expression; a damaged one can raise any exception.
        raise ValueError(f"{what} is not an array saved by numpy.save: {error}") from error
    return shape, dtype


def check_labels(stored: Header, rows: int, what: str, source: str) -> None:
    """Raise a ValueError if labels are neither numbers nor text, or not one for each row."""
    shape, dtype = stored
    if dtype.kind not in "biufU":
        raise ValueError(
            f"{what} must hold numbers or text as labels, got the type {dtype}; save them with "
            ".astype(str)"
        )
    if shape not in ((rows,), (rows, 1)):
        raise ValueError(
            f"{what} must have one label for each of the {rows:,} rows of {source}, got shape "
            f"{shape}"
        )


def _check_array(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> tuple[int, ...]:
    """The shape of an array of values, after checks of shape and type."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(
            f"{what} must hold booleans, integers or floats of up to 64 bits, got the type "
            f"{dtype}; convert it, for example with .astype(numpy.float32)"
        )
    if len(shape) == 1:
        raise ValueError(
            f"{what} must have rows and columns, got one axis, {shape}; for a single column use "
            "reshape(-1, 1)"
        )
    if 0 in shape or not shape:
        raise ValueError(f"{what} must have rows of values, got the shape {shape}")
    return shape


def peek_npy(file: Path) -> tuple[int, ...]:
    """Shape of an array, after a check that the file is complete."""
    with file.open("rb") as stream:
        shape, dtype = header(stream, file.name)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
    _check_array(shape, dtype, file.name)
    if (found := file.stat().st_size) < size:
        raise ValueError(f"{file.name} is truncated: it must have {size:,} bytes, got {found:,}")
    return shape


def holds_bytes(file: Path, labels: str | None, array: str | None) -> bool:
    """Whether the values of a .npy or .npz file are bytes."""
    if file.suffix.lower() == ".npz":
        headers = _headers(file)
        dtype = headers[_pick(headers, file.name, labels, array, False)[0]][1]
    else:
        with file.open("rb") as stream:
            dtype = header(stream, file.name)[1]
    return dtype == np.uint8


def read_npy(file: Path, labels: str | None, columns: Sequence[str] | None) -> Table:
    """Read a .npy file."""
    peek_npy(file)
    notes: tuple[str, ...] = ()
    if labels is not None:
        notes = check_label_file(labels, "column", (), file.name, columns is not None)
    mapped = stays_on_disk(file.stat().st_size)
    values = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    values = values if mapped else _native(values)
    return _expecting(Table(values, None, None, file.name, notes), columns)


def peek_npz(file: Path, labels: str | None, array: str | None) -> tuple[int, ...]:
    """Shape of the array of values of an archive."""
    headers = _headers(file)
    name = _pick(headers, file.name, labels, array, False)[0]
    return _check_array(*headers[name], f"array {name!r} of {file.name}")


def read_npz(
    file: Path, labels: str | None, array: str | None, columns: Sequence[str] | None
) -> Table:
    """Read the arrays of values and of labels of an .npz file."""
    headers = _headers(file)
    name, label, notes = _pick(headers, file.name, labels, array, columns is not None)
    _check_array(*headers[name], f"array {name!r} of {file.name}")
    _check_fits(headers, (name, label), file.name)
    found = None
    if label is not None:
        what, rows = f"array {label!r} of {file.name}", headers[name][0][0]
        check_labels(headers[label], rows, what, f"array {name!r}")
    with np.load(file, allow_pickle=False) as arrays:
        values = _native(_member(arrays, name, file.name))
        if label is not None:
            found = _member(arrays, label, file.name)
            found = found[:, 0] if found.shape[1:] == (1,) else found
    return _expecting(Table(values, None, found, file.name, notes), columns)


def read_arrays(
    file: Path, wanted: Mapping[str, str | None], required: Collection[str]
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Arrays of an .npz file by purpose.

    Args:
        file: The file.
        wanted: Name of the array for each purpose; None for the name of the purpose itself.
        required: Purposes that must have an array.

    Returns:
        The arrays found, by purpose, and the names of unused arrays.

    Raises:
        ValueError: If a named or required array is missing, or if an array holds objects:
            unpickling them could run code.
    """
    headers = _headers(file)
    names = {}
    for purpose, given in wanted.items():
        name = purpose if given is None else given
        if name in headers:
            names[purpose] = name
        elif given is not None or purpose in required:
            raise OptionError(
                f"{file.name} has no array {name!r}{hint(name, headers)}; choose one with ",
                Option(purpose, "NAME"),
            )
    for name in names.values():
        if headers[name][1].hasobject:
            raise ValueError(
                f"array {name!r} of {file.name} must hold numbers or text, got the type "
                f"{headers[name][1]}; save it with .astype(float) or .astype(str)"
            )
    _check_fits(headers, tuple(names.values()), file.name)
    with np.load(file, allow_pickle=False) as arrays:
        found = {purpose: _member(arrays, name, file.name) for purpose, name in names.items()}
    return found, tuple(name for name in headers if name not in names.values())


def _member(arrays: Any, name: str, source: str) -> NDArray[Any]:
    """An array of an open archive."""
    try:
        array: NDArray[Any] = arrays[name]
    except ValueError as error:
        raise ValueError(f"array {name!r} of {source} is damaged: {error}") from error
    return array


def _expecting(table: Table, columns: Sequence[str] | None) -> Table:
    """Match the columns of an array to those that a trained model expects."""
    if columns is None:
        return table
    note = in_order(table.values.shape[1:], columns, table.source)
    return replace(table, columns=tuple(columns), notes=table.notes + note)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Values in C order and native byte order."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _check_fits(headers: dict[str, Header], names: tuple[str | None, ...], source: str) -> None:
    """Check that arrays fit into memory: a small archive can hold terabytes of zeros."""
    for name in names:
        if name is not None:
            shape, dtype = headers[name]
            remedy = "save it as .npy, which is read from the disk"
            check_fits(f"array {name!r} of {source}", shape, dtype.itemsize, remedy)


def _headers(file: Path) -> dict[str, Header]:
    """Shapes and types of the arrays of an archive."""
    headers = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                name = member.removesuffix(".npy")
                with archive.open(member) as stream:
                    headers[name] = header(stream, f"array {name!r} of {file.name}")
    return headers


def _pick(
    headers: dict[str, Header],
    source: str,
    labels: str | None,
    array: str | None,
    optional: bool,
) -> tuple[str, str | None, tuple[str, ...]]:
    """Choose the arrays of values and of labels; returns their names and notes."""
    if array is not None and array not in headers:
        raise OptionError(
            Option("array", array), f" is not an array of {source}{hint(array, headers)}"
        )
    label = labels if labels in headers else None
    notes: tuple[str, ...] = ()
    if labels is not None and label is None:
        notes = check_label_file(labels, "array", headers, source, optional)
    if array is None:
        array = _only(headers, source, label)
    if labels is None:
        fitting = [name for name in _LABELS if name in headers and name != array]
        rows = headers[array][0][:1]
        label = next((n for n in fitting if headers[n][0] in (rows, (*rows, 1))), None)
        if fitting and label is None:
            shape = headers[fitting[0]][0]
            notes += (f"array {fitting[0]!r} of shape {shape} is not one label per row; not used",)
    notes = (f"values: array {array!r}", *notes)
    return array, label, notes if label is None else (*notes, f"labels: array {label!r}")


def _only(headers: dict[str, Header], source: str, label: str | None) -> str:
    """Name of the array of values: by its usual names, otherwise the only one with two axes."""
    usual = [name for name in _VALUES if name in headers and name != label]
    tables = [name for name, (shape, _) in headers.items() if len(shape) > 1 and name != label]
    for found in (usual, tables, [name for name in headers if name != label]):
        if len(found) == 1:
            return found[0]
        if found:
            break
    arrays = [f"{name} {shape}" for name, (shape, _) in headers.items()]
    raise OptionError(
        f"{source} must have one array of values, got {some(arrays, 12) or 'none'}; choose one "
        "with ",
        Option("array", "NAME"),
    )
