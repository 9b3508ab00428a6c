"""Small versions of the named data sets.

Most of the time of a short training goes into measuring the model on all data.
"""

import contextlib
import functools
from dataclasses import replace

import pytest

from mimachine.data import bundled


@contextlib.contextmanager
def patched():
    """Let mixture-2d have 600 points in each split, and digits 100 rows."""
    digits = bundled.digits()
    splits = {name: getattr(digits, name)[:100] for name in ("train", "val", "test")}
    labels = {f"{name}_labels": getattr(digits, f"{name}_labels")[:100] for name in splits}
    small_digits = replace(digits, **splits, **labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundled, "digits", lambda: small_digits)
        patch.setattr(bundled, "mixture_2d", functools.partial(bundled.mixture_2d, 600))
        yield
