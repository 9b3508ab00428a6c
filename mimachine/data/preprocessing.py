"""Preprocessing: how the values of a file become the rows that a model sees, and back.

What was learned of the training data is kept as a value that is stored with the run, so that every
later command treats data in the same way and gives them back in their own units.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory

__all__ = [
    "Likelihood",
    "Preprocessing",
    "column_grids",
    "fingerprint",
    "learn",
]


Likelihood = Literal["gaussian", "bernoulli", "discretized-logistic"]
Array = NDArray[Any]
# Grids of the unit interval that images come in: 2^k levels, and the 17 of scikit-learn's digits.
_GRIDS = (2, 4, 8, 16, 17, 32, 64, 128, 256)
_MOST_SAMPLED = 20_000
_BLOCK_VALUES = 1 << 22
# The floor of a standard deviation, as a share of the column's.
_FLOOR_SHARE = 1e-3
# A column's grid may be as coarse as the column, such as a rare flag's; its floor must not be.
_MOST_FLOOR_SHARE = 0.5
_LARGEST_WHOLE = 2.0**53


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """Row of a datum: (values[kept] - shift) / scale, flattened; images as (C, H, W).

    Attributes:
        likelihood: The p(x|z) that the values call for, or that was asked for.
        shape: Shape (*S) of one datum in the file.
        columns: Names of the file's columns, where it has them.
        kept: Places, in a flat datum, of the D values that the model sees; None: all.
        constants: A flat datum with the values of the places that are not kept.
        shift: Of shape (D,) or ().
        scale: Of shape (D,) or (), positive.
        floor: Smallest standard deviation of a Gaussian p(x|z) in units of the row, (D,) or (): the
            grid that the values lie on / √12, where they do, and 1/1000 of the standard deviation
            at least.
        levels: Number of grid values in [0, 1], where the rows have them.
        image_shape: Channels, height and width, where a datum is an image.
        channels_last: Whether the file has the channels of an image last.
    """

    likelihood: Likelihood
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None
    kept: Array | None
    constants: Array | None
    shift: Array
    scale: Array
    floor: Array
    levels: int | None = None
    image_shape: tuple[int, int, int] | None = None
    channels_last: bool = True

    @property
    def num_features(self) -> int:
        """Number D of values in a row."""
        return math.prod(self.shape) if self.kept is None else len(self.kept)

    @property
    def log_volume(self) -> float:
        r"""Sum of the logarithms of the scales: what a density of rows has too much, in nats.

        .. math:: \log p(\text{values}) = \log p(\text{row}) - \sum_i \log \text{scale}_i
        """
        if self.likelihood != "gaussian":
            return 0.0  # The likelihood is a probability, which knows no units.
        scale = np.broadcast_to(self.scale, (self.num_features,))
        return float(np.log(scale).sum())

    @property
    def standardized(self) -> bool:
        """Whether every value of a row is in units of its own standard deviation."""
        return self.scale.ndim > 0

    def apply(self, values: Array) -> NDArray[np.float32]:
        """Values (n, *S) of a file as rows (n, D).

        Raises:
            ValueError: If a datum has another shape than the training data had.
        """
        if values.shape[1:] != self.shape:
            raise ValueError(
                f"data must have rows of shape {self.shape}, as the training data had, "
                f"got {values.shape[1:]}"
            )
        flat = self._channels_first(values).reshape(len(values), math.prod(self.shape))
        if self.kept is not None:
            flat = flat[:, self.kept]
        with np.errstate(over="ignore", invalid="ignore"):
            rows: NDArray[np.float32] = ((flat - self.shift) / self.scale).astype(np.float32)
        if not np.isfinite(rows).all():
            place = tuple((np.argwhere(~np.isfinite(rows))[0] + 1).tolist())
            raise ValueError(
                f"data must be numbers that single precision can hold; at row {place[0]} and value "
                f"{place[1]} of a block it cannot"
            )
        return rows

    def restore(self, rows: Array, on_grid: bool = False) -> Array:
        """Rows (n, D) as values (n, *S) in the file's units and shape.

        Args:
            rows: What the model sees, or gives.
            on_grid: Whether they are data or samples, which lie on the grid of the levels, where
                there is one, up to rounding.
        """
        rows = rows.astype(np.float64)
        if on_grid and self.levels is not None:
            rows = np.rint(rows * (self.levels - 1)) / (self.levels - 1)
        flat = rows * self.scale + self.shift
        if self.kept is not None and self.constants is not None:
            full = np.tile(self.constants.astype(np.float64), (len(rows), 1))
            full[:, self.kept] = flat
            flat = full
        if self.image_shape is not None:
            channels, height, width = self.image_shape
            flat = flat.reshape(-1, channels, height, width)
            if self.channels_last:
                flat = np.moveaxis(flat, 1, -1)
        return flat.reshape(len(rows), *self.shape)

    def _channels_first(self, values: Array) -> Array:
        """Images (n, H, W, C) as (n, C, H, W), in which rows are flattened."""
        if self.image_shape is not None and self.channels_last and values.ndim == 4:
            return np.moveaxis(values, -1, 1)
        return values

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        value = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in value.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """What `to_json` gave.

        Raises:
            ValueError: If something is missing or unknown.
        """
        read = dict(value)
        try:
            for name in ("kept", "constants", "shift", "scale", "floor"):
                if read[name] is not None:
                    read[name] = np.asarray(read[name])
            for name in ("shape", "columns", "image_shape"):
                if read[name] is not None:
                    read[name] = tuple(read[name])
            return cls(**read)
        except (KeyError, TypeError) as error:
            raise ValueError(f"preprocessing cannot be read: {error}") from error


def learn(
    values: Array,
    train: NDArray[np.bool_],
    likelihood: str = "auto",
    *,
    columns: tuple[str, ...] | None = None,
    standardize: bool = True,
    source: str = "data",
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Learn from the training rows of a file how to preprocess it.

    Args:
        values: Finite values, shape (N, *S).
        train: Which rows are for training, shape (N,). Only they are looked at, but for the range.
        likelihood: The likelihood, or "auto" for the one that the values call for: Bernoulli for
            zeros and ones, the discretised logistic for grey levels, else the Gaussian.
        columns: Names of the D columns of tables.
        standardize: Bring columns to mean 0 and standard deviation 1, where the likelihood is
            Gaussian and data are no images.
        source: What to call the data in messages.

    Returns:
        The preprocessing, and what was decided in words, one sentence each.

    Raises:
        ValueError: If the values do not fit the likelihood, or none of them varies.
    """
    seen = _look_at(values, train, source)
    image = _image_layout(values.shape[1:], seen.high - seen.low)
    pixels = seen.whole and seen.low >= 0 and 1 < seen.high <= 255
    is_pixels = pixels and (values.dtype == np.uint8 or image is not None)
    if likelihood == "discretized-logistic":
        is_pixels = pixels
    scale = 255.0 if is_pixels else 1.0
    levels = 256 if is_pixels else _grid(values, train, seen)
    chosen, reason = _likelihood(likelihood, levels, seen, source)
    in_unit_interval = seen.low >= 0 and seen.high <= scale
    notes = [f"likelihood: {chosen}, {reason}"]
    if chosen == "gaussian" and pixels and not is_pixels and values.shape[1:] > (63,):
        notes.append(
            "values are integers of 0 to 255; if they are pixels, "
            "--model.likelihood discretized-logistic fits them better"
        )
    common: dict[str, Any] = {
        "likelihood": chosen,
        "shape": values.shape[1:],
        "columns": columns,
        "levels": levels,
    }
    if image is not None and in_unit_interval:
        common |= {"image_shape": image.shape, "channels_last": image.channels_last}
    if chosen != "gaussian" or "image_shape" in common:
        floor = np.asarray(_image_floor(seen, scale, levels))
        unscaled: dict[str, Any] = {"kept": None, "constants": None, "shift": np.asarray(0.0)}
        learned = Preprocessing(**common, **unscaled, scale=np.asarray(scale), floor=floor)
        return learned, tuple(notes)
    columns_learned, more = _learn_columns(values, train, seen, columns, standardize, source)
    return Preprocessing(**common, **columns_learned), (*notes, *more)


class _Seen(NamedTuple):
    """What one pass over the values saw.

    Range of all values and whether they are whole numbers; of the columns of the training rows the
    mean, the standard deviation, and whether they vary.
    """

    low: float
    high: float
    whole: bool
    mean: Array
    std: Array
    varies: NDArray[np.bool_]


def _blocks(values: Array) -> Iterator[slice]:
    rows = max(1, _BLOCK_VALUES // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), rows):
        yield slice(start, start + rows)
        memory.release(values)


def _look_at(values: Array, train: NDArray[np.bool_], source: str) -> _Seen:
    low, high, whole = math.inf, -math.inf, True
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    first, varies = np.zeros(0), np.zeros(1, dtype=bool)
    for block in _blocks(values):
        now = np.asarray(values[block]).reshape(len(values[block]), -1)
        low, high = min(low, float(now.min())), max(high, float(now.max()))
        whole = whole and (now.dtype.kind in "biu" or bool((now == np.rint(now)).all()))
        now = now[train[block]].astype(np.float64)
        if not len(now):
            continue
        # Less one of them, or a large offset would take the digits.
        first = first if count else now[0].copy()
        now -= first
        varies = varies | (now != 0).any(0)
        # Means and squared deviations of two groups of rows put together (Chan et al., 1979).
        new_mean = now.mean(0)
        delta, total = new_mean - mean, count + len(now)
        # Squares of the very small and the very large are refused below.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            squares = squares + ((now - new_mean) ** 2).sum(0)
            squares = squares + delta**2 * (count * len(now) / total)
        mean, count = mean + delta * (len(now) / total), total
    if values.dtype.kind in "iu" and max(-low, high) > _LARGEST_WHOLE:
        raise ValueError(
            f"{source} has whole numbers up to {max(-low, high):.4g}, too large for floating-point "
            "numbers to tell apart; leave out such columns, or take an offset from them"
        )
    return _Seen(low, high, whole, first + mean, np.sqrt(squares / count), varies)


class _Layout(NamedTuple):
    shape: tuple[int, int, int]
    channels_last: bool


def _image_layout(shape: tuple[int, ...], spread: float) -> _Layout | None:
    """How data of a shape are images: (H, W), (H, W, C) or (C, H, W); None if they are not."""
    if len(shape) == 2 and min(shape) > 1 and spread > 0:
        return _Layout((1, *shape), channels_last=True)
    if len(shape) != 3:
        return None
    # Grey and colour before colour with transparency, which a small side may look like.
    for channels in ((1, 3), (4,)):
        if shape[-1] in channels:
            return _Layout((shape[2], shape[0], shape[1]), channels_last=True)
        if shape[0] in channels:
            return _Layout((shape[0], shape[1], shape[2]), channels_last=False)
    return None


def _sampled(values: Array, train: NDArray[np.bool_]) -> Array:
    """Some 20,000 training rows, flat: all there are, or runs of rows spread over the file."""
    runs = 100 if len(values) > 2 * _MOST_SAMPLED else 1
    # Single rows from all over a mapped file would bring all of it into memory.
    starts = np.linspace(0, len(values), runs, endpoint=False).astype(np.int64)
    length = len(values) if runs == 1 else _MOST_SAMPLED // runs
    parts = [values[start : start + length][train[start : start + length]] for start in starts]
    memory.release(values)
    sample = np.concatenate(parts)
    flat: Array = sample.reshape(len(sample), -1).astype(np.float64)
    return flat


def _grid(values: Array, train: NDArray[np.bool_], seen: _Seen) -> int | None:
    """Number of levels of the coarsest usual grid of [0, 1] that all values lie on."""
    if seen.low < 0 or seen.high > 1 or seen.low == seen.high:
        return None
    if seen.whole:
        return 2
    sample = _sampled(values, train)
    for levels in _GRIDS:
        steps = sample * float(levels - 1)
        if np.abs(steps - np.rint(steps)).max() < 1e-3:
            return levels
    return None


def _likelihood(asked: str, levels: int | None, seen: _Seen, source: str) -> tuple[Likelihood, str]:
    """The likelihood and why; an error if the values do not fit the one that was asked for."""
    span = f"values are in [{seen.low:g}, {seen.high:g}]"
    if asked == "gaussian":
        return "gaussian", "as asked for"
    if asked == "bernoulli":
        if levels is None and not (seen.low >= 0 and seen.high <= 1):
            raise ValueError(
                f'model.likelihood "bernoulli" needs values in [0, 1]; in {source} {span}'
            )
        return "bernoulli", "as asked for"
    if asked == "discretized-logistic":
        if levels is None:
            raise ValueError(
                'model.likelihood "discretized-logistic" needs grey levels: integers of 0 to 255, '
                f"or multiples of 1/(L - 1) in [0, 1]; in {source} {span}, and they are not"
            )
        return "discretized-logistic", "as asked for"
    if levels == 2:
        return "bernoulli", "for all values are 0 or 1"
    if levels is not None:
        return "discretized-logistic", f"for values are grey levels, {levels} of them"
    return "gaussian", f"for {span} and on no grid of grey levels"


def _image_floor(seen: _Seen, scale: float, levels: int | None) -> float:
    """One floor for all pixels: some of them may never vary."""
    if levels is not None:
        return 1 / (levels - 1) / math.sqrt(12)
    spread = math.sqrt(float(np.square(seen.std).mean()) + float(np.var(seen.mean)))
    return _FLOOR_SHARE * spread / scale


def _learn_columns(
    values: Array,
    train: NDArray[np.bool_],
    seen: _Seen,
    columns: tuple[str, ...] | None,
    standardize: bool,
    source: str,
) -> tuple[dict[str, Any], list[str]]:
    """Which columns vary, their mean, standard deviation and grid."""
    varies = seen.varies
    if not varies.any():
        raise ValueError(f"{source} has no column that varies in its training rows")
    notes, kept, constants = [], None, None
    if not varies.all():
        kept, constants = np.flatnonzero(varies), seen.mean
        notes.append(_left_out(np.flatnonzero(~varies), columns))
    std = seen.std[varies]
    _check_range(seen, std, np.flatnonzero(varies), columns, standardize, source)
    grid = column_grids(_sampled(values, train)[:, varies])
    floor = np.minimum(grid / math.sqrt(12), _MOST_FLOOR_SHARE * std)
    floor = np.maximum(_FLOOR_SHARE * std, floor)
    learned: dict[str, Any] = {"kept": kept, "constants": constants}
    if standardize:
        learned |= {"shift": seen.mean[varies], "scale": std, "floor": floor / std}
        notes.append("columns are brought to mean 0 and standard deviation 1")
    else:
        learned |= {"shift": np.asarray(0.0), "scale": np.asarray(1.0), "floor": floor}
    return learned, notes


def _check_range(
    seen: _Seen,
    std: Array,
    places: Array,
    columns: tuple[str, ...] | None,
    standardize: bool,
    source: str,
) -> None:
    """Refuse columns that floating-point numbers cannot hold the variation of."""
    with np.errstate(invalid="ignore"):
        bad = ~((std > 1e-150) & (std < 1e150))
        if not standardize:
            # What is not standardised goes to single precision as it is.
            bad |= std < 100 * np.spacing(np.abs(seen.mean[places]).astype(np.float32))
    if bad.any():
        place = int(places[bad.argmax()])
        name = repr(columns[place]) if columns else str(place + 1)
        raise ValueError(
            f"column {name} of {source} varies by {std[bad.argmax()]:.3g} around "
            f"{seen.mean[place]:.3g}, which single precision cannot tell; rescale it"
            + ("" if standardize else ", or have it standardised")
        )


def _left_out(places: Array, columns: tuple[str, ...] | None) -> str:
    names = [repr(columns[i]) if columns else str(i + 1) for i in places]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    what = f"column {shown} is" if len(names) == 1 else f"columns {shown} are"
    return f"warning: {what} constant in the training rows, and left out"


def column_grids(sample: Array) -> NDArray[np.float64]:
    """The step of the grid on which each column of (n, D) lies; 0 where there is none."""
    grids = np.zeros(sample.shape[1])
    for column in range(sample.shape[1]):
        values = sample[:, column] - sample[:, column].min()
        span = float(values.max())
        if span == 0:
            continue
        # 0.3 and 3 * 0.1 are the same number here.
        distinct = np.unique(np.round(values / span, 9))
        step = np.diff(distinct).min()
        # With more steps than this, rounding makes everything look like a grid or like none.
        if step < 1e-6:
            continue
        steps = distinct / step
        if np.abs(steps - np.rint(steps)).max() < 1e-2:
            grids[column] = span / np.rint(1 / step)
    return grids


def fingerprint(values: Array, labels: Array | None = None) -> str:
    """A hash of all values and labels, to see whether they changed; the same on every machine."""
    digest = hashlib.blake2b(f"{values.shape} {values.dtype.str[1:]}".encode(), digest_size=16)
    native = values.dtype.newbyteorder("<")
    for block in _blocks(values):
        digest.update(np.ascontiguousarray(values[block], dtype=native).data)
    if labels is not None:
        digest.update("\0".join(map(str, labels.tolist())).encode())
    return digest.hexdigest()
