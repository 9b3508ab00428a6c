"""Choose the columns of a table, or report why they cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mimachine._support.messages import Option, OptionError, counted, hint, nearest, some
from mimachine.data.files.table import are_numbers

__all__ = [
    "Choice",
    "Layout",
    "check_label_file",
    "check_unique",
    "choose",
    "in_order",
    "missing_values",
    "not_numeric",
]


class Layout(NamedTuple):
    """All columns of a file.

    Attributes:
        names: Names of the columns; their numbers, from 1, if the file has no names.
        named: Whether the names come from the file.
        counters: Indices of columns that only count the rows.
        delimiter: Delimiter between cells of text.
        notes: Decisions made so far.
        booleans: Indices of columns whose cells are true or false.
        encoding: Encoding of text.
        skipped: Number of lines above the first row of the table.
    """

    names: tuple[str, ...]
    named: bool = True
    counters: tuple[int, ...] = ()
    delimiter: str = ","
    notes: tuple[str, ...] = ()
    booleans: tuple[int, ...] = ()
    encoding: str | None = None
    skipped: int = 0

    def called(self, place: int) -> str:
        """A column's name, or its number from 1 if it has none."""
        return f"column {self.names[place]!r}" if self.named else f"column {place + 1}"


class Choice(NamedTuple):
    """Chosen columns.

    Attributes:
        values: Indices of the columns of values, in order.
        label: Index of the column of labels.
        columns: Names of the columns of values.
        notes: Decisions made.
    """

    values: list[int]
    label: int | None
    columns: tuple[str, ...] | None
    notes: tuple[str, ...]


def choose(
    layout: Layout,
    source: str,
    labels: str | None,
    drop: Sequence[str],
    columns: Sequence[str] | None,
) -> Choice:
    """Choose the columns of values and of labels by name."""
    places = {name: place for place, name in enumerate(layout.names)}
    label = None if labels is None else places.get(labels)
    notes = layout.notes
    if labels is not None and label is None:
        notes += check_label_file(labels, "column", places, source, optional=columns is not None)
    if both := sorted(set(drop) & {labels, *(columns or ())}):
        raise OptionError(Option("drop", both), f" is needed as labels or values of {source}")
    if label is not None and labels in (columns or ()):
        raise OptionError(
            Option("labels"), f" must not be a column that the model was trained on, got {labels!r}"
        )
    if columns is None:
        for name in drop:
            if name not in places:
                raise OptionError(
                    Option("drop", [name]), f" is not a column of {source}{hint(name, places)}"
                )
    rest = [k for k, name in enumerate(layout.names) if k != label and name not in drop]
    values = [k for k in rest if k not in layout.counters]
    if columns is not None and layout.named:
        return _choose_expected(layout, source, rest, label, tuple(columns), notes)
    if columns is not None:
        notes += in_order((len(values),), columns, source)
        return Choice(values, label, tuple(columns), notes)
    if not values:
        raise ValueError(
            f"{source} has no columns left for values; its columns are {some(layout.names)}"
        )
    if len(values) < len(rest):
        left_out = some(layout.called(k) for k in layout.counters)
        notes += (f"{left_out} only counts the rows; not used",)
    names = tuple(layout.names[k] for k in values)
    return Choice(values, label, names if layout.named else None, notes)


def _choose_expected(
    layout: Layout,
    source: str,
    rest: list[int],
    label: int | None,
    columns: tuple[str, ...],
    notes: tuple[str, ...],
) -> Choice:
    """Choose the columns that a trained model expects from `rest`, those not used otherwise."""
    places = {layout.names[k]: k for k in rest}
    if lacking := [name for name in columns if name not in places]:
        raise ValueError(
            f"{source} lacks {counted(len(lacking), 'column')} that the model was trained on: "
            f"{some(map(repr, lacking))}{nearest(lacking[0], places)}"
        )
    values = [places[name] for name in columns]
    if values != sorted(values):
        notes += ("columns are in a different order than in training; matched by name",)
    if extra := [k for k in rest if k not in {*values, *layout.counters}]:
        notes += (f"not used: {some(layout.called(k) for k in extra)}",)
    return Choice(values, label, columns, notes)


def in_order(shape: tuple[int, ...], columns: Sequence[str], source: str) -> tuple[str, ...]:
    """Match columns without names to the expected ones by order; returns a note.

    Raises:
        ValueError: If their number differs.
    """
    if shape != (len(columns),):
        raise ValueError(
            f"{source} must have the {counted(len(columns), 'column')} that the model was trained "
            f"on, {some(map(repr, columns))}; got rows of shape {shape} without names"
        )
    return (f"columns have no names; matched by order to {some(map(repr, columns))}",)


def check_label_file(
    labels: str, kind: str, known: Iterable[str], source: str, optional: bool
) -> tuple[str, ...]:
    """Check that labels, which are not in `source`, name a file; a note if optional ones do not."""
    if Path(labels).expanduser().is_file():
        return ()
    if optional:
        return (f"no labels: no {kind} or file called {labels!r}",)
    known = list(known)
    place = f"a file or one of the {kind}s of {source}" if known else "a file with one label a row"
    raise OptionError(Option("labels"), f" must be {place}, got {labels!r}{hint(labels, known)}")


def check_unique(names: Sequence[str], source: str) -> None:
    """Raise a ValueError if several columns have the same name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{source} has several columns called {some(map(repr, twice))}; rename them"
        )


def not_numeric(found: dict[int, str], layout: Layout, source: str) -> OptionError:
    """The error for columns that are not numeric, with an example of each."""
    listed = some(f"{layout.called(k)} {example}" for k, example in found.items())
    names = [layout.names[k] for k in found]
    header: tuple[str | Option, ...] = ()
    # The first line may be a row of numbers and a class, in a file without a header.
    if layout.named and any(are_numbers([name]) for name in layout.names):
        header = (
            ". Its first line is read as column names; if it is a row, use ",
            Option("header", False),
        )
    return OptionError(
        f"{source} must have numeric columns; {listed}. Leave them out with ",
        Option("drop", names),
        ", or use one as class labels with ",
        Option("labels", names[0]),
        *header,
    )


def missing_values(found: list[tuple[int, str, str]], layout: Layout, source: str) -> OptionError:
    """The error for missing values: columns, number and kind of values, and the first row."""
    listed = some(f"{layout.called(k)} has {what}, first in {at}" for k, what, at in found)
    names = list(dict.fromkeys(layout.names[k] for k, _, _ in found))
    return OptionError(
        f"{source} has missing values: {listed}; fill them in, remove these rows, or leave out "
        "the columns with ",
        Option("drop", names),
    )
