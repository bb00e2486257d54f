"""Images on disk: which files they are, and how one becomes RGB pixels, whatever it was saved as."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pat.base.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jfif"})

MAX_PIXELS = 80_000_000
"""Larger images are refused: a person crop or a camera frame is far smaller, a decompression bomb is not."""

MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are not read: no image of so many pixels needs as much."""


class UnreadableImage(UserError):
    """An image that cannot be used; the message is one line with the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read the image {path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[Path, str]]:
        """How it comes back from another process: by default an exception is made again from its message alone."""
        return UnreadableImage, (self.path, self.reason)


def is_image_name(name: str) -> bool:
    """True for the name of an image; hidden files (`.x.jpg`, `._x.jpg`) and Thumbs.db are none."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The images among `paths`, folders searched recursively and sorted by name, each image once.

    A file that is named itself is taken whatever its suffix. Raises UserError for a path that does not exist,
    a folder that cannot be read, and when there is no image at all.
    """
    found: dict[Path, None] = {}
    names = [Path(path) for path in paths]
    for path in names:
        if path.is_dir():
            walked = os.walk(path, onerror=_unreadable_folder)
            inside = [Path(folder, name) for folder, _, files in walked for name in files]
            shown = [file for file in inside if is_image_name(file.name)]
            found.update(dict.fromkeys(sorted(shown, key=Path.as_posix)))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"no such image or folder: {path}")
    if not found:
        raise UserError(f"no images in {', '.join(map(str, names))}" if names else "no images are named")
    return list(found)


def _unreadable_folder(error: OSError) -> None:
    raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def load_rgb(path: str | os.PathLike[str]) -> Image.Image:
    """The image as RGB, upright: EXIF orientation applied, grey, palette, CMYK and 16 bits converted.

    Transparent pixels become black. Raises UnreadableImage (a UserError) for a file that is missing, empty,
    truncated, no image, or larger than MAX_PIXELS.
    """
    path = Path(path)
    return decode_rgb(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The contents of an image file. Raises UnreadableImage when the system cannot read it, or not to an end."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe is waited for, a device gives without end
            raise UnreadableImage(path, "a folder, pipe or device and no file")
        if status.st_size > MAX_BYTES:
            raise UnreadableImage(path, f"a file of more than {MAX_BYTES} bytes is too large")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error)) from error


def decode_rgb(data: bytes, path: Path) -> Image.Image:
    """`load_rgb` of contents that were read already; `path` is for the message alone."""
    if not data:
        raise UnreadableImage(path, "the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(path, f"more than {MAX_PIXELS} pixels are too many")
            image.load()
            return _as_rgb(_upright(image), path, of_tiff=image.format == "TIFF")
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"more than {MAX_PIXELS} pixels are too many") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, "not an image, or a format that is not known") from error
    except UserError:
        raise
    except Exception as error:  # decoders raise nearly every type there is on a broken file
        raise UnreadableImage(path, f"the file is damaged ({' '.join(str(error).split())})") from error


def resize(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Bicubic resize of an RGB image to `size` (height, width), as uint8 [H, W, 3]."""
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels: take them as they are stored
        return image


def _as_rgb(image: Image.Image, path: Path, *, of_tiff: bool) -> Image.Image:
    if image.mode == "F":
        raise UnreadableImage(path, "floating-point pixels have no fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # "I;16" and its kin; some formats give 16 bits as 32-bit "I"
        return _from_16_bits(image, path, of_tiff=of_tiff)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image, path: Path, *, of_tiff: bool) -> Image.Image:
    """The high byte of every pixel, as Pillow itself does for 16-bit colour."""
    values = np.asarray(image).astype(np.int64)
    narrow = of_tiff and image.mode == "I" and 0 < values.max() <= 0xFF  # 8 bits in 32, and no black image
    if narrow or values.min() < 0 or values.max() > 0xFFFF:
        raise UnreadableImage(path, "32-bit pixels have no fixed range; save it with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
