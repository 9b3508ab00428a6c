"""Resolution of a column: the grid of its values, coarsened where float32 cannot count its steps.

Values are origin + step * k. The step is that of the values' own grid if they have one, such as
0.25, 5 or a week, otherwise a thousandth of their standard deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimachine.data.resolution import column_grids, count_decimals
from mimachine.data.tables.stored_schema import LARGEST

__all__ = ["Grid", "grid_of", "indices", "values_at"]

_STEPS_OF_DEVIATION = 1000
# A step of more than this part of the deviation is too coarse if a tenth of it does for most.
_COARSEST, _WORTHWHILE = 50, 10
_MOST_DECIMALS, _DECIMALS_OF_TABLES = 15, 6
# Values of d different ones share a divisor g by chance with probability g^(1 - d).
_CHANCE = 1e-4
# Share of the values that may be moved to the end of the range, as they lie so far out.
_MOST_CLIPPED = 0.01
_FEWEST_ON_GRID, _ROWS_OF_GRID = 8, 2000
_EXACT = 2**53
# Rounding errors of sums, in units of the last place.
_NOISE = 4
# Steps smaller than this or larger than that would not leave room for arithmetic.
_SMALLEST, _GREATEST = 1e-290, 1e300
_SECOND = 1_000_000
_MINUTE, _HOUR, _DAY = 60 * _SECOND, 3600 * _SECOND, 86_400 * _SECOND
# Steps of times, in microseconds, to which finer ones are coarsened.
_TIMES = (
    *(m * 10**e for e in range(6) for m in (1, 2, 5)),
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 4, 6, 12)),
    *(m * 10**e * _DAY for e in range(6) for m in (1, 2, 5)),
)


@dataclass(frozen=True)
class Grid:
    """Values origin + step * k for whole k from `low` to 2^24.

    Attributes:
        origin: Value at k = 0.
        step: Distance of neighbouring values.
        decimals: Decimals of the values; None for as many as needed.
        own: Step of the grid on which all values were; None if they were on none.
        clipped: Number of values that are too far out, and are moved to the end of the range.
    """

    origin: float
    step: float
    decimals: int | None
    own: float | None
    clipped: int

    @property
    def coarsened(self) -> bool:
        """Whether the values' own grid was too fine."""
        return self.own is not None and self.step != self.own


def grid_of(values: NDArray[Any], kind: str, stored: np.dtype[Any] | None = None) -> Grid:
    """Choose the steps of a column.

    Args:
        values: The values that are not missing, int64, uint64 or float64, at least one.
        kind: Kind of the column; the steps of counts start at 0.
        stored: Type of the values in the table, if it has fewer digits.
    """
    if values.dtype.kind != "f":
        times = _TIMES if kind in ("datetime", "time", "duration") else None
        decimals = None if times is not None or kind == "date" else 0
        return _of_wholes(values, kind, decimals, times)
    # A few huge values, such as 1e300, do not hide the decimals of the others.
    inner = values[np.abs(values) < _EXACT / 1000]
    if not len(inner) or len(values) - len(inner) > _most_clipped(values):
        return _of_others(values)
    digits = _decimals(inner, stored)
    if digits is not None:
        mantissas = np.rint(inner * 10.0**digits).astype(np.int64)
        found = _of_wholes(mantissas, kind, digits)
        # A column with more decimals than tables usually have is on no grid, unless all values fit.
        if digits <= _DECIMALS_OF_TABLES or not found.coarsened:
            return replace(found, clipped=_unreached(values, found))
    return _of_others(values)


def _most_clipped(values: NDArray[Any]) -> float:
    return max(1.0, _MOST_CLIPPED * len(values))


def _unreached(values: NDArray[Any], grid: Grid) -> int:
    with np.errstate(over="ignore"):
        distance = np.abs(values / grid.step - grid.origin / grid.step)
    return int((distance > LARGEST + 0.5).sum())


def _decimals(values: NDArray[Any], stored: np.dtype[Any] | None) -> int | None:
    """Number of decimals that all values have; None if they have too many."""
    types = None if stored is None else [stored]
    whole = np.zeros(1, dtype=np.bool_)
    found = int(count_decimals(values[:, None], whole, types)[0])
    largest = float(np.abs(values).max())
    if found < 0:
        found = _nearly(values, largest)
    return found if found >= 0 and largest * 10.0**found < _EXACT else None


def _nearly(values: NDArray[Any], largest: float) -> int:
    """Decimals of values that sums have put a little off, or of many; -1 if they have none."""
    noise = _NOISE * np.finfo(np.float64).eps * largest
    for count in range(_MOST_DECIMALS + 1):
        off = noise if noise < 1e-3 * 10.0**-count else 0.0
        if (np.abs(np.round(values, count) - values) <= off).all():
            return count
    return -1


def _of_wholes(
    values: NDArray[Any],
    kind: str,
    decimals: int | None,
    times: tuple[int, ...] | None = None,
) -> Grid:
    """Steps of whole numbers, in units of 10^-decimals."""
    low, high = int(values.min()), int(values.max())
    unit = 10**decimals if decimals else 1
    own = _divisor(values, 0 if kind == "count" else low)
    if max(abs(low), abs(high)) >= _EXACT:
        own = 1
    from_zero, step, clipped = kind == "count", own, 0
    window = _window(low, high, float(own), from_zero)
    if window > 1:
        step = _coarser(own, own * window, times)
        fine = _coarser(own, _reach(values, from_zero) / LARGEST, times)
        if _is_better_clipped(values, fine, step):
            step, clipped = fine, _beyond(values, float(fine), from_zero)
    origin = _whole_origin(values, low, high, step, from_zero, clipped > 0)
    return Grid(origin / unit, step / unit, decimals, own / unit, clipped)


def _divisor(values: NDArray[Any], start: int) -> int:
    """Greatest common divisor of the differences; 1 if it may be by chance."""
    if values.dtype == np.uint64:
        offsets = values - np.uint64(start)
    else:
        # Differences of int64 wrap around to the right uint64.
        offsets = (values - np.int64(start)).astype(np.uint64)
    # Nearly always the first values decide.
    divisor = int(np.gcd.reduce(offsets[:1000]))
    if divisor != 1:
        divisor = int(np.gcd.reduce(offsets))
    if divisor <= 1:
        return 1
    distinct = len(np.unique(offsets[:_ROWS_OF_GRID]))
    by_chance = -(distinct - 1) * math.log(divisor)
    return divisor if by_chance < math.log(_CHANCE) else 1


def _window(low: float, high: float, step: float, from_zero: bool) -> float:
    """How many times too fine a step is: at most 1 if it is not."""
    if from_zero:
        return high / step / LARGEST
    return (high / step - low / step) / (2 * LARGEST - 4)


def _coarser(own: int, wanted: float, times: tuple[int, ...] | None) -> int:
    """Multiple of a step that is `wanted` or more, and a round number of it."""
    if times is not None:
        fitting = [time for time in times if time >= wanted and time % own == 0]
        if fitting:
            return int(fitting[0])
    factor = max(1.0, wanted / own)
    power = 10 ** math.floor(math.log10(factor))
    multiple: int = next(m * power for m in (1, 2, 5, 10, 20) if m * power >= factor)
    return own * multiple


def _reach(values: NDArray[Any], from_zero: bool) -> float:
    """Largest distance from the origin, without the few values that may be clipped."""
    numbers = values.astype(np.float64)
    distance = np.abs(numbers - (0.0 if from_zero else _middle(numbers)))
    kept = max(0, len(values) - 1 - int(_most_clipped(values)))
    return float(np.partition(distance, kept)[kept])


def _is_better_clipped(values: NDArray[Any], fine: float, coarse: float) -> bool:
    """Whether to move a few values inwards rather than to take steps that all reach."""
    return coarse > _deviation(values) / _COARSEST and fine < coarse / _WORTHWHILE


def _beyond(values: NDArray[Any], step: float, from_zero: bool) -> int:
    start = 0.0 if from_zero else _middle(values)
    with np.errstate(over="ignore"):
        distance = np.abs(values.astype(np.float64) / step - start / step)
    return int((distance > LARGEST).sum())


def _whole_origin(
    values: NDArray[Any], low: int, high: int, step: int, from_zero: bool, clipped: bool
) -> int:
    """Value of k = 0: near 0 if all values can be reached from there, otherwise in the middle."""
    if from_zero:
        return 0
    large = max(abs(low), abs(high)) >= _EXACT
    phase = 0 if large else low % step
    if max(abs(low - phase), abs(high - phase)) <= step * LARGEST:
        return phase
    middle = int(_middle(values)) if clipped else (low + high) // 2
    # A large origin must be exact as a floating-point number.
    return int(float(middle)) if large else phase + step * round((middle - phase) / step)


def _of_others(values: NDArray[Any]) -> Grid:
    """Steps of numbers with any decimals: those of a grid such as thirds, or round ones."""
    low, high = float(values.min()), float(values.max())
    own = _irregular(values)
    if own is not None and _window(low, high, own, False) <= 1:
        phase = low - own * math.floor(low / own)
        if max(abs(low / own), abs(high / own)) < LARGEST - 1:
            return Grid(phase, own, None, own, 0)
        return Grid(low, own, None, own, 0)
    # No finer than floating-point numbers are.
    spacing = float(np.spacing(abs(_middle(values))))
    limit = max(_deviation(values) / _STEPS_OF_DEVIATION, spacing)
    step, clipped = _round_down(limit), 0
    window = _window(low, high, step, False)
    if window > 1:
        fine = max(step, _round_up(_reach(values, False) / LARGEST))
        step = _round_up(window * step)
        if _is_better_clipped(values, fine, step):
            step, clipped = fine, _beyond(values, fine, False)
    origin = 0.0
    if max(abs(low / step), abs(high / step)) > LARGEST:
        middle = _middle(values) if clipped else low / 2 + high / 2
        origin = step * float(np.rint(middle / step))
    return Grid(origin, step, _decimals_of(step), None, clipped)


def _irregular(values: NDArray[Any]) -> float | None:
    """Step of a grid that is no decimal number, such as that of thirds, if there is one."""
    start, scale = float(values.min()), float(np.abs(values).max())
    sample = np.unique(values[:: max(1, len(values) // _ROWS_OF_GRID)])
    if len(sample) < _FEWEST_ON_GRID or not _SMALLEST < scale < _GREATEST:
        return None
    span = float(sample[-1] / 2 - sample[0] / 2) * 2
    if span == math.inf or (np.diff(sample) < 1e-8 * span).any():
        return None  # Which `column_grids` would take as the same.
    step = float(column_grids(sample[:, None])[0])
    if step == 0:
        return None
    steps = (values - start) / step
    return step if float(np.abs(steps - np.rint(steps)).max()) < 1e-2 else None


def _deviation(values: NDArray[Any]) -> float:
    """Standard deviation that far-out values and a frequent one hardly change; positive."""
    numbers = values.astype(np.float64)
    for some in (numbers, _without_mode(numbers)):
        if len(some):
            first, last = np.quantile(some / 2, (0.1587, 0.8413))
            if last > first:
                return float(np.clip(last - first, _SMALLEST, _GREATEST))
    spread = float(numbers.max() / 2 - numbers.min() / 2)
    return min(max(spread, _SMALLEST * _STEPS_OF_DEVIATION), _GREATEST)


def _middle(values: NDArray[Any]) -> float:
    """A value in the middle; the mean of two could overflow."""
    half = len(values) // 2
    return float(np.partition(values, half)[half])


def _without_mode(values: NDArray[Any]) -> NDArray[Any]:
    distinct, counts = np.unique(values, return_counts=True)
    others: NDArray[Any] = values[values != distinct[counts.argmax()]]
    return others


def _round_down(number: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not larger."""
    number = min(max(number, _SMALLEST), _GREATEST)
    power = math.floor(math.log10(number))
    digit = max((m for m in (1, 2, 5) if m * 10.0**power <= number), default=1)
    return digit / 10.0**-power if power < 0 else digit * 10.0**power


def _round_up(number: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not smaller."""
    step = _round_down(number)
    return step if step >= number else _round_down(2.5 * number)


def _decimals_of(step: float) -> int | None:
    count = max(0, -math.floor(math.log10(step) + 1e-9))
    return count if count <= _MOST_DECIMALS else None


def indices(values: NDArray[Any], origin: float, step: float) -> NDArray[np.float64]:
    """Steps k of values, the nearest where a value is between; those too far out are clipped."""
    if values.dtype.kind != "f" and origin == int(origin):
        start = np.array(int(origin) % 2**64, dtype=np.uint64)
        offsets = (values.astype(np.uint64) - start).view(np.int64).astype(np.float64)
        # Differences beyond 2^63 wrap around.
        rough = values.astype(np.float64) - origin
        offsets = np.where(np.abs(rough) < 2.0**62, offsets, rough)
    else:
        offsets = values.astype(np.float64) - origin
    with np.errstate(over="ignore"):
        found: NDArray[np.float64] = np.rint(np.clip(offsets / step, -LARGEST, LARGEST))
    return found + 0.0  # No -0.


def values_at(
    steps: NDArray[Any],
    origin: float,
    step: float,
    decimals: int | None,
    whole: bool,
    limits: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """Values of steps k: the inverse of `indices` on the grid.

    Args:
        steps: Steps, shape (N,), finite.
        origin: Value of k = 0.
        step: Distance of neighbouring values.
        decimals: Decimals to round to; None for none.
        whole: Whether the values are integers, int64 or uint64.
        limits: Smallest and largest value that the column may have.
    """
    steps = np.rint(steps.astype(np.float64))
    if whole and origin == int(origin) and step == int(step):
        exact = _whole_values(steps, int(origin), int(step), limits)
        if exact is not None:
            return exact
    values = origin + step * steps
    values = values if decimals is None else np.round(values, decimals)
    if limits is not None:
        values = np.clip(values, float(limits[0]), float(limits[1]))
    if not whole:
        return values
    # Integers of more bits stay floating-point numbers.
    fits = (np.abs(values) < 2.0**62).all()
    return np.rint(values).astype(np.int64) if fits else np.rint(values)


def _whole_values(
    steps: NDArray[np.float64], origin: int, step: int, limits: tuple[int, int] | None
) -> NDArray[Any] | None:
    """Exact values of steps as int64 or uint64; None if they could be beyond these."""
    low, high = limits or (origin - step * LARGEST, origin + step * LARGEST)
    unsigned = low >= 0 and high == 2**64 - 1
    if not unsigned and not (low >= -(2**63) and high < 2**63):
        return None
    first, last = -((origin - low) // step), (high - origin) // step
    inner = np.clip(steps, first, last).astype(np.int64)
    # Sums of uint64 wrap around to the right int64.
    total = inner.astype(np.uint64) * np.uint64(step) + np.array(origin % 2**64, dtype=np.uint64)
    values = total if unsigned else total.view(np.int64)
    if limits is not None:
        values[steps < first] = low
        values[steps > last] = high
    return values
