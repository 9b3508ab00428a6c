"""The default architecture of people's own images.

This module does not import torch.
"""

from __future__ import annotations

import os
from pathlib import Path

from mimachine.data.catalogue import NAMES
from mimachine.data.files.options import File, is_table
from mimachine.experiment.settings import Architecture

__all__ = ["conv_pays", "usual_architecture"]

# Images up to this height or width are modelled by dense layers by default.
_DENSE_SIDE = 16


def conv_pays(sides: tuple[int, int] | None) -> bool:
    """Whether the default for images of this height and width are convolutions."""
    return sides is not None and min(sides) > _DENSE_SIDE


def usual_architecture(data: str, file: File = File()) -> Architecture:
    """The default architecture: conv for one's own images of more than 16 x 16, otherwise mlp.

    Args:
        data: Name of a data set, or path of a file or folder. Of arrays only those of bytes count
            as images here, since only the values show it of others.
        file: How to read a file.

    Raises:
        ValueError: If the file or folder cannot be read.
    """
    if data in NAMES or is_table(data):
        return "mlp"
    if os.path.isdir(data):
        from mimachine.data.files import image_folder

        shape = image_folder.peek(data, resize=file.resize)[1]
    elif os.path.isfile(data) and data.lower().endswith((".npy", ".npz")):
        from mimachine.data.files import numpy_file, read_table

        shape = read_table.peek(data, labels=file.labels, array=file.array)[1]
        shape = shape if file.image_shape is None else file.image_shape
        if not numpy_file.holds_bytes(Path(data), file.labels, file.array):
            return "mlp"
    else:
        return "mlp"
    from mimachine.data.learn_preprocessing import image_layout

    layout = image_layout(shape, 1.0)
    return "conv" if layout is not None and conv_pays(layout.shape[1:]) else "mlp"
