"""Learn the preprocessing of a file from its training rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine.data.preprocessing import Likelihood, Preprocessing, rounding
from mimachine.data.resolution import column_grids, count_decimals, crowded

__all__ = ["image_layout", "learn"]

Array = NDArray[Any]
# Usual grids of images in [0, 1]: 2^k levels, and the 17 levels of scikit-learn's digits.
_GRIDS = (2, 4, 8, 16, 17, 32, 64, 128, 256)
_MOST_SAMPLED, _FIRST_ROWS = 20_000, 10
# Least floor of a standard deviation, as a fraction of the column's.
_FLOOR_SHARE = 1e-3
# Largest floor, for columns with a grid as coarse as their spread, such as rare flags.
_MOST_FLOOR_SHARE = 0.5
# Beyond these, squares under- or overflow in float64.
_SMALLEST_STD, _LARGEST_STD = 1e-150, 1e150


def learn(
    values: Array,
    train: NDArray[np.bool_],
    likelihood: str = "auto",
    *,
    columns: tuple[str, ...] | None = None,
    booleans: NDArray[np.bool_] | None = None,
    types: tuple[np.dtype[Any], ...] | None = None,
    standardize: bool = True,
    source: str = "data",
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Learn the preprocessing of a file from its training rows.

    Args:
        values: Finite values, shape (N, *S).
        train: Mask of training rows, shape (N,). Other rows are used only for the range, the grid
            of grey levels and the number of decimals.
        likelihood: The likelihood, or "auto" to choose it by the values: Bernoulli for zeros and
            ones, discretised logistic for grey levels, otherwise Gaussian.
        columns: Names of the D columns of tables.
        booleans: Whether values are stored as true and false, for each of D columns, or () for
            all; by default decided by the type of the array.
        types: Types of the D columns in the file; by default that of the array.
        standardize: Scale columns to mean 0 and standard deviation 1, if the likelihood is
            Gaussian and examples are not images.
        source: Name of the data in messages.

    Returns:
        The preprocessing, and notes on its decisions, one sentence each.

    Raises:
        ValueError: If the values do not fit the likelihood, or no column varies.
    """
    seen = _summary(values, train)
    # Some data need no sample of rows, others need it several times.
    sample = cache(lambda: _sampled(values, train))
    image = image_layout(values.shape[1:], seen.high - seen.low)
    pixels = seen.whole and seen.low >= 0 and 1 < seen.high <= 255
    is_pixels = pixels and (values.dtype == np.uint8 or image is not None)
    if likelihood == "discretized-logistic":
        is_pixels = pixels
    scale = 255.0 if is_pixels else 1.0
    levels = 256 if is_pixels else _grid(values, sample, seen)
    chosen, reason = _likelihood(likelihood, levels, seen, source)
    in_unit_interval = seen.low >= 0 and seen.high <= scale
    notes = [f"likelihood: {chosen}, {reason}"]
    if chosen == "gaussian" and pixels and not is_pixels and values.shape[1:] > (63,):
        notes.append(
            "values are integers from 0 to 255; if they are pixels, "
            "the likelihood discretized-logistic fits them better"
        )
    decimals = _decimals(values, seen, types)
    common: dict[str, Any] = {
        "likelihood": chosen,
        "shape": values.shape[1:],
        "columns": columns,
        "levels": levels,
        "decimals": _merged(decimals, values.shape[1:], -1),
        "booleans": _merged(
            np.asarray(values.dtype.kind == "b") if booleans is None else booleans,
            values.shape[1:],
            False,
        ),
    }
    if image is not None and in_unit_interval:
        common |= {"image_shape": image.shape, "channels_last": image.channels_last}
    if chosen != "gaussian" or "image_shape" in common:
        floor = np.asarray(_image_floor(seen, scale, levels))
        unscaled: dict[str, Any] = {"kept": None, "constants": None, "shift": np.asarray(0.0)}
        learned = Preprocessing(**common, **unscaled, scale=np.asarray(scale), floor=floor)
        return learned, tuple(notes)
    columns_learned, more = _learn_columns(
        values, sample(), seen, decimals, columns, standardize, source
    )
    return Preprocessing(**common, **columns_learned), (*notes, *more)


class _Summary(NamedTuple):
    """Statistics of values from one pass.

    Range of all values and which columns hold integers; mean and standard deviation of each column
    in the training rows, and whether it varies.
    """

    low: float
    high: float
    wholes: NDArray[np.bool_]
    mean: Array
    std: Array
    varies: NDArray[np.bool_]

    @property
    def whole(self) -> bool:
        """Whether all values are integers."""
        return bool(self.wholes.all())


def _summary(values: Array, train: NDArray[np.bool_]) -> _Summary:
    low, high = math.inf, -math.inf
    wholes = np.ones(math.prod(values.shape[1:]), dtype=bool)
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    first, varies = np.zeros(0), np.zeros(1, dtype=bool)
    for block in memory.blocks(values):
        now = np.asarray(values[block]).reshape(len(values[block]), -1)
        low, high = min(low, float(now.min())), max(high, float(now.max()))
        if now.dtype.kind == "f":
            _keep_wholes(wholes, now)
        now = now[train[block]].astype(np.float64)
        if not len(now):
            continue
        # Subtract the first row, otherwise a large offset would cost precision.
        first = first if count else now[0].copy()
        now -= first
        varies = varies | (now != 0).any(0)
        # Combine means and squared deviations of two groups of rows (Chan et al., 1979).
        new_mean = now.mean(0)
        delta, total = new_mean - mean, count + len(now)
        # Columns with very small or very large squares are rejected later.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            squares = squares + ((now - new_mean) ** 2).sum(0)
            squares = squares + delta**2 * (count * len(now) / total)
        mean, count = mean + delta * (len(now) / total), total
    mean, std = first + mean, np.sqrt(squares / count)
    return _Summary(low, high, wholes, mean, std, varies)


def _keep_wholes(wholes: NDArray[np.bool_], values: Array) -> None:
    """Clear the mask's entries of columns with values that are no integers."""
    # The first rows decide for most columns.
    for rows in (values[:_FIRST_ROWS], values):
        places = np.flatnonzero(wholes)
        if not len(places):
            return
        some = rows if len(places) == len(wholes) else rows[:, places]
        wholes[places] = (some == np.rint(some)).all(0)


class _Layout(NamedTuple):
    shape: tuple[int, int, int]
    channels_last: bool


def image_layout(shape: tuple[int, ...], spread: float) -> _Layout | None:
    """Layout of images of shape (H, W), (H, W, C) or (C, H, W); None for other shapes."""
    if len(shape) == 2 and min(shape) > 1 and spread > 0:
        return _Layout((1, *shape), channels_last=True)
    if len(shape) != 3:
        return None
    # Try 1 and 3 channels first: a short side of an image may be mistaken for 4 channels.
    for channels in ((1, 3), (4,)):
        if shape[-1] in channels:
            return _Layout((shape[2], shape[0], shape[1]), channels_last=True)
        if shape[0] in channels:
            return _Layout((shape[0], shape[1], shape[2]), channels_last=False)
    return None


def _sampled(values: Array, train: NDArray[np.bool_]) -> Array:
    """About 20,000 flat training rows: all, or runs of rows spread over a large file."""
    runs = 100 if len(values) > 2 * _MOST_SAMPLED else 1
    # Scattered single rows of a mapped file would load all of it into memory.
    starts = np.linspace(0, len(values), runs, endpoint=False).astype(np.int64)
    length = len(values) if runs == 1 else _MOST_SAMPLED // runs
    parts = [values[start : start + length][train[start : start + length]] for start in starts]
    memory.release(values)
    sample = np.concatenate(parts)
    flat: Array = sample.reshape(len(sample), -1).astype(np.float64)
    return flat


def _grid(values: Array, sample: Callable[[], Array], seen: _Summary) -> int | None:
    """Number of levels of the coarsest usual grid in [0, 1] with all values on it."""
    if seen.low < 0 or seen.high > 1 or seen.low == seen.high:
        return None
    if seen.whole:
        return 2
    for levels in _GRIDS:
        # Other rows are read only if the sample is on the grid.
        if _on_grid(sample(), levels, values.dtype) and all(
            _on_grid(np.asarray(values[rows], dtype=np.float64), levels, values.dtype)
            for rows in memory.blocks(values)
        ):
            return levels
    return None


def _on_grid(values: Array, levels: int, stored: np.dtype[Any]) -> bool:
    steps = values * float(levels - 1)
    return bool(np.abs(steps - np.rint(steps)).max() < rounding(levels, stored))


def _likelihood(
    given: str, levels: int | None, seen: _Summary, source: str
) -> tuple[Likelihood, str]:
    """The likelihood and the reason for it; an error if the values do not fit a given one."""
    span = f"values are in [{seen.low:g}, {seen.high:g}]"
    if given == "gaussian":
        return "gaussian", "as given"
    if given == "bernoulli":
        if levels is None and not (seen.low >= 0 and seen.high <= 1):
            raise ValueError(
                f'model.likelihood "bernoulli" needs values in [0, 1]; in {source} {span}'
            )
        return "bernoulli", "as given"
    if given == "discretized-logistic":
        if levels is None:
            raise ValueError(
                'model.likelihood "discretized-logistic" needs grey levels: integers from 0 to '
                f"255, or multiples of 1/(L - 1) in [0, 1]; in {source} {span}, not on such a grid"
            )
        return "discretized-logistic", "as given"
    if levels == 2:
        return "bernoulli", "because all values are 0 or 1"
    if levels is not None:
        return "discretized-logistic", f"because values are on {levels} grey levels"
    return "gaussian", f"because {span} and not on a grid of grey levels"


def _image_floor(seen: _Summary, scale: float, levels: int | None) -> float:
    """One floor for all pixels, since single pixels may be constant."""
    if levels is not None:
        return 1 / (levels - 1) / math.sqrt(12)
    spread = math.sqrt(float(np.square(seen.std).mean()) + float(np.var(seen.mean)))
    return _FLOOR_SHARE * spread / scale


def _learn_columns(
    values: Array,
    sample: Array,
    seen: _Summary,
    decimals: Array,
    columns: tuple[str, ...] | None,
    standardize: bool,
    source: str,
) -> tuple[dict[str, Any], list[str]]:
    """Learn the columns that vary, and their means, standard deviations and floors."""
    varies = seen.varies
    if not varies.any():
        raise ValueError(f"{source} has no column that varies in its training rows")
    notes, kept, constants = [], None, None
    if not varies.all():
        kept, constants = np.flatnonzero(varies), seen.mean
        notes.append(_left_out(np.flatnonzero(~varies), columns))
    std = seen.std[varies]
    _check_range(seen, std, np.flatnonzero(varies), columns, standardize, source)
    sample = sample[:, varies]
    notes += _flattened(values, sample, seen, std, columns)
    grid = column_grids(sample, decimals[varies])
    floor = np.minimum(grid / math.sqrt(12), _MOST_FLOOR_SHARE * std)
    floor = np.maximum(_FLOOR_SHARE * std, floor)
    learned: dict[str, Any] = {"kept": kept, "constants": constants}
    if standardize:
        learned |= {"shift": seen.mean[varies], "scale": std, "floor": floor / std}
        notes.append("columns are scaled to mean 0 and standard deviation 1")
    else:
        learned |= {"shift": np.asarray(0.0), "scale": np.asarray(1.0), "floor": floor}
    return learned, notes


def _check_range(
    seen: _Summary,
    std: Array,
    places: Array,
    columns: tuple[str, ...] | None,
    standardize: bool,
    source: str,
) -> None:
    """Reject columns whose variation floating-point numbers cannot represent."""
    with np.errstate(invalid="ignore"):
        bad = ~((std > _SMALLEST_STD) & (std < _LARGEST_STD))
        if not standardize:
            # Columns that are not standardised are converted to float32 unscaled.
            bad |= std < 100 * np.spacing(np.abs(seen.mean[places]).astype(np.float32))
    if bad.any():
        place = int(places[bad.argmax()])
        spread = std[bad.argmax()]
        name = repr(columns[place]) if columns else str(place + 1)
        amount = "little" if spread < _LARGEST_STD else "much"
        precision = "float32" if _SMALLEST_STD < spread < _LARGEST_STD else "float64"
        raise ValueError(
            f"column {name} of {source} varies too {amount} for {precision} ({spread:.3g} around "
            f"{seen.mean[place]:.3g}); rescale it" + ("" if standardize else ", or standardise it")
        )


def _flattened(
    values: Array, sample: Array, seen: _Summary, std: Array, columns: tuple[str, ...] | None
) -> list[str]:
    """Warnings about columns whose usual values are flattened by an extreme one."""
    places = np.flatnonzero(seen.varies)
    notes = []
    for crowd in crowded(sample, 2 * _FLOOR_SHARE * std):
        place = places[crowd.column]
        name = repr(columns[place]) if columns else str(place + 1)
        column = values.reshape(len(values), -1)[:, place]
        low, high = float(column.min()), float(column.max())
        extreme = high if high - crowd.high > crowd.low - low else low
        is_repeated = (column == extreme).sum() > 1
        remedy = (
            "if it marks missing values, fill them in or remove these rows"
            if is_repeated
            else "if it is an error, correct it or remove the row"
        )
        notes.append(
            f"warning: column {name} has the value {extreme:.10g}, so far from the others that "
            f"the model can hardly tell apart those from {crowd.low:.4g} to {crowd.high:.4g} "
            f"({crowd.share:.0%} of the training rows): {remedy}; otherwise transform the column, "
            "for example by a logarithm"
        )
    return notes


def _left_out(places: Array, columns: tuple[str, ...] | None) -> str:
    names = [repr(columns[i]) if columns else str(i + 1) for i in places]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    what = f"column {shown} is" if len(names) == 1 else f"columns {shown} are"
    return f"warning: {what} constant in the training rows; not used"


def _decimals(
    values: Array, seen: _Summary, types: tuple[np.dtype[Any], ...] | None = None
) -> Array:
    """Number of decimals of each column of tables, or of all values of arrays; -1 for any."""
    if seen.whole or values.ndim > 2:
        return np.where(seen.wholes, 0, -1)
    return count_decimals(values, seen.wholes, types)


def _merged(each: Array, shape: tuple[int, ...], several: Any) -> Array:
    """Values for each of a flat example as one () if all are equal; `several` for more axes."""
    if (each == each.flat[0]).all():
        return np.asarray(each.flat[0])
    return each if len(shape) == 1 else np.asarray(several)
