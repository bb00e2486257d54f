"""Images in every shape they come in, and files that are none."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pat.base.errors import UserError
from pat.data.images import MAX_BYTES, MAX_PIXELS, UnreadableImage, find_images, is_image_name, load_rgb, resize


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)


def test_plain_rgb_is_unchanged(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png")
    image = load_rgb(tmp_path / "a.png")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, rgb: np.ndarray, orientation: int) -> None:
    # What a camera stores for an upright image, by the EXIF table of row 0 and column 0.
    stored = {
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, 1), 7: np.rot90(rgb, 2).transpose(1, 0, 2), 8: np.rot90(rgb, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.png")), rgb)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_leaves_the_image_as_stored(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff nonsense")
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.png")), rgb)


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    colours = np.zeros((16, 32, 3), dtype=np.uint8)
    colours[:, :16], colours[:, 16:] = (200, 40, 40), (30, 60, 180)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
    loaded = np.asarray(load_rgb(tmp_path / "a.jpg")).astype(int)
    assert np.abs(loaded[4:12, 4:12] - (200, 40, 40)).max() < 12
    assert np.abs(loaded[4:12, 20:28] - (30, 60, 180)).max() < 12


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 12 * 8).reshape(12, 8).astype(np.uint16)
    expected = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2)
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / name)), expected)


def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (5, 4, 3)).astype(">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in deep)  # Pillow writes no 16-bit colour
    (tmp_path / "a.png").write_bytes(png(width=4, height=5, depth=16, data=zlib.compress(rows)))
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.png")), (deep >> 8).astype(np.uint8))


def test_grey_palette_and_bilevel(tmp_path: Path, rgb: np.ndarray) -> None:
    for mode, name in (("L", "l.png"), ("P", "p.png"), ("1", "b.png"), ("LA", "la.png"), ("P", "p.gif")):
        image = Image.fromarray(rgb).convert(mode)
        image.save(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / name)), np.asarray(image.convert("RGB")))


def test_transparent_pixels_become_black(tmp_path: Path, rgb: np.ndarray) -> None:
    alpha = np.zeros((12, 8, 1), dtype=np.uint8)
    alpha[6:] = 255
    Image.fromarray(np.concatenate([rgb, alpha], axis=2)).save(tmp_path / "a.png")
    loaded = np.asarray(load_rgb(tmp_path / "a.png"))
    np.testing.assert_array_equal(loaded[:6], 0)
    np.testing.assert_array_equal(loaded[6:], rgb[6:])


def test_float_and_32_bit_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(UnreadableImage, match=r"f\.tif: floating-point"):
        load_rgb(tmp_path / "f.tif")
    with pytest.raises(UnreadableImage, match=r"i\.tif: 32-bit"):
        load_rgb(tmp_path / "i.tif")
    Image.fromarray(np.full((4, 4), 200, dtype=np.int32)).save(tmp_path / "n.tif")  # 8 bits in 32, not black
    with pytest.raises(UnreadableImage, match=r"n\.tif: 32-bit"):
        load_rgb(tmp_path / "n.tif")
    Image.fromarray(np.full((4, 4), 200, dtype=np.uint16)).save(tmp_path / "dark.pgm")  # 16 bits that read as "I"
    assert not np.asarray(load_rgb(tmp_path / "dark.pgm")).any()


def test_files_that_are_no_images_are_named_in_one_line(tmp_path: Path, rgb: np.ndarray) -> None:
    big = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    Image.fromarray(big).save(tmp_path / "whole.jpg")
    Image.fromarray(big).save(tmp_path / "whole.png")
    contents = {
        "zero.jpg": b"",
        "text.jpg": b"this is no image",
        "cut.jpg": (tmp_path / "whole.jpg").read_bytes()[:-900],
        "cut.png": (tmp_path / "whole.png").read_bytes()[:-900],
        "head.jpg": (tmp_path / "whole.jpg").read_bytes()[:20],
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    for name in [*contents, "absent.jpg"]:
        with pytest.raises(UserError) as caught:
            load_rgb(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [30_000, 9_200])
def test_decompression_bombs_are_refused(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(png(width=side, height=side, depth=8, data=zlib.compress(bytes(1000))))
    with pytest.raises(UserError, match=r"bomb\.png: more than 80000000 pixels"):
        load_rgb(tmp_path / "bomb.png")


def test_what_is_no_file_is_refused_without_waiting_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
    for name in ("pipe.jpg", "endless.jpg", "folder.jpg", "socket.jpg"):
        with pytest.raises(UnreadableImage, match=rf"{name}: a folder, pipe or device and no file"):
            load_rgb(tmp_path / name)


def test_a_file_too_large_for_any_image_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UnreadableImage, match=rf"sparse\.jpg: a file of more than {MAX_BYTES} bytes"):
        load_rgb(tmp_path / "sparse.jpg")


def test_resize_is_pillows_bicubic_and_survives_one_pixel(rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    resized = resize(image, (24, 10))
    assert resized.shape == (24, 10, 3)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.asarray(image.resize((10, 24), Image.Resampling.BICUBIC)))
    assert (resize(Image.new("RGB", (1, 1), (7, 8, 9)), (6, 4)) == (7, 8, 9)).all()


def test_find_images_searches_sorts_and_keeps_each_once(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "b/.hidden.png", "b/Thumbs.db", "b/c/0.jpeg", "a.data"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_images([tmp_path / "b", tmp_path / "a.data", tmp_path / "b" / "1.png"])
    assert found == [tmp_path / name for name in ("b/1.png", "b/2.JPG", "b/c/0.jpeg", "a.data")]


def test_find_images_refuses_what_is_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such image or folder: .*nowhere"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no images in"):
        find_images([tmp_path])
    with pytest.raises(UserError, match="no images are named"):
        find_images([])


def test_names_of_images() -> None:
    assert is_image_name("a.JPEG")
    assert not is_image_name("._a.jpg")
    assert not is_image_name("Thumbs.db")


def png(width: int, height: int, depth: int, data: bytes) -> bytes:
    """A colour PNG with the given header and compressed rows."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
