"""Schema of a table: what each column holds, and how its values become numbers of a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from mimachine._support.messages import nearest
from mimachine._support.schema import Checked, Finite, Index, is_number, shown, validated

__all__ = [
    "KINDS",
    "Column",
    "LeftOut",
    "Levels",
    "Schema",
    "Stepped",
    "Value",
    "overrides_from_json",
]

SteppedKind = Literal["number", "whole", "count", "date", "datetime", "time", "duration"]
LevelsKind = Literal["category", "ordered", "boolean"]
Reason = Literal["identifier", "constant", "text", "empty", "dropped", "unsupported"]

# Kinds that a user may give a column.
KINDS = (
    *("number", "whole", "count", "category", "ordered", "boolean"),
    *("date", "datetime", "time", "duration", "identifier", "drop"),
)


_BEYOND = 1 << 64


def _value(value: Any) -> Any:
    # Date-times are microseconds, and whole numbers may have 64 bits.
    is_whole = isinstance(value, int) and -_BEYOND <= value < _BEYOND
    if not isinstance(value, str | bool) and not is_whole and not is_number(value):
        raise ValueError(f"must be text, a finite number, true or false, got {shown(value)}")
    return value


def _optional(value: Any) -> Any:
    return None if value is None else _value(value)


def _positive(value: Any) -> Any:
    if not is_number(value) or value <= 0:
        raise ValueError(f"must be a positive number, got {shown(value)}")
    return value


def _share(value: Any) -> Any:
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"must be a number from 0 to 1, got {shown(value)}")
    return value


Value: TypeAlias = str | int | float | bool
_Positive = Annotated[float, Checked(_positive)]
_Share = Annotated[float, Checked(_share)]
_Value = Annotated[Value, Checked(_value)]


@dataclass(frozen=True)
class Stepped:
    """A column of values on a grid: value = origin + step * k for whole k, |k| <= 2^24.

    Attributes:
        name: Name of the column.
        kind: What the values are.
        type: Type of the column in the table, as polars names it.
        origin: Value at k = 0; in days since 1970 for dates, in microseconds for date-times (since
            1970), times (since midnight) and durations.
        step: Distance of neighbouring values, positive, in the same units.
        decimals: Decimals of the values written out; None for as many as needed.
        edges: Edges of the quantile map, in steps, strictly increasing.
        scores: Normal scores of the edges, strictly increasing.
        missing: Share of missing values in the training rows.
        format: Format of dates and times that are text in the table, as strptime reads it.
    """

    name: str
    kind: SteppedKind
    type: str
    origin: Finite
    step: _Positive
    decimals: Index | None
    edges: tuple[Finite, ...]
    scores: tuple[Finite, ...]
    missing: _Share
    format: str | None = None


@dataclass(frozen=True)
class Levels:
    """A column of values from a list; a row has the index of the value.

    Attributes:
        name: Name of the column.
        kind: What the values are.
        type: Type of the column in the table, as polars names it; "Enum" for any Enum.
        levels: The values; in order for ordered ones.
        counts: Number of the training rows with each level.
        missing: Share of missing values in the training rows.
        other: Whether the last level stands for all rare ones.
        parent: Name of the column that settles this one.
        table: Parent's level, level and number of training rows with both, if any.
    """

    name: str
    kind: LevelsKind
    type: str
    levels: tuple[_Value, ...]
    counts: tuple[Index, ...]
    missing: _Share
    other: bool = False
    parent: str | None = None
    table: tuple[tuple[Index, Index, Index], ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A column that is not modelled.

    Attributes:
        name: Name of the column.
        reason: Why.
        type: Type of the column in the table, as polars names it.
        value: Value of a constant column; in the units of `Stepped.origin` for dates and times.
        format: As `Stepped.format`.
    """

    name: str
    reason: Reason
    type: str
    value: Annotated[Value | None, Checked(_optional)] = None
    format: str | None = None


Column: TypeAlias = Stepped | Levels | LeftOut


@dataclass(frozen=True)
class Schema:
    """Columns of a table, in its order.

    Example:
        >>> size = Levels("size", "ordered", "String", ("S", "M", "L"), (5, 9, 2), missing=0.0)
        >>> Schema((size, LeftOut("id", "identifier", "Int64"))).kinds()
        {'size': 'ordered', 'id': 'identifier'}
    """

    columns: tuple[Column, ...]

    @property
    def modelled(self) -> tuple[Stepped | Levels, ...]:
        """The D columns that a row has, in order."""
        return tuple(column for column in self.columns if not isinstance(column, LeftOut))

    def kinds(self) -> dict[str, str]:
        """The kind of each column, in words that `infer` takes as overrides."""
        return {column.name: _kind(column) for column in self.columns}

    def types(self) -> dict[str, str]:
        """Polars types of the columns that are modelled, to read another file alike."""
        return {column.name: column.type for column in self.modelled}

    def formats(self) -> dict[str, str]:
        """Formats of dates and times that are text, to read another file alike."""
        formats = {column.name: getattr(column, "format", None) for column in self.modelled}
        return {name: format for name, format in formats.items() if format is not None}

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"columns": [dataclasses.asdict(column) for column in self.columns]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Schema:
        """Inverse of `to_json`.

        Raises:
            ValueError: If an entry is missing, unknown, impossible or contradicts another.
        """
        from mimachine.data.tables import stored_schema

        place = "schema cannot be read"
        stored = validated(_Stored, value, place)
        columns = [
            _read(item, f"{place}: {_place(k, item)}") for k, item in enumerate(stored.columns)
        ]
        schema = cls(tuple(columns))
        try:
            stored_schema.check(schema)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        return schema


@dataclass(frozen=True)
class _Stored:
    columns: tuple[dict[str, Any], ...]


def _place(index: int, item: Mapping[str, Any]) -> str:
    return f"column {index + 1} ({shown(item.get('name'))})"


def _read(item: Mapping[str, Any], place: str) -> Column:
    """A column from JSON values, which say by their entries of which class it is."""
    kind: Any = Stepped
    if "reason" in item:
        kind = LeftOut
    elif "levels" in item:
        kind = Levels
    column: Column = validated(kind, item, place)
    return column


def _kind(column: Column) -> str:
    if isinstance(column, LeftOut):
        return "identifier" if column.reason == "identifier" else "drop"
    return column.kind


def overrides_from_json(value: Any) -> dict[str, str]:
    """Kinds of columns by name, as a user may edit those of `Schema.kinds`.

    Raises:
        ValueError: If it is no object of JSON, or a kind is unknown.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"kinds must be an object of names and kinds, got {shown(value)}")
    for name, kind in value.items():
        if kind not in KINDS:
            near = nearest(kind, KINDS) if isinstance(kind, str) else ""
            raise ValueError(
                f"kind of column {name!r} must be one of {', '.join(KINDS)}; "
                f"got {shown(kind)}{near}"
            )
    return dict(value)
