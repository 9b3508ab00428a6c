"""Schemas of the JSON files that a run directory has besides its settings and its results.

They are light, so that a run can be inspected without loading torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from mimachine._support.digest import CHANGED, ENTRY, check_digest, sealed, without_digest
from mimachine._support.reading import parse_json
from mimachine._support.schema import (
    Checked,
    Count,
    Finite,
    Index,
    NotNegative,
    is_number,
    shown,
    validated,
)

__all__ = ["DataRecord", "Epoch", "RefitRecord", "epoch_line", "epochs_of", "may_be_cut_off"]


def _share(value: Any) -> Any:
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"must be a number from 0 to 1, got {shown(value)}")
    return value


@dataclass(frozen=True)
class Epoch:
    """Record of one epoch, a line of metrics.jsonl; losses in nats per example.

    For several models trained together the losses are lists with one entry per model: None if the
    loss is not finite or the model had stopped before.
    """

    epoch: Count
    beta: Annotated[float, Checked(_share)]
    learning_rate: NotNegative
    train_loss: Finite | list[Finite | None]
    val_loss: Finite | list[Finite | None] | None

    @property
    def num_models(self) -> int | None:
        """Number of models trained together; None for a single model."""
        return len(self.train_loss) if isinstance(self.train_loss, list) else None


def _schema(value: Any) -> Any:
    from mimachine.data.tables.schema import Schema

    return None if value is None else Schema.from_json(value)


def _preprocessing(value: Any) -> Any:
    # Imported late: it loads numpy, which a run on a named data set does not need to be inspected.
    from mimachine.data.preprocessing import Preprocessing

    return None if value is None else Preprocessing.from_json(value)


@dataclass(frozen=True)
class HeldOutRecord:
    """How rows for validation were chosen: their share and the seed."""

    share: Annotated[float, Checked(_share)]
    seed: Index


@dataclass(frozen=True)
class DataRecord:
    """Content of data.json: what a run stores about the data from a file or folder.

    Attributes:
        fingerprint: Hash of all values, labels and splits.
        preprocessing: Map between the values and the rows of the model; None for a table.
        schema: Columns of a table; None for other data.
        relative: Paths of the data, and of a file of labels, relative to the run.
        held_out: How rows for validation were chosen, if none are for a test.
    """

    fingerprint: str
    preprocessing: Annotated[Any, Checked(_preprocessing)]
    schema: Annotated[Any, Checked(_schema)] = None
    relative: dict[str, str] = field(default_factory=dict)
    held_out: HeldOutRecord | None = None

    def __post_init__(self) -> None:
        if (self.preprocessing is None) == (self.schema is None):
            raise ValueError("it must have a preprocessing or a schema, and not both")


@dataclass(frozen=True)
class RefitRecord:
    """Content of refit.json: how the prior was fitted after training, and the metrics before."""

    run: str
    kind: Literal["gmm", "vamp", "flow"]
    components: Count | None
    seed: Index
    before: dict[str, Any] | None = None


def epoch_line(epoch: Epoch) -> str:
    """The line of an epoch in metrics.jsonl."""
    import json

    return json.dumps(sealed(asdict(epoch)), allow_nan=False) + "\n"


def epochs_of(lines: Sequence[str], file: str) -> list[Epoch]:
    """Read the epochs of metrics.jsonl from its complete lines.

    Raises:
        ValueError: If a line is not the record of the epoch of its number, was changed, or belongs
            to another number of models than the first.
    """
    epochs: list[Epoch] = []
    has_digests = False
    for number, line in enumerate(lines, 1):
        place = f"line {number} of {file}"
        value = _parsed(line, place)
        epoch = validated(Epoch, without_digest(value), f"{place} is damaged")
        check_digest(value, place)
        # All lines have digests or none has: a run of version 0.1 is rewritten when it is resumed.
        has_digests = has_digests if epochs else ENTRY in value
        if has_digests != (ENTRY in value):
            raise ValueError(f"{place} {CHANGED}")
        if epoch.epoch != number:
            raise ValueError(f"{place} is damaged: epoch must be {number}, got {epoch.epoch}")
        if not _fits(epoch, epochs[0] if epochs else epoch):
            raise ValueError(f"{place} is damaged: its losses must be of as many models as others")
        epochs.append(epoch)
    return epochs


def may_be_cut_off(rest: str) -> bool:
    """Whether the incomplete last line of metrics.jsonl is the beginning of an epoch's record.

    After a power failure it may consist of zeros.
    """
    beginnings = (f'{{"{ENTRY}": "', '{"epoch": ')
    return not rest.strip("\0") or any(
        rest.startswith(beginning) or beginning.startswith(rest) for beginning in beginnings
    )


def _parsed(line: str, place: str) -> Any:
    try:
        return parse_json(line, place)
    except ValueError as error:
        raise ValueError(f"{place} is damaged: {error}") from error


def _fits(epoch: Epoch, first: Epoch) -> bool:
    """Whether the losses of an epoch are of as many models as those of the first epoch."""
    losses = epoch.val_loss
    if epoch.num_models != first.num_models:
        return False
    return losses is None or epoch.num_models == (len(losses) if isinstance(losses, list) else None)
