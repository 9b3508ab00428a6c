"""State of the whole process: one lock for the blocks that change it and restore it afterwards.

Random generators, warning filters, torch's validation of distributions and the size of cells that
`csv` reads belong to the process.
scikit-learn changes the filters whenever it checks its input, so calls of it are such blocks, too.
Two threads that change and restore them at the same time restore each other's changes. So every
such block of this library holds one lock. The lock is re-entrant, so blocks may be nested. A block
must not wait for a thread that enters another one, and must not contain a `yield` of a generator
that another thread may continue.

This module does not import torch.
"""

from __future__ import annotations

import csv
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["exclusive", "ignoring_warnings", "long_cells"]

# Other threads normally wait for one epoch of a training at most.
_LONG_SECONDS = 300.0
_lock = threading.RLock()


def _renew() -> None:
    """Replace the lock in a forked process, where the thread that holds it does not exist."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def exclusive() -> Iterator[None]:
    """Run a block while no other thread runs such a block.

    A thread that waits for more than 5 minutes gives a warning, as it may wait for itself: a data
    source whose own threads draw with functions of this library does.
    """
    lock = _lock
    while not lock.acquire(timeout=_LONG_SECONDS):
        warnings.warn(
            "this thread is waiting for another one, which trains or draws random numbers; "
            "functions that draw do not run at the same time in one process",
            RuntimeWarning,
            stacklevel=3,
        )
    try:
        yield
    finally:
        lock.release()


@contextmanager
def ignoring_warnings(category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings of a category within a block; restore the filters afterwards."""
    with exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


@contextmanager
def long_cells() -> Iterator[None]:
    """Let Python's `csv` read cells of any length within a block, instead of 131,072 letters."""
    with exclusive():
        limit = csv.field_size_limit(2**31 - 1)
        try:
            yield
        finally:
            csv.field_size_limit(limit)
