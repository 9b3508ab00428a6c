"""What `fit` gets as X, as rows of a model, and rows of a model as values like X."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array
from torch import Tensor

from mimachine._support.memory import check_fits
from mimachine._support.messages import some
from mimachine.data.dataset import Dataset
from mimachine.data.files.columns import check_unique
from mimachine.data.files.load import blank_dataset, data_record, load_array
from mimachine.data.files.options import File
from mimachine.data.files.splits import HoldOut
from mimachine.data.preprocessing import fingerprint
from mimachine.data.tables.frames import frame_of_objects
from mimachine.data.tables.load import load_table
from mimachine.data.tables.read import read_as_stored, read_frame
from mimachine.data.tables.rows import encode
from mimachine.data.tables.schema import Schema
from mimachine.workflow.tables.apply_table import filled_in, holes_of
from mimachine.workflow.tables.stored_frame import FRAME, is_frame

__all__ = ["ARRAY", "Reader", "are_images", "given", "read", "without_rows"]

# Name of the file of an array in a run.
ARRAY = "array.npy"
Container = Literal["array", "pandas", "polars", "pyarrow"]
_SOURCE = "X"


@dataclass(frozen=True, eq=False)
class Reader:
    """How X becomes rows of a model, and rows become values like X.

    Attributes:
        data: The training data without their rows: schema or preprocessing.
        names: Names of the columns of a table; None for arrays of numbers and images.
        container: What X was in training.
        dtype: Type of the values of an array in training.
        dtypes: Types of the columns of a data frame of pandas by their names.
        columns: Names of the columns of a data frame that is modelled as an array of numbers.
    """

    data: Dataset
    names: tuple[str, ...] | None
    container: Container
    dtype: np.dtype[Any]
    dtypes: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None

    @property
    def is_table(self) -> bool:
        """Whether columns have kinds."""
        return self.data.schema is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        if self.names is not None:
            return (len(self.names),)
        assert self.data.preprocessing is not None
        return self.data.preprocessing.shape

    def rows(self, x: Any, estimator: object) -> Tensor:
        """Rows (N, D) of X, which has the columns of training.

        Args:
            x: A data frame or an array.
            estimator: For messages.

        Raises:
            ValueError: If X cannot be used, or has other kinds of values than in training.
        """
        x = _as_values(x, estimator, is_image=len(self.shape) > 1, missing=self.is_table)
        if self.data.schema is not None:
            return torch.from_numpy(self._encoded(x, self.data.schema))
        assert self.data.preprocessing is not None
        values = _numbers(x, estimator)
        self._check_range(values)
        return torch.from_numpy(self.data.preprocessing.apply(values))

    def _encoded(self, x: Any, schema: Schema) -> NDArray[np.float32]:
        """Rows of a table; warns of values that differ from those of training."""
        assert self.names is not None
        frame = read_frame(_frame(x, self.names), types=schema.types(), formats=schema.formats())
        rows, notes = encode(frame, schema)
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=4)
        return rows

    def _check_range(self, values: NDArray[Any]) -> None:
        learned = self.data.preprocessing
        assert learned is not None
        if learned.likelihood == "gaussian" or not len(values):
            return
        low, high, most = float(values.min()), float(values.max()), float(learned.scale)
        if low < 0 or high > most:
            raise ValueError(
                f"X must have values in [0, {most:g}], as in training, got [{low:g}, {high:g}]"
            )

    def values(self, rows: Tensor, *, drawn: bool) -> Any:
        """Values like X in training: its container, columns, shape and types.

        Args:
            rows: Output of the decoder, shape (N, D).
            drawn: Whether they are samples rather than means; samples are rounded as the data are.
        """
        import polars as pl

        if self.is_table:
            return self.like_x(self.data.table(rows))
        values = self.data.restore(rows, drawn)
        if self.columns is not None:
            return self.like_x(pl.DataFrame(dict(zip(self.columns, values.T, strict=True))))
        is_whole = drawn and values.dtype.kind in "biu"
        dtype = self.dtype if is_whole or self.dtype.kind == "f" else values.dtype
        return values.astype(dtype, copy=False)

    def for_data(self, x: Any, held_out: HoldOut, estimator: object) -> Reader:
        """The same for other training data.

        Args:
            x: The data.
            held_out: Choice of the rows for validation.
            estimator: For messages.

        Raises:
            ValueError: As for `rows`.
        """
        x = _as_values(x, estimator, is_image=len(self.shape) > 1, missing=self.is_table)
        data = replace(self.data, fingerprint=self._mark(x, estimator), held_out=held_out, notes=())
        return replace(self, data=data)

    def _mark(self, x: Any, estimator: object) -> str:
        """Fingerprint of data, as of a file with them."""
        if self.data.schema is not None:
            return fingerprint(self._encoded(x, self.data.schema))
        return fingerprint(_numbers(x, estimator))

    def store(self, x: Any, directory: Path, estimator: object) -> None:
        """Write the training data to a run directory.

        Args:
            x: The data that `read` was given.
            directory: The run directory.
            estimator: For messages.

        Raises:
            ValueError: If X is not the data of training.
        """
        x = _as_values(x, estimator, is_image=len(self.shape) > 1, missing=self.is_table)
        if self._mark(x, estimator) != self.data.fingerprint:
            raise ValueError("X must be the data that the estimator was fitted to, got other data")
        if self.names is None:
            np.save(directory / ARRAY, _numbers(x, estimator))
        else:
            read_as_stored(_frame(x, self.names)).write_parquet(directory / FRAME)

    def filled_frame(self, x: Any, rows: Tensor, complete: Any) -> Any:
        """A data frame with values in its holes, of the library and with the index of `x`.

        Args:
            x: The data frame.
            rows: Its rows, shape (N, D).
            complete: A table of polars with all values of the modelled columns.
        """
        schema = self.data.schema
        assert schema is not None
        table = read_as_stored(x)
        filled = self.like_x(filled_in(table, complete, schema, holes_of(table, schema, rows)))
        if self.container == "pandas" and hasattr(x, "index"):
            filled.index = x.index
        return filled

    def like_x(self, table: Any) -> Any:
        """A table of polars in the container of X, with all columns of X that it has."""
        if self.container == "polars":
            return table
        if self.container == "pyarrow":
            return table.to_arrow()
        if self.container == "pandas":
            return _pandas(table, self.dtypes)
        return _array(table)


def read(
    x: Any, likelihood: str, columns: Any, held_out: HoldOut, estimator: object
) -> tuple[Reader, Dataset]:
    """Read the training data; returns how later data are read, and the data with their splits.

    Args:
        x: A data frame, or an array of rows (N, D) or images (N, H, W) or (N, H, W, C).
        likelihood: As in `experiment.Model`; "auto" gives kinds to the columns of data frames, and
            of arrays with text or missing values. "numbers" is "auto" for an array of numbers.
        columns: Kinds of columns, as for `File.columns`; None to infer them.
        held_out: Choice of the rows for validation.
        estimator: For messages.

    Raises:
        ValueError: If X cannot be used.
    """
    is_image = are_images(x)
    missing = likelihood in ("auto", "columns") and not is_image
    x = _as_values(x, estimator, is_image=is_image, missing=missing)
    if len(x) == 1:
        raise ValueError("X must have 2 rows or more, one of them for validation, got 1 sample")
    if not _by_columns(x, likelihood, columns):
        values = _numbers(x, estimator)
        data = load_array(values, likelihood, held_out, _SOURCE)
        columns = _names(x) if is_frame(x) else None
        blank = without_rows(data)
        return Reader(blank, None, _container(x), values.dtype, columns=columns), data
    names = _names(x)
    file = File() if columns is None else File(columns=columns)
    data = load_table(_frame(x, names), file, held_out=held_out)
    assert data.schema is not None
    if not data.schema.modelled:
        raise ValueError(
            f"X has no column that can be modelled; its columns are {some(map(repr, names))}"
        )
    dtype = np.dtype(np.float64 if is_frame(x) else x.dtype)
    container = _container(x)
    dtypes = dict(zip(names, x.dtypes, strict=True)) if container == "pandas" else {}
    return Reader(without_rows(data), names, container, dtype, dtypes), data


def are_images(x: Any) -> bool:
    """Whether X has more axes than a table."""
    if is_frame(x):
        return False
    return (x.ndim if hasattr(x, "ndim") else np.asarray(x).ndim) in (3, 4)


def given(x: Any) -> Any:
    """The argument X, collected if it is lazy.

    Raises:
        ValueError: If columns of a data frame have the same name.
    """
    import polars as pl

    x = x.collect() if isinstance(x, pl.LazyFrame) else x
    if is_frame(x) and getattr(x.columns, "nlevels", 1) == 1:
        check_unique(_names(x), _SOURCE)
    return x


def _as_values(x: Any, estimator: object, *, is_image: bool, missing: bool) -> Any:
    """A data frame as it is, and anything else as an array.

    Args:
        x: A data frame, an array, a sparse matrix or a list.
        estimator: For messages.
        is_image: Whether rows are images.
        missing: Whether values may be text or missing.

    Raises:
        ValueError: If it is no array of numbers, or for tables of values.
    """
    if is_frame(x):
        return x
    if hasattr(x, "toarray"):
        check_fits(
            f"the {x.shape[0]:,} rows of {x.shape[1]:,} values of the sparse X",
            x.shape,
            8,
            "use fewer columns",
        )
        x = x.toarray()
    options: dict[str, Any] = {
        "estimator": estimator,
        "input_name": _SOURCE,
        "allow_nd": is_image,
        "ensure_all_finite": "allow-nan" if missing else True,
    }
    of_objects = {**options, "ensure_all_finite": False, "dtype": object}
    if missing and getattr(x, "dtype", np.dtype(float)).kind in "mM":
        return check_array(x, **of_objects)
    try:
        x = check_array(x, dtype="numeric", **options)
    except ValueError:
        objects = np.asarray(x) if missing else np.zeros(0)
        if objects.dtype.kind not in "OUS" or objects.ndim != 2:
            raise
        return check_array(x, **of_objects)
    is_long = x.dtype.kind == "f" and x.dtype.itemsize > 8
    return x.astype(np.float64) if is_long else x


def _by_columns(x: Any, likelihood: str, columns: Any) -> bool:
    """Whether the columns of training data get kinds."""
    if not is_frame(x) and x.ndim > 2:
        if likelihood == "columns" or columns is not None:
            what = 'likelihood "columns" is' if columns is None else "columns are"
            raise ValueError(f"{what} for tables, and X has images of shape {x.shape[1:]}")
        return False
    if likelihood not in ("auto", "columns"):
        if columns is not None:
            raise ValueError(f'columns are for likelihood "auto" or "columns", got {likelihood!r}')
        return False
    if likelihood == "columns" or columns is not None or is_frame(x):
        return True
    return x.dtype == object or (x.dtype.kind == "f" and bool(np.isnan(x).any()))


def _numbers(x: Any, estimator: object) -> NDArray[Any]:
    """An array of finite numbers."""
    if is_frame(x):
        x = x.to_numpy() if hasattr(x, "to_numpy") else np.column_stack(x.columns)
        x = check_array(x, dtype="numeric", estimator=estimator, input_name=_SOURCE)
    return np.ascontiguousarray(x)


def _container(x: Any) -> Container:
    if not is_frame(x):
        return "array"
    root = type(x).__module__.partition(".")[0]
    if root == "pandas":
        return "pandas"
    return "pyarrow" if root == "pyarrow" else "polars"


def _names(x: Any) -> tuple[str, ...]:
    if is_frame(x):
        return tuple(map(str, getattr(x, "column_names", x.columns)))
    return tuple(f"x{k}" for k in range(x.shape[1]))


def _frame(x: Any, names: Sequence[str]) -> Any:
    """A data frame whose columns have these names."""
    import polars as pl

    if is_frame(x):
        return x
    if x.dtype == object:
        return frame_of_objects(x, names)
    return pl.DataFrame({name: x[:, k] for k, name in enumerate(names)})


def without_rows(data: Dataset) -> Dataset:
    """Data without their rows: with schema or preprocessing."""
    blank = blank_dataset(data_record(data), data.name)
    return replace(blank, fingerprint=data.fingerprint)


def _pandas(table: Any, dtypes: Mapping[str, Any]) -> Any:
    """A table of polars as one of pandas with these types of columns, also without pyarrow."""
    pd: Any = import_module("pandas")

    columns = {}
    for series in table.get_columns():
        dtype = dtypes.get(series.name)
        is_plain = series.dtype.is_float() or (
            not series.null_count()
            and (series.dtype.is_integer() or str(series.dtype) == "Boolean")
        )
        if is_plain:
            column = pd.Series(series.to_numpy())
        else:
            column = pd.Series(series.to_list(), dtype=object)
        columns[series.name] = column.infer_objects() if dtype is None else column.astype(dtype)
    return pd.DataFrame(columns)


def _array(table: Any) -> NDArray[Any]:
    """A table of polars as an array of numbers, or of objects if not all columns are numbers."""
    import polars as pl

    if all(dtype.is_numeric() or dtype == pl.Boolean for dtype in table.dtypes):
        values: NDArray[Any] = table.cast(pl.Float64).fill_null(np.nan).to_numpy()
        return values
    return np.array([column.to_list() for column in table.get_columns()], dtype=object).T
