"""Values of a table's numbers in the units of its file, and bins and axes for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mimachine.data.tables.schema import Stepped
from mimachine.reporting import columns

__all__ = ["Bins", "bins", "compact"]

Array = np.ndarray[Any, Any]
_HOUR, _DAY = 3.6e9, 86.4e9
# Seconds, minutes, hours and days, in microseconds, and from how many of them they are used.
_DURATIONS = ((_DAY, "days"), (_HOUR, "hours"), (6e7, "minutes"), (1e6, "seconds"))
_ENOUGH = 3
# Ratio of outer quantiles from which positive numbers get a logarithmic axis.
_LARGE_RANGE = 100
_MOST_BARS = 12


class Bins(NamedTuple):
    """Bins of a column of numbers.

    Attributes:
        steps: Edges in steps, increasing, between whole numbers.
        edges: The same edges in the units of the axis.
        log: Whether the axis is logarithmic.
        label: Unit of the axis, if its numbers do not tell.
        single: Whether every bin is one whole number of a count.
        dress: Sets the ticks of an axis.
    """

    steps: Array
    edges: Array
    log: bool
    label: str
    single: bool
    dress: Callable[[Axes], None]

    def heights(self, values: Array) -> Array:
        """Share of the known values in each bin, by the width on the axis; the largest is 1.

        Args:
            values: Steps, shape (n,), NaN where missing.
        """
        known = values[np.isfinite(values)]
        width = np.diff(np.log(self.edges) if self.log else self.edges)
        found: Array = np.histogram(known, self.steps)[0] / max(1, len(known)) / width
        return found


def bins(column: Stepped, real: Array, generated: Array) -> Bins | None:
    """Bins for the real (n,) and generated (m,) values of a column, in steps.

    They may leave out extreme values, see `columns.edges`. Positive numbers over a large range have
    a logarithmic axis.

    Returns:
        The bins; None if no value is known.
    """
    real, generated = (each[np.isfinite(each)] for each in (real, generated))
    base = real if len(real) else generated
    if not len(base):
        return None
    is_number = column.kind in ("number", "whole", "count")
    steps = columns.edges(base, generated, 1.0)
    single = column.kind in ("count", "whole") and len(steps) - 1 <= _MOST_BARS
    single = single and bool((np.diff(steps) == 1).all()) and column.step == 1
    log = is_number and not single and _is_large_range(column, base, generated)
    if log:
        steps = _even_in_logs(column, base, generated, len(steps) - 1)
    size, label, dress = _axis(column, base, log, single)
    return Bins(steps, (column.origin + column.step * steps) / size, log, label, single, dress)


def _is_large_range(column: Stepped, base: Array, generated: Array) -> bool:
    """Whether nearly all values are positive and some far larger than others."""
    if not column.origin + column.step * (base.min() - 0.5) > 0:
        return False
    if len(generated) and column.origin + column.step * np.quantile(generated, 0.005) <= 0:
        return False
    low, high = column.origin + column.step * np.quantile(base, (0.005, 0.995))
    return bool(high > _LARGE_RANGE * low)


def _even_in_logs(column: Stepped, base: Array, generated: Array, most: int) -> Array:
    """Edges in steps that are evenly spaced in the logarithm, where the steps allow it."""
    both = base if not len(generated) else np.concatenate([base, generated])
    low = max(base.min(), np.quantile(both, 0.005)) - 0.5
    high = max(np.quantile(both, 0.995), low + 1.5) + 0.5
    low, high = column.origin + column.step * np.array([low, high])
    places = (np.geomspace(low, high, most + 1) - column.origin) / column.step
    return np.unique(np.floor(places) + 0.5)[: most + 1]


def _axis(
    column: Stepped, base: Array, log: bool, single: bool
) -> tuple[float, str, Callable[[Axes], None]]:
    """Size of the axis's unit, its label, and its ticks."""
    if column.kind == "date":
        return 1.0, "", _dates
    if column.kind == "datetime":
        return _DAY, "", _dates
    if column.kind == "time":
        return _HOUR, "hour", _numbers
    if column.kind == "duration":
        reach = float(np.quantile(np.abs(column.origin + column.step * base), 0.99))
        size, label = next((d for d in _DURATIONS if reach >= _ENOUGH * d[0]), _DURATIONS[-1])
        return size, label, _numbers
    return 1.0, "", _powers if log else _whole_numbers if single else _numbers


def _dates(axis: Axes) -> None:
    locator = AutoDateLocator(minticks=2, maxticks=4)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.xaxis.get_offset_text().set_fontsize(8)


def _numbers(axis: Axes) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, place: compact(value)))


def _whole_numbers(axis: Axes) -> None:
    _numbers(axis)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))


def _powers(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(numticks=5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, place: compact(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def compact(value: float) -> str:
    """A number in few letters, such as 250k or 1.5M.

    Example:
        >>> compact(0.25), compact(250000.0), compact(-1.5e6)
        ('0.25', '250k', '-1.5M')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e9 and (size > 1e3 or abs(value) >= 1e4):
            return f"{value / size:.4g}{letter}"
    if value != 0 and math.isfinite(value):
        # Rounding errors of ticks, such as 0.30000000000000004.
        value = float(f"{value:.10g}")
    return f"{value:.6g}"
