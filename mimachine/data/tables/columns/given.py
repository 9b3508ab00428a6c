"""Kinds of columns that a user gives: in words, in a file, or as the schema of another table."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mimachine._support.messages import Option, OptionError, counted, nearest, some
from mimachine._support.reading import parse_json, read_bytes
from mimachine._support.schema import shown
from mimachine.data.files.options import is_columns
from mimachine.data.tables.schema import Schema, overrides_from_json

__all__ = ["Given", "given_columns"]

_FORMS = (
    'an object of names and kinds, such as {"city": "category"}, or the schema of a table, such as '
    "data.json of a run"
)


class Given(NamedTuple):
    """What is known about the columns of a table.

    Attributes:
        kinds: Kinds of some columns.
        schema: The whole schema, or None.
        origin: Where the schema is from, for messages.
    """

    kinds: dict[str, str]
    schema: Schema | None = None
    origin: str = ""

    def check(self, names: Sequence[str], source: str) -> None:
        """Check that a table has the columns of the schema.

        Raises:
            ValueError: If it lacks columns; names the nearest other.
        """
        if self.schema is None:
            return
        lacking = [each.name for each in self.schema.modelled if each.name not in names]
        if lacking:
            raise ValueError(
                f"{self.origin} has {counted(len(lacking), 'column')} that {source} lacks or that "
                f"{'is' if len(lacking) == 1 else 'are'} not modelled: "
                f"{some(map(repr, lacking))}{nearest(lacking[0], names)}"
            )


def given_columns(entries: Sequence[str]) -> Given:
    """Kinds of columns from entries.

    Args:
        entries: Each is a pair such as city=category, the path of a .json file, or its content:
            an object of names and kinds, or a schema as data.json of a run has it.

    Raises:
        OptionError: If an entry has no name or kind, a name has two kinds, a schema is not alone,
            or a file does not exist or is damaged.
    """
    found: dict[str, str] = {}
    for entry in entries:
        kinds = _of_json(entry) if is_columns(entry) else _of_pair(entry)
        if isinstance(kinds, Schema):
            if len(entries) > 1:
                raise OptionError(_option(entry), " is a schema of all columns, so must be alone")
            return Given({}, kinds, _named(entry))
        for name, kind in kinds.items():
            if found.setdefault(name, kind) != kind:
                raise OptionError(_option(entry), f" gives {name!r} a second kind")
    return Given(found)


def _of_pair(entry: str) -> dict[str, str]:
    name, is_pair, kind = entry.rpartition("=")
    if not (is_pair and name and kind):
        raise OptionError(
            _option(entry), " must be NAME=KIND, such as city=category, or a .json file"
        )
    return {name: kind}


def _named(entry: str) -> str:
    return "the given schema" if entry.startswith("{") else Path(entry).name


def _option(entry: str) -> Option:
    is_long = entry.startswith("{") and len(entry) > 60
    return Option("columns", [f"{entry[:60]}..." if is_long else entry])


def _of_json(entry: str) -> dict[str, str] | Schema:
    """Kinds or a schema from a file or its content."""
    try:
        value = _value(entry)
        if isinstance(value, dict) and isinstance(value.get("schema"), dict):
            return Schema.from_json(value["schema"])
        if isinstance(value, dict) and isinstance(value.get("columns"), list):
            return Schema.from_json({"columns": value["columns"]})
        if isinstance(value, dict) and isinstance(value.get("preprocessing"), dict):
            raise ValueError("it is of a run on an array of numbers, whose columns have no kinds")
        if not isinstance(value, dict):
            raise ValueError(f"must be {_FORMS}; got {shown(value)}")
        return overrides_from_json(value)
    except (OSError, ValueError) as error:
        raise OptionError(_option(entry), f": {error}") from error


def _value(entry: str) -> Any:
    if entry.startswith("{"):
        return parse_json(entry, "the given JSON")
    file = Path(entry).expanduser()
    if not file.exists():
        folder = file.parent
        others = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        raise ValueError(f"no such file{nearest(file.name, others)}")
    # Some editors begin files with a mark of the order of bytes.
    return parse_json(read_bytes(file).removeprefix(codecs.BOM_UTF8), file.name)
