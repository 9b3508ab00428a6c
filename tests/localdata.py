"""Image sets whose files are on this machine. Tests of real files are made for these alone."""

from mimachine.data.downloads import FILES, located

_MISSING = {name for name, _, path in located() if path is None}

HERE = [name for name in FILES if name not in _MISSING]
