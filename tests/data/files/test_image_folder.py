"""Pixels are compared with numpy; Pillow only writes the files."""

import contextlib
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimachine._support import memory
from mimachine.data.files import image_folder
from mimachine.data.files.image_folder import peek, read_images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 8), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 8, 3), dtype=np.uint8)


def save(file, image, **options):
    """Write an image or an array to a file, and make its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, **options)


def read_one(tmp_path, image, name="a.png", read=(), **options):
    """Values of the only image in a folder."""
    save(tmp_path / name, image, **options)
    (values,) = read_images(tmp_path, **dict(read)).values
    return values


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# --- pixels --------------------------------------------------------------------------------------


LOSSLESS = ["png", "PNG", "bmp", "tif", "TIFF", "pnm", "webp"]


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [("gif", GREY), *((suffix, pixels) for suffix in LOSSLESS for pixels in (GREY, COLOUR))],
    ids=lambda value: value if isinstance(value, str) else f"{value.ndim}d",
)
def test_lossless_formats_come_back_exact(tmp_path, suffix, pixels):
    options = {"lossless": True} if suffix == "webp" else {}
    # WebP is always in colour.
    colour = pixels.ndim == 3 if suffix == "webp" else None
    values = read_one(tmp_path, pixels, f"a.{suffix}", {"colour": colour}, **options)
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, pixels)


def test_a_jpeg_comes_back_close(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(40)).astype(np.uint8)
    values = read_one(tmp_path, smooth, "a.jpg", quality=95)
    assert np.abs(values.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_to_the_nearest_of_eight(tmp_path, name):
    all_values = np.arange(65_536).reshape(256, 256)
    values = read_one(tmp_path, all_values.astype(np.uint16), name)
    # Halves do not occur, 257 being odd.
    np.testing.assert_array_equal(values, (2 * all_values + 257) // (2 * 257))
    assert "1 image with more than 8 bits: scaled to 8 bits" in read_images(tmp_path).notes


def test_real_numbers_are_levels_of_grey_up_to_one(tmp_path):
    levels = np.arange(256).reshape(16, 16)
    values = read_one(tmp_path, (levels / 255).astype(np.float32), "a.tif")
    np.testing.assert_array_equal(values, levels)


@pytest.mark.parametrize("white", [-0.5, 1.5, 255.0, np.nan])
def test_real_numbers_in_other_units_are_an_error(tmp_path, white):
    with pytest.raises(ValueError, match=r"a\.tif .*must be in \[0, 1\], got .*with 8 bits"):
        read_one(tmp_path, np.float32([[0.25, white]]), "a.tif")


def test_whole_numbers_beyond_sixteen_bits_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"a\.tif .*must be in \[0, 65535\], got \[0, 70000\]"):
        read_one(tmp_path, np.int32([[0, 70_000]]), "a.tif")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_composed_on_white(tmp_path, mode):
    alpha, level = np.divmod(np.arange(65_536).reshape(256, 256), 256)
    bands = [level] * (len(mode) - 1) + [alpha]
    values = read_one(tmp_path, np.stack(bands, axis=-1).astype(np.uint8))
    # Halves do not occur, 255 being odd.
    expected = np.rint((alpha * level + (255 - alpha) * 255) / 255)
    if mode == "RGBA":
        expected = np.stack([expected] * 3, axis=-1)
    np.testing.assert_array_equal(values, expected)
    assert "1 image with transparency: shown on white" in read_images(tmp_path).notes


@pytest.mark.parametrize(
    ("pixels", "key"),
    [
        (np.uint8([[0, 90, 255]]), 90),
        (np.uint16([[0, 90 * 257, 65_535]]), 90 * 257),
        (np.uint8([[[0, 0, 0], [1, 2, 3], [9, 9, 9]]]), (1, 2, 3)),
    ],
    ids=["8 bits", "16 bits", "colour"],
)
def test_a_value_that_stands_for_transparent_is_white(tmp_path, pixels, key):
    values = read_one(tmp_path, pixels, transparency=key)
    plain = read_one(tmp_path / "plain", pixels)
    assert (values[0, 1] == 255).all()
    np.testing.assert_array_equal(values[:, ::2], plain[:, ::2])


def test_a_palette_is_looked_up(tmp_path):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert read_one(tmp_path, image, "a.gif").tolist() == [
        [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    ]
    seen = read_one(tmp_path / "key", image, transparency=bytes([255, 0, 255]))
    assert seen.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.bmp"])
def test_a_palette_of_greys_is_grey(tmp_path, name):
    image = Image.frombytes("P", (8, 5), (GREY % 16).tobytes())
    image.putpalette([level for i in range(16) for level in [250 - 9 * i] * 3])
    np.testing.assert_array_equal(read_one(tmp_path, image, name), 250 - 9 * (GREY % 16))
    image.putpalette([level for i in range(16) for level in (250 - 9 * i, 3, i)])
    values = read_one(tmp_path, image, name)
    expected = np.stack([250 - 9 * (GREY % 16), np.full_like(GREY, 3), GREY % 16], axis=-1)
    np.testing.assert_array_equal(values, expected)


def test_black_and_white_are_grey(tmp_path):
    bits = GREY > 127
    np.testing.assert_array_equal(read_one(tmp_path, bits), np.where(bits, 255, 0))


def test_printing_colours_are_turned_to_those_of_screens(tmp_path):
    inks = RNG.integers(0, 256, (5, 8, 4), dtype=np.uint8)
    values = read_one(tmp_path, Image.frombytes("CMYK", (8, 5), inks.tobytes()), "a.tif")
    light = 255.0 - inks
    # One level for the rounding of the product.
    np.testing.assert_allclose(values, light[..., :3] * light[..., 3:] / 255, atol=1)


UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_as_exif_says(tmp_path, orientation, name):
    options = {"lossless": True} if name == "a.webp" else {}
    values = read_one(tmp_path, COLOUR, name, exif=exif(orientation), **options)
    np.testing.assert_array_equal(values, UPRIGHT[orientation](COLOUR))
    assert peek(tmp_path) == (1, values.shape)


def test_images_are_turned_before_they_are_cut(tmp_path):
    # Large enough that only an eighth of the JPEG's size is decoded.
    halves = np.repeat(np.uint8([[0, 255]]), 160, axis=1).repeat(200, axis=0)
    values = read_one(tmp_path, halves, "a.jpg", {"resize": (8, 4)}, exif=exif(6))
    # The edge between the halves is blurred.
    assert (values[:3] < 20).all()
    assert (values[5:] > 235).all()


def test_an_orientation_after_the_pixels_is_not_passed_over(tmp_path):
    file = tmp_path / "a.png"
    save(file, GREY, exif=exif(6))
    content = file.read_bytes()
    start, pixels, end = (content.index(kind) - 4 for kind in (b"eXIf", b"IDAT", b"IEND"))
    late = [content[:start], content[pixels:end], content[start:pixels], content[end:]]
    file.write_bytes(b"".join(late))
    with pytest.raises(ValueError, match="is 8 × 5 when decoded and 5 × 8 by its header"):
        read_images(tmp_path)
    expected = np.rot90(GREY, -1)
    np.testing.assert_array_equal(read_images(tmp_path, resize=(8, 5)).values, [expected])


def test_damaged_exif_does_not_matter(tmp_path):
    values = read_one(tmp_path, COLOUR, exif=b"Exif\0\0neither II nor MM")
    np.testing.assert_array_equal(values, COLOUR)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tif"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, name):
    frames = [Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (9, 99, 199)]
    values = read_one(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    assert (values == 9).all()
    assert "1 image with several frames: the first is read" in read_images(tmp_path).notes


# --- grey and colour -----------------------------------------------------------------------------


def test_a_mixture_is_read_as_if_each_were_colour(tmp_path):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", COLOUR)
    images = read_images(tmp_path)
    np.testing.assert_array_equal(images.values, [np.stack([GREY] * 3, axis=-1), COLOUR])
    assert images.notes == ("2 colour images of 5 × 8", "1 grey image: read as colour")


def test_grey_may_be_asked_for_and_is_luma(tmp_path):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", COLOUR)
    images = read_images(tmp_path, colour=False)
    np.testing.assert_array_equal(images.values[0], GREY)
    # ITU-R 601; half a level for its rounding.
    np.testing.assert_allclose(images.values[1], COLOUR @ [0.299, 0.587, 0.114], atol=0.51)
    assert "1 colour image: read as grey" in images.notes


def test_colour_may_be_asked_for(tmp_path):
    values = read_one(tmp_path, GREY, read={"colour": True})
    np.testing.assert_array_equal(values, np.stack([GREY] * 3, axis=-1))


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 3), (5, 8), (7, 20), (40, 2)])
@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_constant_image_stays_constant(tmp_path, size, level):
    values = read_one(tmp_path, np.full((5, 8), level, np.uint8), read={"resize": size})
    assert values.shape == size
    assert (values == level).all()


def test_resizing_to_the_same_size_changes_nothing(tmp_path):
    values = read_one(tmp_path, COLOUR, read={"resize": (5, 8)})
    np.testing.assert_array_equal(values, COLOUR)
    assert read_images(tmp_path, resize=(5, 8)).notes == ("1 colour image of 5 × 8",)


def test_the_centre_is_cut_out(tmp_path):
    framed = np.zeros((8, 24), np.uint8)
    framed[:, 8:16] = RNG.integers(0, 256, (8, 8))
    np.testing.assert_array_equal(
        read_one(tmp_path, framed, read={"resize": (8, 8)}), framed[:, 8:16]
    )
    upright = read_one(tmp_path / "upright", framed.T, read={"resize": (8, 8)})
    np.testing.assert_array_equal(upright, framed[:, 8:16].T)


def test_scaling_down_averages(tmp_path):
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    values = read_one(tmp_path, board, read={"resize": (8, 8)})
    assert np.abs(values.astype(int) - 127.5).max() < 8


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_large_jpegs_lose_nothing_by_being_decoded_smaller(tmp_path, factor):
    # Bars of two new pixels each, which a smaller image cannot represent.
    bars = np.tile(np.repeat(np.uint8([20, 220]), 2 * factor), (32 * factor, 16))
    jpeg = read_one(tmp_path / "jpeg", bars, "a.jpg", {"resize": (32, 64)}, quality=95)
    exact = read_one(tmp_path / "png", bars, read={"resize": (32, 64)})
    np.testing.assert_allclose(jpeg.astype(int), exact, atol=6)


def test_what_was_scaled_is_said(tmp_path):
    for name, size in {"a": (9, 9), "b": (4, 4), "c": (12, 8), "d": (6, 6), "e": (9, 9)}.items():
        save(tmp_path / f"{name}.png", np.zeros(size, np.uint8))
    note = read_images(tmp_path, resize=(6, 6)).notes[1]
    assert note == "4 images of 3 other sizes: cropped and scaled, 1 of them enlarged"


@pytest.mark.parametrize(
    ("sizes", "advice"),
    [
        ([(28, 28), (28, 28), (28, 29)], (28, 28)),
        ([(480, 640), (481, 640), (480, 640)], (48, 64)),
        ([(400, 300), (400, 300), (10, 20)], (64, 48)),
        ([(2, 4000), (2, 4000), (2, 3999)], (8, 64)),
    ],
)
def test_several_sizes_are_an_error_that_proposes_one(tmp_path, sizes, advice):
    for row, size in enumerate(sizes):
        save(tmp_path / f"{row}.png", np.zeros(size, np.uint8))
    height, width = advice
    expected = rf"2 sizes among 3 images.*resize=\({height}, {width}\)$"
    with pytest.raises(ValueError, match=expected):
        read_images(tmp_path)
    assert peek(tmp_path)[0] == 3
    assert read_images(tmp_path, resize=advice).values.shape == (3, height, width)


def test_the_one_image_of_another_size_is_named(tmp_path):
    for row in range(20):
        save(tmp_path / f"{row:02}.png", np.zeros((4, 3 + (row == 7)), np.uint8))
    with pytest.raises(ValueError, match=r"got 4 × 3 of \d\d\.png and 4 × 4 of 07\.png"):
        read_images(tmp_path)


@pytest.mark.parametrize("resize", [(0, 8), (8, -1), (8,)])
def test_an_impossible_size_is_an_error(tmp_path, resize):
    save(tmp_path / "a.png", GREY)
    for read in (read_images, peek):
        with pytest.raises(ValueError, match="resize must be a height and a width of at least 1"):
            read(tmp_path, resize=resize)


# --- files ---------------------------------------------------------------------------------------

NAMES = ["b/2.png", "a/10.png", "a/2.png", "a b/1.PNG", "a/c/é.png", "0.png", "Z.png"]


def test_order_does_not_depend_on_the_file_system_or_on_threads(tmp_path):
    pixels = {name: np.full((2, 2), row, np.uint8) for row, name in enumerate(NAMES)}
    pixels |= {f"many/{row:03}.png": np.full((2, 2), row, np.uint8) for row in range(100)}
    for name in pixels:
        save(tmp_path / "one" / name, pixels[name])
    for name in reversed(pixels):
        save(tmp_path / "two" / name, pixels[name])
    one, two = read_images(tmp_path / "one"), read_images(tmp_path / "two")
    assert one.files == two.files == tuple(sorted(pixels))
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.values, [pixels[name] for name in one.files])


def test_labels_are_the_sub_folders(tmp_path):
    for name in NAMES:
        save(tmp_path / name, GREY)
    images = read_images(tmp_path)
    labels = dict(zip(images.files, images.labels.tolist(), strict=True))
    assert labels["a/2.png"] == labels["a/10.png"] == "a"
    assert labels["a/c/é.png"] == "a/c"
    assert labels["0.png"] == "."
    assert "labels: 5 sub-folders" in images.notes


def test_without_sub_folders_there_are_no_labels(tmp_path):
    save(tmp_path / "a.png", GREY)
    images = read_images(str(tmp_path))
    assert images.labels is None
    assert images.source == str(tmp_path)


def test_other_and_hidden_files_are_counted_and_not_read(tmp_path):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / ".b.png", COLOUR)
    save(tmp_path / ".thumbs" / "c.png", COLOUR)
    for name in ("labels.csv", "x.TXT", "y.txt", "LICENSE"):
        (tmp_path / name).write_text("no image")
    images = read_images(tmp_path)
    assert images.files == ("a.png",)
    unused = "files not used: 1 .csv, 2 .txt, 2 hidden, 1 without a suffix"
    assert images.notes == ("1 grey image of 5 × 8", unused)


def test_links_are_followed_but_not_for_ever(tmp_path):
    save(tmp_path / "elsewhere" / "a.png", GREY)
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "class").symlink_to(tmp_path / "elsewhere")
    (root / "sub" / "up").symlink_to(root)
    (root / "sub" / "b.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    assert read_images(root).files == ("class/a.png", "sub/b.png")


def test_what_an_image_is_called_does_not_matter(tmp_path):
    save(tmp_path / "a.jpg", COLOUR, format="PNG")
    np.testing.assert_array_equal(read_images(tmp_path).values, [COLOUR])


# --- memory --------------------------------------------------------------------------------------


def test_on_disk_is_the_same_as_in_memory(tmp_path, monkeypatch):
    for row in range(100):
        save(tmp_path / "images" / f"{row}.png", np.roll(COLOUR, row, axis=0))
    within = read_images(tmp_path / "images")
    assert not isinstance(within.values, np.memmap)
    monkeypatch.setattr(memory, "MAPPED_SHARE", 0)
    monkeypatch.setattr(image_folder, "_HELD_BYTES", 10 * COLOUR.nbytes)
    mapped = read_images(tmp_path / "images")
    assert isinstance(mapped.values, np.memmap)
    np.testing.assert_array_equal(mapped.values, within.values)
    assert (mapped.files, mapped.notes) == (within.files, within.notes)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is not reserved here")
def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    save(tmp_path / "a.png", COLOUR)
    monkeypatch.setattr(memory, "MAPPED_SHARE", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"120 bytes of images do not fit into .*No space.*TMPDIR"):
        read_images(tmp_path)


def test_peek_agrees_with_reading_and_decodes_nothing(tmp_path):
    for row in range(12):
        save(tmp_path / f"{row:02}.png", GREY)
    assert peek(tmp_path) == (12, (5, 8))
    assert peek(tmp_path, resize=(3, 4)) == (12, (3, 4))
    save(tmp_path / "11.png", COLOUR)
    assert peek(tmp_path) == (12, read_images(tmp_path).values.shape[1:])
    (tmp_path / "11.png").write_bytes((tmp_path / "11.png").read_bytes()[:-30])
    assert peek(tmp_path) == (12, (5, 8, 3))


def test_importing_it_loads_neither_torch_nor_pillow():
    code = (
        "import sys, mimachine.data.files.image_folder; "
        "sys.exit(bool({'torch', 'PIL'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- errors --------------------------------------------------------------------------------------


def test_a_missing_folder_is_an_error_with_the_nearest_name(tmp_path):
    (tmp_path / "pictures").mkdir()
    for folder in ("pitcures", "pitcures/cats/black"):
        for read in (read_images, peek):
            with pytest.raises(FileNotFoundError, match=r"no folder .*mean 'pictures'\?$"):
                read(tmp_path / folder)


def test_a_file_is_not_a_folder(tmp_path):
    save(tmp_path / "a.png", GREY)
    with pytest.raises(NotADirectoryError, match=r"a\.png must be a folder of images, got a file"):
        read_images(tmp_path / "a.png")


def test_a_folder_without_images_says_what_it_has(tmp_path):
    with pytest.raises(ValueError, match=r"must hold images \(.*\.png .*\), got no files$"):
        read_images(tmp_path)
    for name in ("a.heic", "b.heic", "c.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"must hold images .*, got 1 \.csv, 2 \.heic$"):
        peek(tmp_path)


def damage(file, kind):
    content = file.read_bytes()
    if kind == "a dead link":
        file.unlink()
        file.symlink_to(file.parent / "nowhere")
        return
    file.write_bytes(
        {
            "truncated": content[:-25],
            "garbled": content[:-30] + bytes(30),
            "empty": b"",
            "a web page": b"<!DOCTYPE html><title>404</title>",
            "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 5\n",
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated", "cannot be decoded: .*"),
        ("garbled", "cannot be decoded: .*"),
        ("empty", "is empty"),
        ("a web page", "is damaged or not an image: it begins with b'<!DOCTYPE html>.*'"),
        ("a program", "is damaged or not an image: it begins with b'%!PS.*'"),
        ("a dead link", "cannot be opened: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, kind, said):
    for row in range(9):
        save(tmp_path / "sub" / f"{row}.png", COLOUR)
    damage(tmp_path / "sub" / "6.png", kind)
    with pytest.raises(ValueError, match=rf"1 of 9 images in .*: sub/6\.png {said}\. Replace"):
        read_images(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp", "ppm"])
def test_half_a_file_is_an_error_in_every_format(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    save(file, RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"1 of 1 image in .*: a\.{suffix} (is|cannot be) "):
        read_images(tmp_path)


def test_all_damaged_files_are_found_at_once_and_five_are_listed(tmp_path):
    for row in range(40):
        save(tmp_path / f"{row:02}.png", COLOUR)
    for row in range(10, 17):
        damage(tmp_path / f"{row}.png", "truncated" if row % 2 else "empty")
    with pytest.raises(ValueError, match=r"^7 of 40 images .*; and 2 more\. Replace") as caught:
        read_images(tmp_path)
    named = [f"{row:02}.png" for row in range(40) if f"{row:02}.png" in str(caught.value)]
    assert named == ["10.png", "11.png", "12.png", "13.png", "14.png"]


@contextlib.contextmanager
def unprivileged():
    """Act as nobody if this is the superuser, who may read everything."""
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)


def test_a_file_that_nobody_may_read_is_named():
    # Not in tmp_path, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        save(Path(folder, "a.png"), GREY)
        assert len(read_images(folder).values) == 1
        os.chmod(Path(folder, "a.png"), 0)
        with (
            unprivileged(),
            pytest.raises(ValueError, match=r"a\.png cannot be opened: Permission denied"),
        ):
            read_images(folder)


@pytest.mark.parametrize("limit", [10, 30])
def test_far_too_many_pixels_are_an_error(tmp_path, monkeypatch, limit):
    # Pillow warns above its limit, and raises above twice the limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    save(tmp_path / "a.png", GREY)
    for read in (read_images, peek):
        with pytest.raises(ValueError, match=rf"a\.png has more than {limit} pixels"):
            read(tmp_path)


@pytest.mark.parametrize("mark", ["experiment.json", "comparison.json"])
def test_pictures_in_directories_of_runs_are_no_data(tmp_path, mark):
    save(tmp_path / "a.png", GREY)
    (tmp_path / "cats").mkdir()
    save(tmp_path / "cats" / "b.png", GREY)
    (tmp_path / "runs" / "one" / "deeper").mkdir(parents=True)
    (tmp_path / "runs" / "one" / mark).write_text("{}")
    save(tmp_path / "runs" / "one" / "samples.png", COLOUR)
    save(tmp_path / "runs" / "one" / "deeper" / "plane.png", COLOUR)
    images = read_images(tmp_path)
    assert images.files == ("a.png", "cats/b.png")
    assert images.notes[-1] == "files not used: 1 directory of a run or comparison"
    # A run directory given as the folder itself is read.
    assert read_images(tmp_path / "runs" / "one").files == ("deeper/plane.png", "samples.png")
