"""Layout: the columns of a file, those that are chosen, and why one cannot be."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mimachine._support.messages import counted, hint, nearest, some
from mimachine.data.files.table import are_numbers

__all__ = [
    "Choice",
    "Layout",
    "check_unique",
    "choose",
    "elsewhere",
    "in_order",
    "missing_found",
    "no_numbers",
]


class Layout(NamedTuple):
    """The columns of a file, before any is chosen.

    Attributes:
        names: To choose columns by; their numbers where they have no names.
        named: Whether these are the file's own names.
        counters: Places of columns that only count the rows.
        delimiter: What is between cells of text.
        notes: What was decided so far.
    """

    names: tuple[str, ...]
    named: bool = True
    counters: tuple[int, ...] = ()
    delimiter: str = ","
    notes: tuple[str, ...] = ()

    def called(self, place: int) -> str:
        """A column's name, or its number from 1 if it has none."""
        return f"column {self.names[place]!r}" if self.named else f"column {place + 1}"


class Choice(NamedTuple):
    """Places of the columns of values, in order, and of the labels; what the former are called."""

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
    """Columns of values and of labels, by name."""
    places = {name: place for place, name in enumerate(layout.names)}
    label = None if labels is None else places.get(labels)
    notes = layout.notes
    if labels is not None and label is None:
        notes += elsewhere(labels, "column", places, source, optional=columns is not None)
    if both := sorted(set(drop) & {labels, *(columns or ())}):
        raise ValueError(f"--drop {shlex.join(both)} is needed as labels or values of {source}")
    if label is not None and labels in (columns or ()):
        raise ValueError(f"--labels {labels!r} is one of the columns that the model was trained on")
    if columns is None:
        for name in drop:
            if name not in places:
                raise ValueError(f"--drop {name!r} is no column of {source}{hint(name, places)}")
    rest = [k for k, name in enumerate(layout.names) if k != label and name not in drop]
    values = [k for k in rest if k not in layout.counters]
    if columns is not None and layout.named:
        return _choose_expected(layout, source, rest, label, tuple(columns), notes)
    if columns is not None:
        notes += in_order((len(values),), columns, source)
        return Choice(values, label, tuple(columns), notes)
    if not values:
        raise ValueError(f"{source} has no columns left for values, of {some(layout.names)}")
    if len(values) < len(rest):
        left_out = some(layout.called(k) for k in layout.counters)
        notes += (f"{left_out} counts the rows and is left out",)
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
    """Columns that a trained model expects; `rest` are all but labels and what is dropped."""
    places = {layout.names[k]: k for k in rest}
    if lacking := [name for name in columns if name not in places]:
        raise ValueError(
            f"{source} lacks {counted(len(lacking), 'column')} that the model was trained with: "
            f"{some(map(repr, lacking))}{nearest(lacking[0], places)}"
        )
    values = [places[name] for name in columns]
    if values != sorted(values):
        notes += ("columns are in another order than in training; taken by name",)
    if extra := [k for k in rest if k not in {*values, *layout.counters}]:
        notes += (f"not used: {some(layout.called(k) for k in extra)}",)
    return Choice(values, label, columns, notes)


def in_order(shape: tuple[int, ...], columns: Sequence[str], source: str) -> tuple[str, ...]:
    """Note that columns without names are taken for the expected ones; their number must fit."""
    if shape != (len(columns),):
        raise ValueError(
            f"{source} must have the {counted(len(columns), 'column')} that the model was trained "
            f"with, {some(map(repr, columns))}; got rows of shape {shape} without names"
        )
    return (f"columns have no names and are taken in order as {some(map(repr, columns))}",)


def elsewhere(
    labels: str, kind: str, known: Iterable[str], source: str, optional: bool
) -> tuple[str, ...]:
    """Whether labels that are not in a file are in one of their own; a note if they are not."""
    if Path(labels).expanduser().is_file():
        return ()
    if optional:
        return (f"there are no labels: no {kind} {labels!r}, nor a file of that name",)
    raise ValueError(
        f"--labels {labels!r} is no {kind} of {source}, nor a file{hint(labels, known)}"
    )


def check_unique(names: Sequence[str], source: str) -> None:
    """An error if several columns have one name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{source} has several columns called {some(map(repr, twice))}; rename them"
        )


def no_numbers(found: dict[int, str], layout: Layout, source: str) -> ValueError:
    """The error for columns that hold no numbers, with an example of each."""
    listed = some(f"{layout.called(k)} {example}" for k, example in found.items())
    names = [layout.names[k] for k in found]
    # As in a file without names, with numbers and a class in its first line.
    doubt = ""
    if layout.named and any(are_numbers([name]) for name in layout.names):
        doubt = ". Its first line is taken as names of columns; put one there if it is none"
    return ValueError(
        f"{source} must have numbers; {listed}. Leave out by --drop {shlex.join(names)}, or take "
        f"one as classes by --labels {shlex.quote(names[0])}{doubt}"
    )


def missing_found(found: list[tuple[int, str, str]], layout: Layout, source: str) -> ValueError:
    """The error for missing values: columns, how many of which kind, and the first row."""
    listed = some(f"{layout.called(k)} has {what}, first in {at}" for k, what, at in found)
    names = dict.fromkeys(layout.names[k] for k, _, _ in found)
    return ValueError(
        f"{source} has missing values: {listed}; fill them in, leave out their rows, or --drop "
        f"{shlex.join(names)}"
    )
