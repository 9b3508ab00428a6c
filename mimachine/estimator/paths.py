"""Walk between the codes of two rows, and find the rows whose codes are nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.checks import whole
from mimachine.data.examples import all_examples
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.codes.nearest import nearest
from mimachine.estimator.base import Fitted
from mimachine.estimator.decoding import decoded
from mimachine.estimator.saved import of_trained
from mimachine.model.joint import Joint, check_joint
from mimachine.workflow.load_run import Trained

__all__ = ["interpolate", "neighbors"]

Model = Joint | Trained | Fitted


def interpolate(model: Model, start: Any, end: Any, steps: int = 9) -> Any:
    """Decode codes on the straight lines between the codes of rows.

    Args:
        model: A model, a run, or a fitted `MIMEncoder`.
        start: Rows where the lines begin, shape (n, *X): for a model tensors, otherwise data like
            those of training.
        end: Rows where they end, as many.
        steps: Number of rows on each line, both ends included.

    Returns:
        n * steps rows, line after line: means of p(x|z), for tables medians of numbers and the most
        probable levels. A tensor for a model, otherwise values like those of training.

    Raises:
        TypeError: If the model is of another kind.
        ValueError: If the rows cannot be used, `start` and `end` differ in length, or `steps` is
            less than 2.

    Example:
        >>> model = Joint(mm.Gaussian(MLP(3, 4)), mm.Gaussian(MLP(2, 6)), mm.StandardNormal(2))
        >>> mm.interpolate(model, torch.zeros(1, 3), torch.ones(1, 3), steps=5).shape
        torch.Size([5, 3])
    """
    steps, joint, fitted = whole("steps", steps, 2), *_parts(model)
    first, last = (_codes(joint, fitted, *each) for each in (("start", start), ("end", end)))
    if len(first) != len(last):
        raise ValueError(
            f"start and end must have as many rows as each other, got {len(first)} and {len(last)}"
        )
    share = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device)
    share = share.reshape(1, steps, *[1] * (first.dim() - 1))
    z = (1 - share) * first.unsqueeze(1) + share * last.unsqueeze(1)
    rows = decoded(joint, z.flatten(0, 1))
    return rows if fitted is None else fitted._reader.values(rows, drawn=False)


def neighbors(
    model: Model, x: Any, among: Any, n_neighbors: int = 5
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows whose codes are nearest, by the Euclidean distance of the means of q(z|x).

    Args:
        model: A model, a run, or a fitted `MIMEncoder`.
        x: Rows whose neighbours are searched, shape (n, *X): for a model a tensor, otherwise data
            like those of training.
        among: Rows to search, shape (m, *X). A row of `x` that is among them is its own neighbour.
        n_neighbors: Number k of neighbours, at most m.

    Returns:
        Indices of rows of `among`, nearest first, and their distances, each of shape (n, k).

    Raises:
        TypeError: If the model is of another kind.
        ValueError: If the rows cannot be used, or `n_neighbors` is out of range.

    Example:
        >>> model = Joint(mm.Gaussian(MLP(3, 4)), mm.Gaussian(MLP(2, 6)), mm.StandardNormal(2))
        >>> x = torch.rand(20, 3)
        >>> mm.neighbors(model, x[:2], x, n_neighbors=1)[0].tolist()
        [[0], [1]]
    """
    joint, fitted = _parts(model)
    points, queries = _codes(joint, fitted, "among", among), _codes(joint, fitted, "x", x)
    k = whole("n_neighbors", n_neighbors, 1)
    if k > len(points):
        raise ValueError(
            f"n_neighbors must be at most {len(points)}, the number of rows of among, got {k}"
        )
    points, queries = points.flatten(1).double(), queries.flatten(1).double()
    found = nearest(points, queries, k)
    distances = (points[found] - queries.unsqueeze(1)).norm(dim=-1)
    return found.cpu().numpy(), distances.cpu().numpy()


def _parts(model: Any) -> tuple[Joint, Any]:
    """The model, and the estimator that reads data for it, if they are not tensors."""
    if isinstance(model, Trained):
        model = of_trained(model)
    if isinstance(model, Fitted):
        return model.model_, model
    check_joint("model", model)
    return model, None


def _codes(model: Joint, fitted: Any, name: str, x: Any) -> Tensor:
    rows = all_examples(name, x, model) if fitted is None else fitted.rows(x)
    return codes(model, rows).mean
