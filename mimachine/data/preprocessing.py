"""Preprocessing: map values of a file to the rows that a model sees, and back.

The parameters are learned from the training data and stored with the run, so that every later
command applies the same preprocessing and returns results in the original units.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.schema import Checked, validated
from mimachine.data import stored_preprocessing

__all__ = ["Likelihood", "Preprocessing", "column_grids", "fingerprint", "learn"]

Likelihood = Literal["gaussian", "bernoulli", "discretized-logistic"]
# In fields of `Preprocessing`, a number or a list of numbers in JSON.
Array = Annotated[NDArray[Any], Checked(stored_preprocessing.as_array)]
# Usual grids of images in [0, 1]: 2^k levels, and the 17 levels of scikit-learn's digits.
_GRIDS = (2, 4, 8, 16, 17, 32, 64, 128, 256)
_MOST_SAMPLED = 20_000
_BLOCK_VALUES = 1 << 22
# Least floor of a standard deviation, as a fraction of the column's.
_FLOOR_SHARE = 1e-3
# Largest floor, for columns with a grid as coarse as their spread, such as rare flags.
_MOST_FLOOR_SHARE = 0.5
_LARGEST_WHOLE = 2.0**53
# Beyond these, squares under- or overflow in float64.
_SMALLEST_STD, _LARGEST_STD = 1e-150, 1e150


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """Parameters of preprocessing: a row is (values[kept] - shift) / scale, images as (C, H, W).

    Attributes:
        likelihood: The p(x|z), given by the user or chosen by the values.
        shape: Shape (*S) of one example in the file.
        columns: Names of the file's columns, if it has them.
        kept: Indices, in a flat example, of the D values that the model sees; None for all.
        constants: A flat example with the values that are not kept.
        shift: Shape (D,) or ().
        scale: Shape (D,) or (), positive.
        floor: Smallest standard deviation of a Gaussian p(x|z) in units of the row, (D,) or (): the
            step of the values' grid / √12, if there is one, and at least 1/1000 of the standard
            deviation.
        levels: Number of levels of the grid in [0, 1], if values are on a grid.
        image_shape: Channels, height and width, if examples are images.
        channels_last: Whether images in the file have their channels last.
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
        r"""Log-density of rows minus log-density of values, in nats: the sum of the log scales.

        .. math:: \log p(\text{values}) = \log p(\text{row}) - \sum_i \log \text{scale}_i
        """
        if self.likelihood != "gaussian":
            return 0.0  # The likelihood is a probability, which has no units.
        scale = np.broadcast_to(self.scale, (self.num_features,))
        return float(np.log(scale).sum())

    @property
    def standardized(self) -> bool:
        """Whether each value of a row is in units of its standard deviation."""
        return self.scale.ndim > 0

    def apply(self, values: Array) -> NDArray[np.float32]:
        """Map values (n, *S) of a file to rows (n, D).

        Raises:
            ValueError: If the shape differs from the training data, or a value exceeds float32.
        """
        if values.shape[1:] != self.shape:
            raise ValueError(
                f"data must have rows of shape {self.shape}, as the training data, "
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
                f"data must be within the range of float32; value {place[1]} in row {place[0]} of "
                "a block is not"
            )
        return rows

    def restore(self, rows: Array, on_grid: bool = False) -> Array:
        """Map rows (n, D) to values (n, *S) in the file's units and shape.

        Args:
            rows: Input or output of the model.
            on_grid: Whether to round to the grid of levels, if there is one, as for data and
                samples.
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
        """Images (n, H, W, C) as (n, C, H, W), the order in which rows are flattened."""
        if self.image_shape is not None and self.channels_last and values.ndim == 4:
            return np.moveaxis(values, -1, 1)
        return values

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        value = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in value.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Inverse of `to_json`.

        Raises:
            ValueError: If an entry is missing, unknown, impossible or contradicts another.
        """
        learned = validated(cls, value, "preprocessing cannot be read")
        try:
            stored_preprocessing.check(learned)
        except ValueError as error:
            raise ValueError(f"preprocessing cannot be read: {error}") from error
        return learned


def learn(
    values: Array,
    train: NDArray[np.bool_],
    likelihood: str = "auto",
    *,
    columns: tuple[str, ...] | None = None,
    standardize: bool = True,
    source: str = "data",
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Learn the preprocessing of a file from its training rows.

    Args:
        values: Finite values, shape (N, *S).
        train: Mask of training rows, shape (N,). Other rows are used only for the range.
        likelihood: The likelihood, or "auto" to choose it by the values: Bernoulli for zeros and
            ones, discretised logistic for grey levels, otherwise Gaussian.
        columns: Names of the D columns of tables.
        standardize: Scale columns to mean 0 and standard deviation 1, if the likelihood is
            Gaussian and examples are not images.
        source: Name of the data in messages.

    Returns:
        The preprocessing, and notes on its decisions, one sentence each.

    Raises:
        ValueError: If the values do not fit the likelihood, or no column varies.
    """
    seen = _summary(values, train, source)
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
            "values are integers from 0 to 255; if they are pixels, "
            "the likelihood discretized-logistic fits them better"
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


class _Summary(NamedTuple):
    """Statistics of values from one pass.

    Range of all values and whether they are integers; mean and standard deviation of each column
    in the training rows, and whether it varies.
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


def _summary(values: Array, train: NDArray[np.bool_], source: str) -> _Summary:
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
    if values.dtype.kind in "iu" and max(-low, high) > _LARGEST_WHOLE:
        raise ValueError(
            f"{source} has integers up to {max(-low, high):.4g}, too large to distinguish as "
            "floating-point numbers; leave out such columns, or subtract an offset"
        )
    return _Summary(low, high, whole, first + mean, np.sqrt(squares / count), varies)


class _Layout(NamedTuple):
    shape: tuple[int, int, int]
    channels_last: bool


def _image_layout(shape: tuple[int, ...], spread: float) -> _Layout | None:
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


def _grid(values: Array, train: NDArray[np.bool_], seen: _Summary) -> int | None:
    """Number of levels of the coarsest usual grid in [0, 1] with all values on it."""
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
    train: NDArray[np.bool_],
    seen: _Summary,
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
    grid = column_grids(_sampled(values, train)[:, varies])
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


def _left_out(places: Array, columns: tuple[str, ...] | None) -> str:
    names = [repr(columns[i]) if columns else str(i + 1) for i in places]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    what = f"column {shown} is" if len(names) == 1 else f"columns {shown} are"
    return f"warning: {what} constant in the training rows; not used"


def column_grids(sample: Array) -> NDArray[np.float64]:
    """Step of the grid of each column of (n, D); 0 for a column that is not on a grid."""
    grids = np.zeros(sample.shape[1])
    for column in range(sample.shape[1]):
        values = sample[:, column] - sample[:, column].min()
        span = float(values.max())
        if span == 0:
            continue
        # 0.3 and 3 * 0.1 are the same number here.
        distinct = np.unique(np.round(values / span, 9))
        step = np.diff(distinct).min()
        # On finer grids, rounding errors hide whether there is a grid.
        if step < 1e-6:
            continue
        steps = distinct / step
        if np.abs(steps - np.rint(steps)).max() < 1e-2:
            grids[column] = span / np.rint(1 / step)
    return grids


def fingerprint(values: Array, labels: Array | None = None) -> str:
    """Hash of all values and labels, to detect changes; the same on every machine."""
    digest = hashlib.blake2b(f"{values.shape} {values.dtype.str[1:]}".encode(), digest_size=16)
    native = values.dtype.newbyteorder("<")
    for block in _blocks(values):
        digest.update(np.ascontiguousarray(values[block], dtype=native).data)
    if labels is not None:
        digest.update("\0".join(map(str, labels.tolist())).encode())
    return digest.hexdigest()
