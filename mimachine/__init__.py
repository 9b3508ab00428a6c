"""Mutual Information Machines in PyTorch.

A model is two factorisations of one joint distribution over data x and latents z. An objective is
a function of their four log-probabilities. The public names are listed in `__init__.pyi` and
imported on first use, so the command line starts without loading torch.
"""

from typing import Any

import lazy_loader

from mimachine._support import moved as _moved
from mimachine._support.version import __version__ as __version__

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_moved.install()


def __getattr__(name: str) -> Any:
    if name in _moved.NAMES or name in _moved.MODULES:
        return _moved.moved_name(name)
    try:
        return _public(name)
    except AttributeError as error:
        from mimachine._support.messages import nearest

        message = f"module 'mimachine' has no attribute {name!r}{nearest(name, __all__)}"
        raise AttributeError(message, name=name) from error
