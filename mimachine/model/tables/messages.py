"""Columns that others settle: probabilities of a forest of levels of which some are unknown.

p(c | parent's level a, z) is a softmax over c of logits(z)_c + table_ac. With logits l, tables
t and Z_a = Σ_c exp(l_c + t_ac), all sums over levels are products with the matrix exp(t), so no
array has both the levels of a parent and those of its child for every row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mimachine.model.distributions import indices_of
from mimachine.model.tables.layout import Edge, Layout
from mimachine.model.tables.levels import at
from mimachine.model.tables.quantile_map import precise

__all__ = ["Forest", "Known"]

# Within a row of a table no exponential is smaller than e^-60, so that sums of them are positive
# in every precision.
_LOWEST = -60.0


class Known:
    """Which columns of rows are known, with their levels.

    Args:
        x: Rows, shape (*sample, *batch, D).
        layout: Places of the columns.
    """

    def __init__(self, x: Tensor, layout: Layout) -> None:
        self._x, self._layout = x, layout

    def __getitem__(self, column: int) -> tuple[Tensor, Tensor]:
        """Whether a column is known, and its level, or one in range; each (*sample, *batch, 1)."""
        value = self._x[..., column : column + 1]
        known = value.isfinite()
        last = self._layout.choice(column).levels - 1
        return known, torch.where(known, value, 0.0).clamp(0, last).long()


class Forest:
    """Levels of the columns that have a parent, and of those parents.

    Args:
        layout: Places of the columns.
        logits: Logits of all choices, shape (*batch, L).
        tables: Tables of all edges, flattened.
    """

    def __init__(self, layout: Layout, logits: Tensor, tables: Tensor) -> None:
        self.layout = layout
        kind = precise(logits.device)
        self._logits, self._tables = logits.to(kind), tables.to(kind)
        self._parts = {edge.column: _Softmax.of(self, edge) for edge in layout.edges}
        with_children = {edge.parent for edge in layout.edges}
        self.roots = [index for index in layout.roots if index in with_children]

    def has(self, column: int) -> bool:
        """Whether a column has a parent or children."""
        return column in self.roots or column in self._parts

    def logits_of(self, column: int) -> Tensor:
        """Logits of a column, shape (*batch, K)."""
        return self._logits[..., self.layout.logits_of(column)]

    def table_of(self, edge: Edge) -> Tensor:
        """Table of an edge, shape (levels of the parent, levels), 0 the largest of a row."""
        table: Tensor = self._tables[edge.table].unflatten(0, edge.shape)
        return (table - table.amax(-1, keepdim=True)).clamp_min(_LOWEST)

    def log_probs(self, known: Known) -> dict[int, Tensor]:
        """Log-probabilities of the columns with a parent, 0 where unknown, (*sample, *batch).

        Each is given the parent where that is known. Otherwise it is given the known columns that
        come before, in the order of the edges from each root down, and summed over the levels of
        the parent. So they sum to the log-probability of all known levels, less that of the roots.
        """
        found: dict[int, Tensor] = {}
        for root in self.roots:
            self._visit(root, self.logits_of(root).log_softmax(-1), known, found)
        return found

    def _visit(self, column: int, belief: Tensor, known: Known, found: dict[int, Tensor]) -> Tensor:
        """Log-probabilities of a column's descendants, and their message to it.

        Args:
            column: A column with children.
            belief: Its log-probabilities given the known columns before, where it is unknown.
            known: Known columns.
            found: Where to put the log-probabilities.

        Returns:
            Log-probability of all known descendants given the column's level, (*sample, *batch, K).
        """
        is_known, level = known[column]
        total = torch.zeros_like(belief)
        for edge in self.layout.children(column):
            part = self._parts[edge.column]
            child_known, child_level = known[edge.column]
            given = part.given(level)
            message = torch.zeros_like(belief)
            if self.layout.children(edge.column):
                below = torch.where(is_known, given, part.predicted(belief))
                message = part.message(self._visit(edge.column, below, known, found))
            seen = part.likelihood(child_level)
            summed = (belief + seen).logsumexp(-1, keepdim=True)
            value = torch.where(is_known, at(given, child_level), summed)
            found[edge.column] = torch.where(child_known, value, 0.0).squeeze(-1)
            message = torch.where(child_known, seen, message)
            total, belief = total + message, (belief + message).log_softmax(-1)
        return total

    def messages(self, known: Known) -> dict[int, Tensor]:
        """Log-probabilities of the known descendants of each column with children, by its level."""
        found: dict[int, Tensor] = {}
        for edge in reversed(self.layout.edges):
            part = self._parts[edge.column]
            child_known, child_level = known[edge.column]
            below = found.get(edge.column)
            seen = part.likelihood(child_level)
            unseen = torch.zeros_like(seen) if below is None else part.message(below)
            message = torch.where(child_known, seen, unseen)
            before = found.get(edge.parent)
            found[edge.parent] = message if before is None else before + message
        return found

    def descend(
        self, levels: dict[int, Tensor], choose: Callable[[Tensor], Tensor] | None = None
    ) -> list[Tensor]:
        """Levels of the columns with a parent, each given the level of its parent.

        Args:
            levels: Levels of the roots by column, (*sample, *batch); the others are added.
            choose: Chooses levels by log-probabilities (*sample, *batch, K); draws by default.

        Returns:
            Levels in the order of the edges, each of shape (*sample, *batch).
        """
        choose = _drawn if choose is None else choose
        for edge in self.layout.edges:
            log_prob = self._parts[edge.column].given(levels[edge.parent].unsqueeze(-1))
            levels[edge.column] = choose(log_prob)
        return [levels[edge.column] for edge in self.layout.edges]

    def complete(self, known: Known) -> dict[int, Tensor]:
        """Draw the unknown levels given all known ones: every column's, (*sample, *batch)."""
        messages, levels = self.messages(known), dict[int, Tensor]()
        for column in (*self.roots, *self._parts):
            part, (is_known, level) = self._parts.get(column), known[column]
            if part is None:
                log_prob = self.logits_of(column)
            else:
                log_prob = part.given(levels[part.edge.parent].unsqueeze(-1))
            if column in messages:
                log_prob = log_prob + messages[column]
            log_prob = log_prob.expand(*level.shape[:-1], -1).log_softmax(-1)
            levels[column] = torch.where(is_known.squeeze(-1), level.squeeze(-1), _drawn(log_prob))
        return levels

    def posterior(self, column: int, known: Known) -> Tensor:
        """Log-probabilities of a column's levels given the known others, (*sample, *batch, K)."""
        part = self._parts.get(column)
        messages = self.messages(known)
        own = messages.get(column)
        if part is None:
            before = self.logits_of(column)
        else:
            is_known, level = known[part.edge.parent]
            others = self._without(part, known, messages)
            before = torch.where(is_known, part.given(level), part.predicted(others))
        return (before if own is None else before + own).log_softmax(-1)

    def _without(self, part: _Softmax, known: Known, messages: dict[int, Tensor]) -> Tensor:
        """Log-probabilities of the parent's levels, given all known columns but below a child."""
        parent, child = part.edge.parent, part.edge.column
        child_known, child_level = known[child]
        below = messages.get(child)
        seen = part.likelihood(child_level)
        unseen = torch.zeros_like(seen) if below is None else part.message(below)
        own = torch.where(child_known, seen, unseen)
        return (self.posterior(parent, known) - own).log_softmax(-1)


def _drawn(log_prob: Tensor) -> Tensor:
    return indices_of(log_prob, torch.Size())


class _Softmax:
    """p(child | parent) for each row and each level of the parent."""

    def __init__(self, edge: Edge, logits: Tensor, table: Tensor) -> None:
        self.edge, self.logits, self.table = edge, logits, table
        self._exp = table.exp()
        self.normaliser = _log_product(logits, self._exp.T)

    @staticmethod
    def of(forest: Forest, edge: Edge) -> _Softmax:
        return _Softmax(edge, forest.logits_of(edge.column), forest.table_of(edge))

    def given(self, level: Tensor) -> Tensor:
        """Log-probabilities of the child's levels given the parent's (..., 1): (..., K)."""
        return (self.logits + self.table[level.squeeze(-1)]).log_softmax(-1)

    def likelihood(self, level: Tensor) -> Tensor:
        """Log-probability of the child's level (..., 1) by the parent's: (..., K of the parent)."""
        return at(self.logits, level) + self.table.T[level.squeeze(-1)] - self.normaliser

    def message(self, below: Tensor) -> Tensor:
        """Σ_c p(c | a) exp(below_c) for each level a of the parent, as a logarithm."""
        return _log_product(self.logits + below, self._exp.T) - self.normaliser

    def predicted(self, belief: Tensor) -> Tensor:
        """Σ_a exp(belief_a) p(c | a) for each level c of the child, as a logarithm."""
        return self.logits + _log_product(belief - self.normaliser, self._exp)


def _log_product(log_values: Tensor, matrix: Tensor) -> Tensor:
    """log(exp(v) M) for v of shape (..., A) and a positive matrix (A, C): (..., C)."""
    largest = log_values.detach().amax(-1, keepdim=True)
    return torch.log((log_values - largest).exp() @ matrix) + largest
