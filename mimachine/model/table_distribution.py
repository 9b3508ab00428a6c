"""Distribution of the rows of a table: numbers on grids, levels and holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution

from mimachine._support.checks import real, whole
from mimachine.model.table_columns import Choice, TableColumn
from mimachine.model.tables.layout import Constants, Layout
from mimachine.model.tables.levels import Levels, broadcast
from mimachine.model.tables.logistics import Logistics
from mimachine.model.tables.messages import Forest, Known
from mimachine.model.tables.quantile_map import precise
from mimachine.model.tables.start import start_of_tables

__all__ = ["TableDistribution"]


class TableDistribution(Distribution):
    """Rows of a table of D columns as one event, with probabilities in place of densities.

    Columns are independent, but for those that have a parent. A row has one number per column: k
    steps for a `Grid`, the number of the level for a `Choice`. NaN is a missing value, and inf a
    hidden one, of which it is unknown whether it is missing. Both are summed over exactly: a row's
    log-probability is that of the values it has. For columns with holes it includes, in addition,
    the log-probability of being missing (NaN) or not, but for hidden values.

    There is no mean, since levels have none; see `point`.

    Args:
        columns: The columns.
        parameters: Shape (*batch, P), see `num_outputs`; as `TableDecoder` gives them.
        tables: Logarithms of the shares of levels given their parents' levels, of all columns with
            a parent, flattened; by default those of the counts in the columns.
        floor: Smallest scale of the logistics, in normal scores.

    Raises:
        ValueError: If there are not P parameters.

    Example:
        >>> columns = [mm.Grid((-0.5, 0.5, 1.5), (-1.0, 0.0, 1.0)), mm.Choice((0.5, 0.5))]
        >>> rows = mm.TableDistribution(columns, torch.zeros(7, 11))
        >>> rows.log_probs(torch.tensor([3.0, torch.nan]).expand(7, 2)).shape
        torch.Size([7, 2])
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    is_discrete = True

    def __init__(
        self,
        columns: Sequence[TableColumn] | Layout,
        parameters: Tensor,
        tables: Tensor | None = None,
        *,
        floor: float = 1e-3,
    ) -> None:
        layout = columns if isinstance(columns, Layout) else Layout(columns)
        if parameters.shape[-1:] != (layout.num_outputs,):
            raise ValueError(
                f"parameters must have shape (..., {layout.num_outputs}) for these columns, got "
                f"{tuple(parameters.shape)}"
            )
        if tables is None and layout.edges:
            tables = start_of_tables(layout).to(parameters)
        self.layout, self.parameters, self.tables = layout, parameters, tables
        self.floor = real("floor", floor, 0, above=True)
        self._of_grids, self._logits, self._of_holes = parameters.split(layout.kinds, -1)
        super().__init__(parameters.shape[:-1], Size((len(layout.columns),)), validate_args=False)

    @property
    def columns(self) -> tuple[TableColumn, ...]:
        """The columns."""
        return self.layout.columns

    def __getitem__(self, index: Any) -> TableDistribution:
        """Index the batch."""
        return self._with(self.parameters[index])

    def expand(self, batch_shape: Any, _instance: Any = None) -> TableDistribution:
        """The same distribution with a larger batch."""
        return self._with(self.parameters.expand(*batch_shape, -1))

    def _with(self, parameters: Tensor) -> TableDistribution:
        return TableDistribution(self.layout, parameters, self.tables, floor=self.floor)

    # What follows is not kept, since draws compute it without gradient and log-probabilities with.

    @property
    def _constants(self) -> Constants:
        return self.layout.on(self.parameters.device)

    def _logistics(self) -> Logistics:
        maps = self._constants.maps
        assert maps is not None
        return Logistics(self._of_grids, maps, self.floor)

    def _levels(self) -> Levels:
        return Levels(self.layout, self._constants, self._logits)

    def _forest(self) -> Forest:
        assert self.tables is not None
        return Forest(self.layout, self._logits, self.tables)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, holes included, shape (*sample, *batch).

        -inf for values that a column cannot take.
        """
        x = self._expanded(value)
        total = self._each(x).sum(-1) + self._log_prob_of_holes(x)
        return total.to(self.parameters.dtype)

    def log_probs(self, value: Tensor) -> Tensor:
        """Log-probabilities by column in nats, without holes, shape (*sample, *batch, D).

        They are 0 where a value is missing or hidden. A column with a parent is given the parent
        if that is known, and otherwise the known columns before it that descend from the same
        unknown one; so the sum is the log-probability of the known values.
        """
        x = self._expanded(value)
        each = self._each(x).index_select(-1, self._constants.order)
        return each.to(self.parameters.dtype)

    def _expanded(self, value: Tensor) -> Tensor:
        shape = broadcast(value.shape[:-1], self.batch_shape)
        return value.expand(*shape, value.shape[-1])

    def _each(self, x: Tensor) -> Tensor:
        """Log-probabilities of grids, choices without and with parent, in this order."""
        constants, known = self._constants, x.isfinite()
        values = torch.where(known, x, 0.0).to(precise(x.device))
        inside = torch.maximum(torch.minimum(values, constants.high), constants.low)
        possible = (values == inside) & (values == values.round()) | ~known
        parts = []
        if self.layout.grids:
            parts.append(self._logistics().log_prob(inside.index_select(-1, constants.grids)))
        if self.layout.roots:
            levels = inside.index_select(-1, constants.roots).long()
            parts.append(self._levels().log_prob(levels))
        if self.layout.edges:
            found = self._forest().log_probs(Known(x, self.layout))
            parts += [found[edge.column].unsqueeze(-1) for edge in self.layout.edges]
        each = torch.cat(parts, -1)
        known, possible = (part.index_select(-1, constants.kept) for part in (known, possible))
        return torch.where(possible, torch.where(known, each, 0.0), -torch.inf)

    def _log_prob_of_holes(self, x: Tensor) -> Tensor:
        """Log-probability of being missing, or not, for the values not hidden."""
        values = x.index_select(-1, self._constants.holed)
        each = F.logsigmoid(torch.where(values.isnan(), self._of_holes, -self._of_holes))
        return torch.where(values.isinf(), 0.0, each).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size(), complete: bool = False) -> Tensor:
        """Rows without gradient, shape (*sample_shape, *batch, D).

        Args:
            sample_shape: Shape of the sample.
            complete: Whether all values are drawn; otherwise NaN where a hole is drawn.
        """
        shape = Size(sample_shape)
        grids = self._logistics().sample(shape) if self.layout.grids else None
        roots = self._levels().sample(shape) if self.layout.roots else None
        rows = self._rows(grids, roots)
        if complete or not self.layout.holed:
            return rows
        probability = self._of_holes.sigmoid().expand(*rows.shape[:-1], -1)
        drawn = torch.rand_like(probability) < probability
        values = rows.index_select(-1, self._constants.holed)
        values = torch.where(drawn, torch.nan, values)
        return rows.index_copy(-1, self._constants.holed, values)

    @torch.no_grad()
    def complete(self, value: Tensor) -> Tensor:
        """Draw the unknown values of rows, missing or hidden, given the known ones.

        Args:
            value: Rows, of a shape that broadcasts to (*sample, *batch, D).

        Returns:
            Shape (*sample, *batch, D), without gradient. Values of a row are independent given the
            latent, but for those of columns with parents, which are drawn jointly.
        """
        x = self._expanded(value)
        shape = x.shape[: x.dim() - 1 - len(self.batch_shape)]
        drawn = self.sample(shape, complete=True)
        if self.layout.edges:
            levels = self._forest().complete(Known(x, self.layout))
            for column, level in levels.items():
                drawn[..., column] = level.to(drawn.dtype)
        return torch.where(x.isfinite(), x, drawn)

    @torch.no_grad()
    def point(self) -> Tensor:
        """Medians of grids and most probable levels, (*batch, D).

        The level of a column with a parent is the most probable one given that of the parent.
        """
        half = self.parameters.new_tensor(0.5)
        grids = self._logistics().quantile(half) if self.layout.grids else None
        roots = self._levels().most_probable() if self.layout.roots else None
        return self._rows(grids, roots, most_probable=True)

    def _rows(
        self, grids: Tensor | None, roots: Tensor | None, most_probable: bool = False
    ) -> Tensor:
        """Rows of grids and roots in the order of the columns, with the columns below the roots."""
        kind = precise(self.parameters.device)
        parts = [part.to(kind) for part in (grids, roots) if part is not None]
        if self.layout.edges:
            assert roots is not None
            levels = dict(zip(self.layout.roots, roots.unbind(-1), strict=True))
            choose = _argmax if most_probable else None
            below = self._forest().descend(levels, choose)
            parts.append(torch.stack(below, -1).to(kind))
        rows = torch.cat(parts, -1).index_select(-1, self._constants.order)
        return rows.to(self.parameters.dtype)

    def quantile(self, probability: Tensor | float) -> Tensor:
        """Quantiles of the grids, in steps, shape (*sample, *batch, D); NaN for choices.

        Args:
            probability: In (0, 1), of a shape that broadcasts to (*sample, *batch, D).

        Returns:
            The smallest values up to which the grids have these probabilities.
        """
        given = torch.as_tensor(probability, device=self.parameters.device)
        shape = broadcast(given.shape, self.parameters.shape[:-1] + self.event_shape)
        found = torch.full(shape, torch.nan, dtype=self.parameters.dtype, device=given.device)
        if not self.layout.grids:
            return found
        grids = given.expand(shape).index_select(-1, self._constants.grids)
        values = self._logistics().quantile(grids).to(found.dtype)
        return found.index_copy(-1, self._constants.grids, values)

    def cdf(self, value: Tensor) -> Tensor:
        """Probabilities of values up to the given ones, by column, shape (*sample, *batch, D).

        NaN for choices and for missing and hidden values.
        """
        x = self._expanded(value)
        found = torch.full_like(x, torch.nan)
        if not self.layout.grids:
            return found
        steps = x.index_select(-1, self._constants.grids)
        known = steps.isfinite()
        values = self._logistics().cdf(torch.where(known, steps, 0.0).to(precise(x.device)))
        values = torch.where(known, values, torch.nan).to(found.dtype)
        return found.index_copy(-1, self._constants.grids, values)

    def probabilities(self, column: int, value: Tensor | None = None) -> Tensor:
        """Probabilities of the K levels of a choice, given other known values of rows.

        Args:
            column: Index of the column.
            value: Rows, of a shape that broadcasts to (*sample, *batch, D), whose known values
                other than this column's are the condition; None for no condition.

        Returns:
            Shape (*sample, *batch, K). Only the columns that are connected by parents matter.

        Raises:
            ValueError: If the column is no `Choice`.
        """
        whole("column", column, 0, len(self.columns) - 1)
        if not isinstance(self.columns[column], Choice):
            raise ValueError(f"column must be the index of a Choice, got {column}, a Grid")
        if value is None:
            value = self.parameters.new_full((len(self.columns),), torch.nan)
        x = self._expanded(value)
        if self.layout.edges and self._forest().has(column):
            logits = self._forest().posterior(column, Known(x, self.layout))
        else:
            logits = self._logits[..., self.layout.logits_of(column)]
        probabilities: Tensor = logits.softmax(-1).to(self.parameters.dtype)
        return probabilities.expand(*x.shape[:-1], -1)


def _argmax(log_prob: Tensor) -> Tensor:
    return log_prob.argmax(-1)
