"""Mutual Information Machines in PyTorch.

A model is two factorisations of one joint distribution over data x and latents z. An objective is
a function of their four log-probabilities. The public names are listed in `__init__.pyi` and
imported on first use, so the command line starts without loading torch.
"""

import lazy_loader

from mimachine._support.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
