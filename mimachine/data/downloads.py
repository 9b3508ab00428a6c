"""Find files of data sets on this machine, otherwise download them, and verify their content.

=====================================  ==================================================
the argument `data_dir`                the files, or a folder named like the data set
the variable MIMACHINE_DATA            the files, or a folder named like the data set
/usr/share/datasets                    files of Debian's packages
$XDG_CACHE_HOME/mimachine, or the      files downloaded before
platform's cache directory
=====================================  ==================================================

Files are searched in this order, compressed or not. Hashes are those of the decompressed content,
because the same data are distributed in different compressed files.

Downloads use urllib: pooch supports neither mirrors, nor local folders, nor hashes of decompressed
content.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import shutil
import sys
import urllib.request
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimachine._support.files import replacing

__all__ = ["DataFile", "FILES", "cache", "find", "located", "places", "read_files"]

VARIABLE = "MIMACHINE_DATA"
DEBIAN = Path("/usr/share/datasets")


@dataclass(frozen=True)
class DataFile:
    """A file of a data set, with the hash of its content.

    Attributes:
        folder: Folder of its data set, within each search location and in the cache.
        name: Name of the uncompressed file.
        digest: Hash of the decompressed content: `sha256:` or `git:` (git's blob id), and hex
            digits.
        mirrors: URLs to download it from, in the order to try them; compressed if a URL ends in
            .gz.
    """

    folder: str
    name: str
    digest: str
    mirrors: tuple[str, ...] = ()


def _idx_files(folder: str, mirrors: Sequence[str], digests: dict[str, str]) -> list[DataFile]:
    """Images and labels for training and test, in the format of MNIST."""
    return [
        DataFile(folder, name, f"sha256:{digest}", tuple(f"{at}/{name}.gz" for at in mirrors))
        for name, digest in digests.items()
    ]


FILES: dict[str, list[DataFile]] = {
    "mnist": _idx_files(
        "mnist",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://raw.githubusercontent.com/fgnt/mnist/master",
        ),
        {
            "train-images-idx3-ubyte": (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
            ),
            "train-labels-idx1-ubyte": (
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
            ),
            "t10k-images-idx3-ubyte": (
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
            ),
            "t10k-labels-idx1-ubyte": (
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
            ),
        },
    ),
    "fashion-mnist": _idx_files(
        "fashion-mnist",
        (
            # The project's own site has no https; downloads are verified.
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        {
            "train-images-idx3-ubyte": (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
            ),
            "train-labels-idx1-ubyte": (
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
            ),
            "t10k-images-idx3-ubyte": (
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
            ),
            "t10k-labels-idx1-ubyte": (
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
            ),
        },
    ),
    "omniglot": [
        DataFile(
            "omniglot",
            "chardata.mat",
            # No sha256 was published; this is its blob id in the history of its repository.
            "git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
            (
                "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
                "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",
            ),
        )
    ],
    "omniglot-small": [
        DataFile(
            "omniglot",
            name,
            f"sha256:{digest}",
            (
                f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{name}",
                f"https://github.com/brendenlake/omniglot/raw/master/python/{name}",
            ),
        )
        for name, digest in (
            # Their md5, as published: e704a628b5459e08445c13499850abc4 and
            # b75a71a51d3b13f821f212756fe481fd.
            (
                "images_background_small1.zip",
                "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
            ),
            (
                "images_background_small2.zip",
                "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
            ),
        )
    ],
}


def cache() -> Path:
    """The user's cache directory for downloads and derived tensors."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mimachine"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mimachine"
    if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "mimachine" / "Cache"
    return Path.home() / ".cache" / "mimachine"


def places(folder: str, data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """Directories to search for files of a data set, in order.

    Args:
        folder: Name of the data set's folder. It is searched before its parent, since files of
            different data sets share names.
        data_dir: Directory to search first.

    Raises:
        NotADirectoryError: If `data_dir` or MIMACHINE_DATA is given and is not a directory, so
            that a typing mistake does not cause a download.
    """
    found = []
    for source, place in (("data_dir", data_dir), (VARIABLE, os.environ.get(VARIABLE) or None)):
        if place is not None:
            path = Path(place).expanduser()
            if not path.is_dir():
                raise NotADirectoryError(
                    f"{source} must be an existing directory, got {str(place)!r}"
                )
            found += [path / folder, path]
    return [*found, DEBIAN / folder, cache() / folder]


def find(file: DataFile, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Path of the first file of that name, compressed or not, or None; it is not read."""
    for place in places(file.folder, data_dir):
        for path in (place / file.name, place / f"{file.name}.gz"):
            if path.is_file():
                return path
    return None


def located(
    data_dir: str | os.PathLike[str] | None = None,
) -> list[tuple[str, str, Path | None]]:
    """Name of data set, name of file, and path or None, for all files; none is read."""
    return [
        (name, file.name, find(file, data_dir)) for name, files in FILES.items() for file in files
    ]


def read_files(
    files: Iterable[DataFile],
    data_dir: str | os.PathLike[str] | None = None,
    timeout: float = 30.0,
) -> dict[str, bytes]:
    """Decompressed and verified content of files, by name.

    Files that are not on this machine are downloaded to the user's cache.

    Args:
        files: The files.
        data_dir: Directory to search first.
        timeout: Seconds to wait for a response of a mirror.

    Raises:
        ValueError: If a file on this machine has unexpected content. It is not skipped, so that
            the user's file is never silently replaced by another.
        FileNotFoundError: If a file is not on this machine and cannot be downloaded.
    """
    files = tuple(files)
    # Verify all local files before any download.
    found = {file: find(file, data_dir) for file in files}
    content = {file.name: _local(file, path) for file, path in found.items() if path is not None}
    missing = [file for file, path in found.items() if path is None]
    for file in missing:
        failures: list[str] = []
        for address in file.mirrors:
            try:
                content[file.name] = _download(file, address, timeout)
                break
            except urllib.error.HTTPError as error:
                error.close()
                failures.append(f"{address}: {error}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures.append(f"{address}: {error or type(error).__name__}")
        else:
            raise FileNotFoundError(_how_to_get(missing, data_dir, failures))
    return content


def _local(file: DataFile, path: Path) -> bytes:
    try:
        return _verified(file, path, compressed=path.suffix == ".gz")
    except ValueError as error:
        hint = "remove or replace it"
        if path.is_relative_to(cache()):
            hint = "remove it to have it downloaded again"
        elif path.parent.name != file.folder:
            hint += f", or put each data set into its own folder, here {file.folder}"
        raise ValueError(f"{path} {error}; {hint}") from error


def _download(file: DataFile, address: str, timeout: float) -> bytes:
    """Download a file to the cache, if its content is correct, and return the content."""
    compressed = address.endswith(".gz")
    target = cache() / file.folder / (f"{file.name}.gz" if compressed else file.name)
    request = urllib.request.Request(address, headers={"User-Agent": "mimachine"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            with temporary.open("wb") as written:
                shutil.copyfileobj(response, written)
            # An error here, before the file is renamed, also removes it.
            try:
                return _verified(file, temporary, compressed)
            except ValueError as error:
                raise ValueError(f"the download {error}") from error


def _verified(file: DataFile, path: Path, compressed: bool) -> bytes:
    """Decompressed content of a file; an error if its hash is wrong."""
    content = path.read_bytes()
    if compressed:
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"is not a complete gzip file ({error})") from error
    kind, _, expected = file.digest.partition(":")
    found = _hash(content, kind)
    if found != expected:
        raise ValueError(
            f"is not {file.name} of {file.folder}: expected {kind} {expected} of its "
            f"{'decompressed ' if compressed else ''}content, got {found}"
        )
    return content


def _hash(content: bytes, kind: str) -> str:
    if kind == "git":
        # git's blob id detects damage, not forgery.
        blob = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
        blob.update(content)
        return blob.hexdigest()
    if kind == "sha256":
        return hashlib.sha256(content).hexdigest()
    raise ValueError(f"the kind of a digest must be sha256 or git, got {kind!r}")


def _how_to_get(
    missing: Sequence[DataFile],
    data_dir: str | os.PathLike[str] | None,
    failures: Sequence[str],
) -> str:
    """Explain how to get missing files, the first of which could not be downloaded."""
    folder = missing[0].folder
    still = [file.name for file in missing if find(file, data_dir) is None]
    looked = ", ".join(map(str, places(folder, data_dir)))
    tried = "; ".join(failures) or "no mirror"
    return (
        f"data set {folder} lacks {', '.join(still)}: not found in {looked}, "
        f"and the download failed ({tried}). Put the files, plain or as .gz, into "
        f"{cache() / folder}, or into a directory given as data_dir or by the environment "
        f"variable {VARIABLE}"
    )
