"""Image data sets from downloaded files: MNIST, Fashion-MNIST and Omniglot.

Rows are images of 28 × 28 pixels in [0, 1] with 256 levels. They are not binarised: a source of
batches does this anew in each epoch.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mimachine._support.checks import instance
from mimachine.data.dataset import Dataset
from mimachine.data.downloads import FILES, DataFile, read_files

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "area_average",
    "fashion_mnist",
    "mnist",
    "omniglot",
    "omniglot_small",
    "published_binarisation",
    "read_idx",
]


SHAPE = (28, 28)
LEVELS = 256


def mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST: handwritten digits of 28 × 28 grey pixels, ten classes.

    The first 50,000 images of the training file are for training, the last 10,000 for validation,
    and the 10,000 images of the test file for testing.

    Args:
        data_dir: Directory with the four files, or with a folder mnist of them.

    Raises:
        ValueError: If a file on this machine has unexpected content.
        FileNotFoundError: If a file is missing and cannot be downloaded.

    References:
        Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998)
    """
    return _from_idx("mnist", FILES["mnist"], data_dir)


def fashion_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Fashion-MNIST: clothing of 28 × 28 grey pixels, ten classes; splits as for `mnist`.

    Args:
        data_dir: Directory with the four files, or with a folder fashion-mnist of them.

    Raises:
        ValueError: If a file on this machine has unexpected content.
        FileNotFoundError: If a file is missing and cannot be downloaded.

    References:
        Fashion-MNIST: a Novel Image Dataset for Benchmarking (Xiao et al., 2017)
    """
    return _from_idx("fashion-mnist", FILES["fashion-mnist"], data_dir)


def omniglot(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Omniglot: handwritten characters of 50 alphabets, 28 × 28 grey pixels, as in the paper.

    23,000 training, 1,345 validation and 8,070 test images. Test images are those of the file;
    validation images are the last 1,345 of the others after the shuffle of the file's original
    code. Labels are characters, 1,623 classes, numbered by alphabet and by character within it.

    Values are grey, in [0, 1], and usually read as probabilities of ink. They are rounded to 256
    levels, which changes none by more than 1/510.

    Args:
        data_dir: Directory with chardata.mat, or with a folder omniglot that has it.

    Raises:
        ValueError: If the file on this machine has unexpected content.
        FileNotFoundError: If the file is missing and cannot be downloaded.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), whose file it is
        Human-level concept learning through probabilistic program induction (Lake et al., 2015)
    """
    return _from_mat("omniglot", FILES["omniglot"][0], data_dir)


def omniglot_small(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Omniglot-small: handwritten characters of eight alphabets, from Omniglot's small archives.

    A substitute if the paper's file is not available; its numbers are not comparable with those
    of `omniglot`.

    The archives hold five alphabets each, of which Greek and Latin are in both: 242 characters,
    each drawn once by 20 people. For each character 14 drawings are for training, 2 for validation
    and 4 for testing, random but always the same: 3,388, 484 and 968 images. A person's drawings
    can be in different splits. Labels are characters, numbered by alphabet and by character within
    it.

    The drawings are 105 × 105 binary pixels. A pixel of the data set is the fraction of ink in a
    square of 3.75 × 3.75 of these, rounded to 256 levels.

    Args:
        data_dir: Directory with the two archives, or with a folder omniglot of them.

    Raises:
        ValueError: If a file on this machine has unexpected content.
        FileNotFoundError: If a file is missing and cannot be downloaded.

    References:
        Human-level concept learning through probabilistic program induction (Lake et al., 2015)
    """
    return _from_archives("omniglot-small", FILES["omniglot-small"], data_dir)


def published_binarisation(data: Dataset) -> Dataset:
    """Binarise validation and test images once, with the draws of the paper's released code.

    The code seeds numpy with 777 and draws validation images first, then test images. Training
    images stay grey, to be binarised anew in every epoch: see `sources.Binarized`. For MNIST and
    Fashion-MNIST the draws are those of the code. For Omniglot the code chooses different
    validation images in every run.

    Args:
        data: Images with values in [0, 1], such as those of `mnist`.

    Returns:
        The data set with binary validation and test images.

    Raises:
        TypeError: If `data` is no `Dataset`.
        ValueError: If a value is not in [0, 1].
    """
    instance("data", data, Dataset, "a Dataset")
    # The draws of this generator never change between versions of numpy.
    generator = np.random.RandomState(777)

    def drawn(split: str) -> Tensor:
        grey: Tensor = getattr(data, split)
        if not ((grey >= 0) & (grey <= 1)).all():
            raise ValueError(
                f"data.{split} must be in [0, 1], got [{float(grey.min())}, {float(grey.max())}]"
            )
        return torch.as_tensor(generator.binomial(1, grey.numpy())).to(grey.dtype)

    val = drawn("val")
    return replace(data, val=val, test=drawn("test"))


def read_idx(content: bytes, shape: tuple[int, ...], source: str) -> NDArray[np.uint8]:
    """Parse a file in IDX format, the format of MNIST.

    The format: two zero bytes, the type of the values (8 for unsigned bytes), the number of
    dimensions; the length of each, in four bytes, big-endian; the values in C order.

    Args:
        content: The decompressed file.
        shape: Expected shape.
        source: Name of the file in errors.

    Raises:
        ValueError: If the format, the shape or the length differs.
    """
    magic = bytes((0, 0, 8, len(shape)))
    if content[:4] != magic:
        raise ValueError(
            f"{source} must be an IDX file of unsigned bytes in {len(shape)} dimensions, "
            f"which begins with {magic.hex()}, got {content[:4].hex() or 'an empty file'}"
        )
    header = struct.Struct(f">4x{len(shape)}I")
    if len(content) < header.size:
        raise ValueError(f"{source} is truncated within its header of {header.size} bytes")
    found = header.unpack_from(content)
    if found != shape:
        raise ValueError(f"{source} must have shape {shape}, got {found}")
    values = np.frombuffer(content, np.uint8, offset=header.size)
    if values.size != np.prod(shape):
        raise ValueError(f"{source} must hold {np.prod(shape)} values, got {values.size}")
    return values.reshape(shape)


def _from_idx(
    name: str,
    files: Sequence[DataFile],
    data_dir: str | os.PathLike[str] | None,
    sizes: tuple[int, int, int] = (50_000, 10_000, 10_000),
    image_shape: tuple[int, int] = SHAPE,
) -> Dataset:
    """A data set in four files: images and labels for training and test.

    Args:
        name: Name of the data set.
        files: The files, in this order.
        data_dir: Directory to search first.
        sizes: Numbers of training, validation and test images; validation images are the last of
            the first file.
        image_shape: Height and width.
    """
    content = read_files(files, data_dir)
    num_train, num_val, num_test = sizes
    arrays: list[NDArray[np.uint8]] = []
    for file, size in zip(files, 2 * [num_train + num_val] + 2 * [num_test], strict=True):
        shape = (size, *image_shape) if len(arrays) % 2 == 0 else (size,)
        arrays.append(read_idx(content[file.name], shape, file.name))
    rest, rest_labels, test, test_labels = arrays
    order = np.arange(len(rest))
    return _dataset(
        name,
        np.concatenate([rest, test]),
        np.concatenate([rest_labels, test_labels]),
        (order[:num_train], order[num_train:], len(rest) + np.arange(num_test)),
        image_shape,
    )


def _from_mat(
    name: str,
    file: DataFile,
    data_dir: str | os.PathLike[str] | None,
    sizes: tuple[int, int, int] = (23_000, 1_345, 8_070),
) -> Dataset:
    """A data set in the layout of chardata.mat; each column is an image or its label.

    ==========================  ======================================================
    data, testdata              (784, N), pixels of an image column by column
    target, testtarget          (A, N), one in the row of the alphabet and zero elsewhere
    targetchar, testtargetchar  (1, N), number of the character within its alphabet
    ==========================  ======================================================
    """
    from scipy.io import loadmat

    variables = loadmat(io.BytesIO(read_files((file,), data_dir)[file.name]))
    num_train, num_val, num_test = sizes
    rest, rest_pairs = _columns(variables, "", num_train + num_val, file.name)
    test, test_pairs = _columns(variables, "test", num_test, file.name)
    # Classes of all splits are numbered together, so that a character has one number.
    _, labels = np.unique(np.concatenate([rest_pairs, test_pairs]), axis=0, return_inverse=True)
    # The authors' shuffle. numpy keeps what this generator draws the same for ever.
    order = np.random.RandomState(123).permutation(len(rest))
    splits = (order[:num_train], order[num_train:], len(rest) + np.arange(num_test))
    return _dataset(name, np.concatenate([rest, test]), labels.reshape(-1), splits, SHAPE)


def _columns(
    variables: dict[str, Any], prefix: str, num_images: int, source: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 28, 28) of one part of chardata.mat, and pairs (N, 2) of alphabet and character.

    Raises:
        ValueError: If a variable is missing, or its shape or range is wrong.
    """
    names = [f"{prefix}{variable}" for variable in ("data", "target", "targetchar")]
    if lacking := [variable for variable in names if variable not in variables]:
        raise ValueError(f"{source} must have the variables {', '.join(names)}, lacks {lacking}")
    images, alphabets, characters = (np.asarray(variables[variable]) for variable in names)
    height, width = SHAPE
    if images.shape != (height * width, num_images):
        expected = (height * width, num_images)
        raise ValueError(f"{names[0]} of {source} must be {expected}, got {images.shape}")
    if alphabets.shape[1:] != (num_images,) or not ((alphabets > 0.5).sum(axis=0) == 1).all():
        raise ValueError(f"{names[1]} of {source} must have one 1 in each of {num_images} columns")
    if characters.size != num_images:
        raise ValueError(
            f"{names[2]} of {source} must have {num_images} values, got {characters.size}"
        )
    # The tolerance covers only rounding errors, not values from 0 to 255.
    if not (images.min() >= -1e-6 and images.max() <= 1 + 1e-6):
        raise ValueError(
            f"{names[0]} of {source} must be in [0, 1], got [{images.min()}, {images.max()}]"
        )
    # Images are stored column by column, so the width is the first axis.
    upright = images.T.reshape(num_images, width, height).transpose(0, 2, 1)
    pairs = np.stack([alphabets.argmax(axis=0), characters.reshape(-1)], axis=1)
    return _quantised(upright), pairs.astype(np.int64)


def _from_archives(
    name: str,
    files: Sequence[DataFile],
    data_dir: str | os.PathLike[str] | None,
    per_character: tuple[int, int, int] = (14, 2, 4),
) -> Dataset:
    """A data set in zip archives of drawings, ARCHIVE/ALPHABET/CHARACTER/DRAWING.png.

    Args:
        name: Name of the data set.
        files: The archives. A drawing in several archives is used once.
        data_dir: Directory to search first.
        per_character: Numbers of training, validation and test drawings of each character.

    Raises:
        ValueError: If the number of drawings of a character differs.
    """
    drawings: dict[tuple[str, ...], NDArray[np.uint8]] = {}
    for content in read_files(files, data_dir).values():
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for path in archive.namelist():
                key = tuple(path.split("/")[-3:])
                if path.endswith(".png") and key not in drawings:
                    drawings[key] = _quantised(area_average(_ink(archive.read(path)), SHAPE))
    keys = sorted(drawings)
    characters, labels, counts = np.unique(
        ["/".join(key[:-1]) for key in keys], return_inverse=True, return_counts=True
    )
    end_train, end_val, _ = np.cumsum(per_character)
    if (wrong := counts != sum(per_character)).any():
        raise ValueError(
            f"{name} must have {sum(per_character)} drawings of each character, "
            f"got {counts[wrong][0]} of {characters[wrong][0]}"
        )
    # Shuffled as a whole to mix the characters; the first of each character are for training.
    # The draws of this generator never change between versions of numpy.
    order = np.random.RandomState(0).permutation(len(keys))
    rank = np.empty(len(keys), dtype=np.int64)
    rank[np.argsort(labels[order], kind="stable")] = np.tile(
        np.arange(sum(per_character)), len(characters)
    )
    splits = (
        order[rank < end_train],
        order[(rank >= end_train) & (rank < end_val)],
        order[rank >= end_val],
    )
    return _dataset(name, np.stack([drawings[key] for key in keys]), labels, splits, SHAPE)


def _ink(png: bytes) -> NDArray[np.float64]:
    """A black-on-white drawing (H, W) as 1 for ink and 0 for paper."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return 1.0 - np.asarray(image.convert("1"), dtype=np.float64)


def area_average(image: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Downsample an image: each new pixel is the mean of the rectangle that it covers.

    Pixels at the rectangle's edge are weighted by the part inside; torch's adaptive pooling gives
    them full weight in both rectangles.

    Args:
        image: Shape (H, W).
        shape: The new height and width.
    """

    def weights(size: int, pixels: int) -> NDArray[np.float64]:
        """Weights (size, pixels) of old pixels in new ones; rows sum to one."""
        edges = np.arange(size + 1)[:, None] * (pixels / size)
        start = np.arange(pixels)
        overlap = np.minimum(edges[1:], start + 1) - np.maximum(edges[:-1], start)
        shares: NDArray[np.float64] = np.maximum(overlap, 0) * (size / pixels)
        return shares

    height, width = image.shape
    averaged: NDArray[np.float64] = weights(shape[0], height) @ image @ weights(shape[1], width).T
    return averaged


def _quantised(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in [0, 1] as indices of the nearest level."""
    levels: NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * (LEVELS - 1)).astype(np.uint8)
    return levels


def _dataset(
    name: str,
    pixels: NDArray[np.uint8],
    labels: NDArray[Any],
    splits: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    image_shape: tuple[int, int],
) -> Dataset:
    """A data set from images (N, H, W) and labels (N,), split by indices."""

    def rows(split: NDArray[Any]) -> Tensor:
        return torch.as_tensor(pixels[split]).flatten(1).float().div_(LEVELS - 1)

    def classes(split: NDArray[Any]) -> Tensor:
        return torch.as_tensor(labels[split].astype(np.int64))

    train, val, test = splits
    return Dataset(
        name,
        rows(train),
        rows(val),
        rows(test),
        classes(train),
        classes(val),
        classes(test),
        image_shape=(1, *image_shape),
        levels=LEVELS,
    )
