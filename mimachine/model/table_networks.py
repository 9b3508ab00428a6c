"""Networks of a table's rows: features for an encoder, and a decoder of all columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mimachine._support.checks import function, real
from mimachine.model import table_columns
from mimachine.model.conditionals import full_precision
from mimachine.model.table_columns import Choice, TableColumn
from mimachine.model.table_distribution import TableDistribution
from mimachine.model.tables.layout import Layout
from mimachine.model.tables.quantile_map import precise
from mimachine.model.tables.start import start_of_parameters, start_of_tables

__all__ = ["TableDecoder", "TableFeatures"]

# Normal scores beyond these are outliers, which should not saturate a network.
_LARGEST_SCORE = 6.0
# Share of the rows of which values are hidden in training. With all rows, columns are reconstructed
# less well; with none, values are imputed and likelihoods are worse.
_SHARE_IN_PART = 0.5


class TableFeatures(nn.Module):
    """Features of rows for an encoder: normal scores, one-hot levels, and which values are known.

    For each `Grid` the normal score T(k) of its value, within ±6; then every level of every
    `Choice`, 1 for the row's; then for each column whether its value is known. Where a value is
    missing (NaN) or hidden (inf) all are 0. The attribute `takes_missing` tells functions that
    take data that rows may have such values.

    An encoder that learns from rows with hidden values knows the codes of rows that are known in
    part. The decoder still learns from the whole rows.

    Args:
        columns: The columns.
        hide: Largest share of a row's values that are hidden in training mode, in [0, 1]. Half of
            the rows stay whole; each other one has a share of its own from U(0, hide), with which
            each of its values is hidden.

    Shape:
        (..., D) to (..., F), with F given by `TableFeatures.num_features(columns)`.

    Example:
        >>> columns = [mm.Grid((-0.5, 0.5, 1.5), (-1.0, 0.0, 1.0)), mm.Choice((0.5, 0.5))]
        >>> mm.TableFeatures(columns)(torch.tensor([[1.0, torch.nan]]))
        tensor([[0.5000, 0.0000, 0.0000, 1.0000, 0.0000]])
    """

    num_features = staticmethod(table_columns.num_features)
    takes_missing = True

    def __init__(self, columns: Sequence[TableColumn], hide: float = 0.0) -> None:
        super().__init__()
        self._layout = Layout(columns)
        self.hide = real("hide", hide, 0)
        if hide > 1:
            raise ValueError(f"hide must be at most 1, got {hide}")

    @property
    def columns(self) -> tuple[TableColumn, ...]:
        """The columns."""
        return self._layout.columns

    def extra_repr(self) -> str:
        """Sizes for `repr`."""
        return f"{len(self.columns)}, {self.num_features(self.columns)}"

    def forward(self, rows: Tensor) -> Tensor:
        """Map (..., D) to (..., F)."""
        self._check_width("rows", rows)
        if self.training and self.hide:
            rows = torch.where(self._hidden(rows), torch.inf, rows)
        constants, known = self._layout.on(rows.device), rows.isfinite()
        parts = [known.to(rows.dtype)]
        if self._layout.choices:
            levels = rows.index_select(-1, constants.slot_columns)
            parts.insert(0, (levels == constants.slot_levels).to(rows.dtype))
        if constants.maps is not None:
            is_known = known.index_select(-1, constants.grids)
            steps = torch.where(is_known, rows.index_select(-1, constants.grids), 0.0)
            scores = constants.maps.scores_at(steps.to(precise(rows.device)))
            scores = scores.clamp(-_LARGEST_SCORE, _LARGEST_SCORE).to(rows.dtype)
            parts.insert(0, torch.where(is_known, scores, 0.0))
        return torch.cat(parts, -1)

    def _hidden(self, rows: Tensor) -> Tensor:
        """Which values are hidden in training, of the shape of the rows."""
        share, chosen = (torch.rand(*rows.shape[:-1], 1, device=rows.device) for _ in range(2))
        share = torch.where(chosen < _SHARE_IN_PART, self.hide * share, 0.0)
        return torch.rand(rows.shape, device=rows.device) < share

    def check_rows(self, name: str, rows: Tensor) -> None:
        """Check that rows have the table's columns, with values that these can take.

        Args:
            name: Name of the argument, for messages.
            rows: Shape (N, D).

        Raises:
            ValueError: If they have not; the message names column and row.
        """
        self._check_width(name, rows)
        constants = self._layout.on(rows.device)
        values = torch.where(rows.isfinite(), rows, torch.nan).to(precise(rows.device))
        outside = (values < constants.low) | (values > constants.high)
        bad = outside | (values != values.round()) & ~values.isnan() | rows.isneginf()
        if not bad.any():
            return
        row, column = (int(each) for each in bad.nonzero()[0])
        raise ValueError(
            f"{name} must have {_expected(self.columns[column])}, NaN (missing) or inf (hidden) in "
            f"column {column}, got {float(rows[row, column]):.9g} in row {row} (counted from 0)"
        )

    def _check_width(self, name: str, rows: Tensor) -> None:
        if rows.shape[-1:] != (len(self.columns),):
            raise ValueError(
                f"{name} must have {len(self.columns)} values per row, one for each column of the "
                f"table, got {rows.shape[-1] if rows.dim() else 'a single number'}"
            )


def _expected(column: TableColumn) -> str:
    if isinstance(column, Choice):
        return f"levels 0 to {column.levels - 1}"
    limits = [f" from {column.low:.9g}"] if column.low is not None else []
    if column.high is not None:
        limits.append(f" up to {column.high:.9g}")
    return f"whole numbers of steps{''.join(limits)}"


class TableDecoder(nn.Module):
    """Decoder of the rows of a table: a network gives the parameters of each column.

    The model starts at the shares of the columns, to which the network's output is added. The table
    of each column with a parent is a parameter of its own, started from counts: a network would
    hardly learn that one column settles another.

    Args:
        columns: The columns.
        network: Maps (B, ...) to (B, P), with P given by `TableDecoder.num_outputs(columns)`.
        floor: Smallest scale of the logistics of grids, in normal scores.

    Raises:
        ValueError: If the columns do not fit together, or `floor` is not positive.

    Example:
        >>> columns = [mm.Grid((-0.5, 0.5, 1.5), (-1.0, 0.0, 1.0)), mm.Choice((0.5, 0.5))]
        >>> features, outputs = mm.TableFeatures(columns), mm.TableDecoder.num_outputs(columns)
        >>> network = torch.nn.Sequential(features, MLP(features.num_features(columns), 2 * 4))
        >>> decoder = mm.TableDecoder(columns, MLP(4, outputs))
        >>> model = mm.Joint(mm.Gaussian(network, floor=0.2), decoder, mm.StandardNormal(4))
        >>> mm.Loss(model, mm.A_MIM)(torch.tensor([[1.0, 0.0], [torch.nan, 1.0]])).shape
        torch.Size([2])
    """

    num_outputs = staticmethod(table_columns.num_outputs)
    tables: Tensor | None

    def __init__(
        self, columns: Sequence[TableColumn], network: nn.Module, floor: float = 1e-3
    ) -> None:
        super().__init__()
        function("network", network, "a tensor")
        self.network, self.floor = network, real("floor", floor, 0, above=True)
        self._layout = Layout(columns)
        self.bias = nn.Parameter(start_of_parameters(self._layout, self.floor))
        tables = nn.Parameter(start_of_tables(self._layout)) if self._layout.edges else None
        self.register_parameter("tables", tables)

    @property
    def columns(self) -> tuple[TableColumn, ...]:
        """The columns."""
        return self._layout.columns

    def extra_repr(self) -> str:
        """Settings for `repr`."""
        return f"{len(self.columns)} columns, floor={self.floor:g}"

    def forward(self, condition: Tensor) -> TableDistribution:
        """Distribution of batch shape (B,) given (B, ...).

        Raises:
            ValueError: If the network does not give P outputs.
        """
        output = full_precision(self.network(condition))
        if output.shape[-1:] != self.bias.shape:
            raise ValueError(
                f"network must give {len(self.bias)} outputs for these columns, got shape "
                f"{tuple(output.shape)}"
            )
        return TableDistribution(self._layout, output + self.bias, self.tables, floor=self.floor)
