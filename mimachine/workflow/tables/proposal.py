"""The proposal for imputation in tables, which is kept in the run.

It is fitted when it is needed for the first time, and kept with a digest of the model that it was
fitted to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from mimachine._support.digest import digest
from mimachine.estimation.tables.proposal import TableProposal, blank_proposal, fit_proposal
from mimachine.training.weights import load_weights, save_weights
from mimachine.workflow.load_run import Trained

__all__ = ["PROPOSAL", "table_proposal"]

# Name of the file in a run.
PROPOSAL = "table_proposal.safetensors"
_MOST_FITTED = 200_000


def table_proposal(trained: Trained, refit: bool = False) -> TableProposal:
    """The proposal for imputation that is kept in a run, or a new one, which is then kept.

    It is fitted anew if the run has none, has one of other weights, or its file is damaged. If the
    run cannot be written to, it is not kept.

    Args:
        trained: A run on a table.
        refit: Whether it is fitted anew in any case.
    """
    file = trained.run.path / PROPOSAL
    mark = _mark(trained.generator)
    known = None if refit else _kept(file, mark, trained)
    if known is not None:
        return known
    data, seed = trained.data, trained.experiment.training.seed
    train = data.train[:_MOST_FITTED]
    found = fit_proposal(trained.generator, train, data.val, seed=seed, progress=False)
    with contextlib.suppress(OSError):
        save_weights(file, _Marked(found, mark))
    return found


def _kept(file: Path, mark: Tensor, trained: Trained) -> TableProposal | None:
    """The proposal in a file; None if there is none for this model."""
    model, data = trained.generator, trained.data
    stored = _Marked(blank_proposal(model, data.train.shape[1]), torch.zeros_like(mark))
    try:
        load_weights(file, stored)
    except (OSError, ValueError):
        return None
    return stored.proposal if torch.equal(stored.mark, mark) else None


class _Marked(nn.Module):
    """A proposal, and the digest of the model that it is for."""

    mark: Tensor

    def __init__(self, proposal: TableProposal, mark: Tensor) -> None:
        super().__init__()
        self.proposal = proposal
        self.register_buffer("mark", mark)


def _mark(model: nn.Module) -> Tensor:
    """Digest of all weights of a model, shape (16,)."""

    def parts() -> Iterator[str | Tensor]:
        for name, tensor in sorted(model.state_dict().items()):
            yield name
            yield tensor

    return torch.tensor(list(bytes.fromhex(digest(parts()))), dtype=torch.uint8)
