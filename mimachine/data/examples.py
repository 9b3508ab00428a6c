"""Data that a caller gives: tensors, arrays, data frames and lists, brought to one form.

Every public function that takes data uses `examples` (rows for a model) or `numbers` (values to be
measured without a model), so all take the same kinds of data and refuse the same.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mimachine._support.checks import UNLIMITED, whole
from mimachine._support.memory import rows_at_once
from mimachine._support.messages import counted, some
from mimachine.data.rows import Rows
from mimachine.data.torch_data import collected, is_torch_data

__all__ = [
    "Examples",
    "all_examples",
    "as_tensor",
    "block_size",
    "check_finite",
    "class_numbers",
    "device_of",
    "examples",
    "like",
    "numbers",
    "reader_of_missing",
]

Examples = Tensor | NDArray[Any] | Rows | Any
"""Anything that `examples` takes; a data frame is known by its methods only."""

# Squares of larger numbers, and sums of them, may be beyond float64.
_LARGEST = 1e150
_LARGEST_BYTE = 255
# Types whose values float32 holds.
_SHORT = (
    *(torch.float16, torch.bfloat16, torch.float32),
    *(torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16),
)
_BLOCK_ROWS = 1 << 20


def like(model: object) -> Tensor | None:
    """A tensor with the dtype and the device of a model's data; None if it has no numbers.

    That is the first floating-point parameter, or else the first such buffer.
    """
    if not isinstance(model, nn.Module):
        return None
    tensors = itertools.chain(model.parameters(), model.buffers())
    return next((each for each in tensors if each.is_floating_point()), None)


def device_of(model: object) -> torch.device:
    """The device of a model's data."""
    place = like(model)
    return torch.device("cpu") if place is None else place.device


def reader_of_missing(model: object) -> nn.Module | None:
    """The part of a model's encoder that takes rows with missing and hidden values, if there is.

    Such a module, as `TableFeatures`, has an attribute `takes_missing` that is True.

    Args:
        model: A model, its encoder, or a loss or an ensemble of losses that has one.
    """
    # The model of an ensemble is not one of its modules.
    for each in (model, *getattr(model, "parts", ())):
        encoder = getattr(each, "encoder", each)
        for part in encoder.modules() if isinstance(encoder, nn.Module) else ():
            if getattr(part, "takes_missing", False) is True:
                return part
    return None


def examples(
    name: str,
    data: Any,
    model: object = None,
    *,
    least: int = 1,
    keep_bytes: bool = False,
    reader: nn.Module | None = None,
    missing: bool = False,
) -> Tensor | Rows:
    """Rows for a model, with the dtype and on the device of its parameters.

    Args:
        name: Name of the argument, for messages.
        data: Shape (N, *X): a tensor, anything that NumPy reads as an array of numbers, a data
            frame of numbers, a torch dataset or a loader of one in its order, or `Rows` of a file.
            Bytes k are grey values k / 255. Other whole numbers become floating-point numbers,
            unless the model looks them up in a table.
        model: The model, or a tensor of its dtype on its device; None keeps the device, and the
            dtype if it is floating-point.
        least: Smallest number of rows.
        keep_bytes: Leave bytes as they are, for a `TensorSource`, which converts batches.
        reader: The model's `reader_of_missing`, if `model` is a tensor. If a model has one, values
            may be missing (NaN) or hidden (inf), bytes are numbers like others, and the reader's
            `check_rows`, if it has such a method, checks the rows.
        missing: Whether values may be missing or hidden although no model is known.

    Raises:
        ValueError: If the data cannot be used; the message names the argument.
    """
    place = model if isinstance(model, Tensor) else like(model)
    reader = reader_of_missing(model) if reader is None else reader
    if isinstance(data, Rows):
        _check_count(name, len(data), least)
        return data if place is None else data.to(place.device, place.dtype)
    tensor = as_tensor(name, data)
    if tensor.dim() < 2 or not tensor[:1].numel():
        one = "; one row is x[None]" if tensor.dim() == 1 and name == "x" else ""
        raise ValueError(
            f"{name} must have shape (N, *X) with N of 1 or more, got {tuple(tensor.shape)}{one}"
        )
    _check_count(name, len(tensor), least)
    if place is not None:
        tensor = tensor.to(place.device)
    if reader is not None or missing:
        return _with_missing(name, tensor, None if place is None else place.dtype, reader)
    if tensor.dtype == torch.uint8 and keep_bytes:
        return tensor
    if tensor.dtype in (torch.int32, torch.int64) and _looks_up(model):
        return tensor
    converted = _as_floats(tensor, None if place is None else place.dtype)
    check_finite(name, converted, tensor)
    return converted


def _with_missing(
    name: str, tensor: Tensor, dtype: torch.dtype | None, reader: nn.Module | None
) -> Tensor:
    """Rows in floating point that may have NaN and inf, checked by the part that reads them."""
    if tensor.dtype == torch.uint8:
        tensor = tensor.to(torch.int16)
    converted = _as_floats(tensor, dtype)
    # A number beyond the range of the type becomes inf, which would count as hidden.
    known = tensor.isfinite()
    check_finite(name, torch.where(known, converted, 0), torch.where(known, tensor, 0))
    check = getattr(reader, "check_rows", None)
    if check is not None:
        check(name, converted)
    return converted


def _looks_up(model: object) -> bool:
    """Whether a model's encoder has a table of embeddings."""
    encoder = getattr(model, "encoder", model)
    parts = encoder.modules() if isinstance(encoder, nn.Module) else ()
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in parts)


def all_examples(name: str, data: Any, model: object = None, *, least: int = 1) -> Tensor:
    """`examples` as a tensor: the rows of a file are read."""
    rows = examples(name, data, model, least=least)
    return rows.tensor() if isinstance(rows, Rows) else rows


def block_size(rows: Tensor | Rows, batch_size: int | None) -> int:
    """Number of rows to go through at once: `batch_size`, or by default fewer if rows are long.

    Raises:
        ValueError: If `batch_size` is not a whole number of 1 or more.
    """
    if batch_size is None:
        return rows_at_once(rows.shape)
    return whole("batch_size", batch_size, 1, UNLIMITED)


def _check_count(name: str, count: int, least: int) -> None:
    if count < least:
        raise ValueError(f"{name} must have {counted(least, 'row')} or more, got {count}")


def _as_floats(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Values in floating point; bytes k become k / 255."""
    if dtype is None:
        whole = tensor.dtype in (torch.float32, torch.float64)
        dtype = tensor.dtype if whole else torch.get_default_dtype()
    if tensor.dtype == torch.uint8:
        return tensor.to(dtype).div_(_LARGEST_BYTE)
    return tensor.to(dtype)


def numbers(name: str, values: Any, *, squared: bool = False) -> Tensor:
    """Finite numbers of shape (N, *S), in float32 if it holds the values of their type, or float64.

    Without a model, bytes are numbers like others. One number per row becomes a row, (N, 1).

    Args:
        name: Name of the argument.
        values: The values.
        squared: Whether they are squared, so that large ones are of no use, see `check_squares`.

    Raises:
        ValueError: If the values cannot be used; the message names the argument.
    """
    tensor = as_tensor(name, values.tensor() if isinstance(values, Rows) else values)
    if tensor.dim() == 0:
        raise ValueError(f"{name} must have shape (N, ...), got a single number")
    if not tensor.numel():
        raise ValueError(f"{name} must have data, got shape {tuple(tensor.shape)}")
    converted = tensor.to(torch.float32 if tensor.dtype in _SHORT else torch.float64)
    check_finite(name, converted, tensor)
    if squared:
        check_squares(name, converted)
    return converted[:, None] if converted.dim() == 1 else converted


def check_squares(name: str, values: Tensor, most: float = _LARGEST) -> None:
    """Check that sums of squares of finite numbers do not overflow in float64.

    Args:
        name: Name of the argument.
        values: The values; others than float64 are not checked.
        most: The largest size.

    Raises:
        ValueError: If they may.
    """
    if values.dtype != torch.float64:
        return
    low, high = (float(each) for each in values.aminmax())
    if max(-low, high) > most:
        raise ValueError(
            f"{name} must be within [-{most:g}, {most:g}], or squares overflow, got "
            f"{low if -low > high else high:.3g}; rescale the values"
        )


def check_finite(name: str, values: Tensor, given: Tensor | None = None) -> None:
    """Check that values (N, *X) are finite.

    Args:
        name: Name of the argument.
        values: The values.
        given: The values before a conversion, which may have been finite.

    Raises:
        ValueError: If they are not; the message names rows.
    """
    rows = values[:, None] if values.dim() == 1 else values
    blocks = rows.split(rows_at_once(tuple(rows.shape), _BLOCK_ROWS))
    finite = torch.cat([block.flatten(1).isfinite().all(1) for block in blocks])
    if finite.all():
        return
    bad = torch.nonzero(~finite).flatten().tolist()
    which = f"{some(map(str, bad))} (counted from 0)"
    if given is not None and all(given[row].isfinite().all() for row in bad[:5]):
        raise ValueError(
            f"{name} must be within the range of {_of(values.dtype)}; "
            f"{counted(len(bad), 'row')} of {len(values):,} "
            f"{'is' if len(bad) == 1 else 'are'} not: {which}; rescale the values"
        )
    raise ValueError(
        f"{name} must be finite; {counted(len(bad), 'row')} of {len(values):,} "
        f"{'is' if len(bad) == 1 else 'are'} not: {which}; leave them out"
    )


def _of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- conversion ----------------------------------------------------------------------------------


def as_tensor(name: str, values: Any) -> Tensor:
    """Real numbers as a tensor, without a copy where possible, of any shape and real dtype.

    Raises:
        ValueError: If they are something else; the message names the argument.
    """
    if isinstance(values, list | tuple) and values and all(isinstance(v, Tensor) for v in values):
        values = _stacked(name, values)
    if is_torch_data(values):
        values = collected(name, values)
    if isinstance(values, Tensor):
        return _checked_tensor(name, values)
    if hasattr(values, "to_numpy") and hasattr(values, "columns"):
        values = _of_frame(name, values)
    elif hasattr(values, "to_numpy"):
        values = _column(name, values)
    elif not (hasattr(values, "__array__") or isinstance(values, list | tuple | int | float)):
        raise ValueError(f"{name} must be {_ACCEPTED}, got {_got(values)}")
    return _of_array(name, _array(name, values))


_ACCEPTED = "a tensor, an array, a data frame, a torch dataset or a list of rows"


def _got(values: Any) -> str:
    kind = f"{'an' if type(values).__name__[0] in 'AEIOU' else 'a'} {type(values).__name__}"
    if hasattr(values, "test") and hasattr(values, "train"):
        return f"{kind}: give one of its splits, such as data.test"
    if hasattr(values, "batches"):
        return f"{kind}: a source of batches is for training; give its rows"
    if hasattr(values, "__iter__") or hasattr(values, "__getitem__"):
        return f"{kind}: collect its rows in one tensor first, such as with torch.cat"
    return kind


def _stacked(name: str, values: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    try:
        return torch.stack(list(values))
    except (RuntimeError, TypeError) as error:
        shapes = sorted({tuple(each.shape) for each in values})[:3]
        raise ValueError(
            f"{name} must be rows of one shape on one device, got shapes {shapes}"
        ) from error


def _checked_tensor(name: str, values: Tensor) -> Tensor:
    if values.layout != torch.strided or values.is_nested:
        raise ValueError(f"{name} must be a dense tensor, got the layout {values.layout}")
    if values.is_complex() or values.is_quantized:
        raise ValueError(f"{name} must be of real numbers, got the type {values.dtype}")
    return values.detach()


def _array(name: str, values: Any) -> NDArray[Any]:
    try:
        array = np.asanyarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be an array, got rows of different shapes") from error
    if isinstance(array, np.ma.MaskedArray):
        if array.mask.any():
            raise ValueError(f"{name} must not have masked values, got {int(array.mask.sum()):,}")
        array = np.asarray(array.data)
    plain: NDArray[Any] = array
    return plain


def _of_array(name: str, array: NDArray[Any]) -> Tensor:
    """An array of any real type, byte order and strides as a tensor."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be of numbers, got the type {array.dtype}")
    native = array.dtype.newbyteorder("=")
    if native.itemsize > 8 or native in (np.uint32, np.uint64):
        native = np.dtype(np.float64)
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=native).reshape(array.shape)
    # torch warns about arrays that are not writable.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _of_frame(name: str, frame: Any) -> NDArray[Any]:
    """The columns of a data frame of pandas or polars, side by side, shape (N, D)."""
    names = [str(each) for each in frame.columns]
    column = frame.iloc.__getitem__ if hasattr(frame, "iloc") else frame.to_series
    at = (lambda i: column((slice(None), i))) if hasattr(frame, "iloc") else column
    columns = [_column(f"column {title!r} of {name}", at(i)) for i, title in enumerate(names)]
    if not columns:
        raise ValueError(f"{name} must have columns, got none")
    return np.stack(columns, 1)


def _column(name: str, column: Any) -> NDArray[Any]:
    """A column of a data frame; those of pandas with missing values have them as NaN."""
    array = np.asarray(column.to_numpy())
    if array.dtype.kind == "O" and getattr(column.dtype, "kind", "O") in "biuf":
        array = np.asarray(column.to_numpy(dtype="float64", na_value=np.nan))
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be of numbers, got the type {column.dtype}; leave it out or encode it"
        )
    return array


# --- classes -------------------------------------------------------------------------------------


def class_numbers(**labels: Any) -> list[Tensor]:
    """Numbers of the classes of rows, the same number for the same label in all arguments.

    Args:
        labels: Arguments by name: numbers or text, each of shape (N,) or (N, 1).

    Raises:
        ValueError: If labels are missing, or are not one number or text for each row.
    """
    arrays = [_labels(name, values) for name, values in labels.items()]
    if len({array.dtype.kind in "US" for array in arrays}) > 1:
        raise ValueError(f"{' and '.join(labels)} must both be numbers, or both text")
    _, places = np.unique(np.concatenate(arrays), return_inverse=True)
    return list(torch.from_numpy(places.reshape(-1)).split([len(array) for array in arrays]))


def _labels(name: str, values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    elif hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind not in "biufUS":
        raise ValueError(f"{name} must be numbers or text, got the type {array.dtype}")
    array = array[:, 0] if array.shape[1:] == (1,) else array
    if array.ndim != 1:
        raise ValueError(
            f"{name} must have shape (N,), got {array.shape}; of one-hot rows give {name}.argmax(1)"
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(
            f"{name} must not be missing; row {int(np.isnan(array).argmax())} (counted from 0) is"
        )
    return array
