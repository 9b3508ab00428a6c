"""Names of the columns of any table, and values that tables do not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mimachine._support.messages import Option, OptionError, counted, nearest, some
from mimachine.data.files.columns import in_order

if TYPE_CHECKING:
    import polars as pl

__all__ = ["check_types", "chosen_columns", "without_infinite"]

_REMEDIES = {
    "List": "make a column of each of its elements",
    "Array": "make a column of each of its elements",
    "Struct": "make a column of each of its fields",
    "Binary": "convert it to text or numbers",
    "Object": "convert it to text or numbers",
}


def chosen_columns(
    names: Sequence[str], named: bool, columns: Sequence[str], source: str
) -> tuple[list[int], tuple[str, ...]]:
    """Indices of the chosen columns, and notes.

    Raises:
        ValueError: If a column is not there.
    """
    places = {name: k for k, name in enumerate(names)}
    if lacking := [name for name in columns if name not in places]:
        if not named:
            return list(range(len(names))), in_order((len(names),), columns, source)
        raise ValueError(
            f"{source} lacks {counted(len(lacking), 'column')}: {some(map(repr, lacking))}"
            f"{nearest(lacking[0], places)}"
        )
    chosen = [places[name] for name in columns]
    if extra := [name for name in names if name not in set(columns)]:
        return chosen, (f"not used: {some(f'column {name!r}' for name in extra)}",)
    return chosen, ()


def check_types(types: dict[str, pl.DataType], source: str) -> None:
    """Check that columns hold one number, date, flag or text in each row.

    Raises:
        OptionError: If they do not; names the columns, and says what to do.
    """
    found = {name: kind for name, kind in types.items() if kind.base_type().__name__ in _REMEDIES}
    if not found:
        return
    listed = some(
        f"column {name!r} is of type {kind}; {_REMEDIES[kind.base_type().__name__]}"
        for name, kind in found.items()
    )
    raise OptionError(
        f"{source} must have one number, date, flag or text in each cell; {listed}, or leave it "
        "out with ",
        Option("drop", list(found)),
    )


def without_infinite(
    data: pl.DataFrame, called: Callable[[str], str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Infinite numbers as missing values, as results of divisions by zero are; and notes."""
    counts = {each.name: each.is_infinite().sum() for each in data if each.dtype.is_float()}
    infinite = {name: count for name, count in counts.items() if count}
    if not infinite:
        return data, ()
    columns = [data[name].set(data[name].is_infinite().fill_null(False), None) for name in infinite]
    listed = some(f"{called(name)} has {count:,}" for name, count in infinite.items())
    return data.with_columns(columns), (f"infinite numbers are read as missing: {listed}",)
