"""Over two hundred tables as they should not be: files and data frames that users bring.

`malformed()` yields them. Each says whether reading must fail, must work, or may do either, and
what the message must contain if it fails. An error that is no `ValueError`, a warning of a library,
or a message without these words is a defect in every case.

    for case in malformed():
        source = case.write(folder) if case.is_file else case.content()
        try:
            read_frame(source)
        except ValueError as error:
            ...
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tables.malformed.binary import not_text, parquet_files
from tables.malformed.case import Case
from tables.malformed.cells import cells
from tables.malformed.frames import frames
from tables.malformed.structure import structure

__all__ = ["Case", "malformed"]


def malformed() -> Iterator[Case]:
    """All cases, in a fixed order; the large ones are made as they are asked for."""
    yield from chain(structure(), cells(), not_text(), parquet_files(), frames())
