"""The commands as Python functions: prepare, train, evaluate, load, apply and refit models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
