"""Public names and the modules that define them, read from the package's stub."""

import ast
from pathlib import Path

import mimachine

_STUB = Path(mimachine.__file__).with_suffix(".pyi")

HOME = {
    alias.name: node.module
    for node in ast.parse(_STUB.read_text()).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}
