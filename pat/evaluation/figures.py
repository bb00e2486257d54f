"""Images for people to judge by: ranked lists, attention maps, contact sheets.

All are RGBA with a transparent ground and mid-grey text, so that they read on white and on black, and drawn at
twice their size on the page for dense screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pat.data.sample import JUNK
from pat.evaluation.ranking import Features, rank_list

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

MATCH: Colour = (22, 163, 74)
WRONG: Colour = (220, 38, 38)
LEFT_OUT: Colour = (148, 153, 163)
TEXT: Colour = (125, 131, 141)

DENSITY = 2
"""Pixels of the crop to one on the page."""

_HEIGHT = 150 * DENSITY
_GAP = 10 * DENSITY
_FRAME = 4 * DENSITY
_RADIUS = 8 * DENSITY
_SMALL, _NORMAL = 12 * DENSITY, 14 * DENSITY
_LINE = 17 * DENSITY

# Dark to bright, for maps from 0 to 1; even steps of lightness, told apart without seeing hue.
_HEAT = np.array([(38, 16, 84), (125, 30, 109), (203, 65, 73), (246, 140, 30), (252, 235, 130)], np.float32)


def ranked_list_figure(
    query_pixels: Pixels,
    query: Features,
    gallery_pixels: Pixels,
    gallery: Features,
    rows: Sequence[int],
    *,
    k: int = 10,
    leave_out: bool = True,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Image.Image:
    """The first k answers to the queries `rows`, one row each, with their identity, camera and distance.

    Green frame: the same identity. Red: another, or a distractor. With `leave_out=False` the images that do
    not count (same identity and camera, junk) are shown too, in grey. Pixels are uint8 [N, H, W, 3], in the
    order of the features.

    Where nobody knows who is who, `names` (of queries, of gallery images) are the captions instead, nothing is
    left out and no frame judges.
    """
    leave_out = leave_out and names is None
    chosen = np.asarray(rows, dtype=np.int64)
    indices, distances = rank_list(query[chosen], gallery, k, leave_out=leave_out)
    width = max(_fitted(pixels[0]).width for pixels in (query_pixels, gallery_pixels))
    left = width + 3 * _GAP
    row_height = _HEIGHT + 2 * _LINE + 2 * _GAP
    top = _LINE + _GAP // 2
    sheet = Image.new("RGBA", (left + k * (width + _GAP) - _GAP, top + len(chosen) * row_height))
    draw = ImageDraw.Draw(sheet)
    _centred(draw, 0, width, 0, "query", _NORMAL)
    for rank in range(k):
        _centred(draw, left + rank * (width + _GAP), width, 0, str(rank + 1), _NORMAL)
    for r, i in enumerate(chosen):
        y = top + r * row_height
        caption = _who_and_where(query, i) if names is None else _shortened(names[0][i], width)
        _cell(sheet, 0, y, query_pixels[i], None, [caption])
        for rank, (j, distance) in enumerate(zip(indices[r], distances[r], strict=True)):
            if j < 0:
                break
            x = left + rank * (width + _GAP)
            verdict = _verdict(query, i, gallery, j) if names is None else None
            caption = _who_and_where(gallery, j) if names is None else _shortened(names[1][j], width)
            _cell(sheet, x, y, gallery_pixels[j], verdict, [caption, f"{distance:.3f}"])
    return sheet


def attention_figure(images: Pixels, maps: NDArray[np.floating[Any]], names: Sequence[str]) -> Image.Image:
    """Where tokens look: each crop, then the crop under the heat map of each token.

    `images` uint8 [n, H, W, 3]; `maps` floats [n, T, R, C], attention of T tokens over the patch grid, not
    negative; each map is scaled to its own largest value. `names` are the tokens' captions, T of them.
    """
    if maps.ndim != 4 or maps.shape[:2] != (len(images), len(names)):
        raise ValueError(f"maps must be [{len(images)}, {len(names)}, R, C], not {list(maps.shape)}")
    rows = []
    for crop, tokens in zip(images, maps, strict=True):
        image = _fitted(crop)
        rows.append([np.asarray(image), *(_overlaid(image, token) for token in tokens)])
    return _grid(rows, ["crop", *names])


def contact_sheet(rows: Mapping[str, Pixels]) -> Image.Image:
    """A row of images uint8 [n, H, W, 3] beneath each name: a data set at a glance."""
    widest = max(len(images) for images in rows.values())
    width = max(_fitted(images[0]).width for images in rows.values() if len(images))
    row_height = _LINE + _GAP // 2 + _HEIGHT + _GAP
    sheet = Image.new("RGBA", (widest * (width + _GAP) - _GAP, len(rows) * row_height))
    draw = ImageDraw.Draw(sheet)
    for r, (name, images) in enumerate(rows.items()):
        draw.text((0, r * row_height), name, fill=TEXT, font=_font(_NORMAL))
        for c, crop in enumerate(images):
            _cell(sheet, c * (width + _GAP), r * row_height + _LINE + _GAP // 2, crop, None, [])
    return sheet


def _grid(rows: list[list[Pixels]], names: Sequence[str]) -> Image.Image:
    """Rows of images of one size under the columns' names."""
    width = max(_fitted(rows[0][0]).width, max(_text_width(name, _NORMAL) for name in names))
    top = _LINE + _GAP // 2
    sheet = Image.new("RGBA", (len(names) * (width + _GAP) - _GAP, top + len(rows) * (_HEIGHT + _GAP) - _GAP))
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(names):
        _centred(draw, c * (width + _GAP), width, 0, name, _NORMAL)
        for r, row in enumerate(rows):
            inset = (width - _fitted(row[c]).width) // 2
            _cell(sheet, c * (width + _GAP) + inset, top + r * (_HEIGHT + _GAP), row[c], None, [])
    return sheet


def _cell(sheet: Image.Image, x: int, y: int, crop: Pixels, frame: Colour | None, captions: list[str]) -> None:
    """A crop with round corners, its frame, and lines of text beneath."""
    image = _fitted(crop)
    box = (0, 0, image.width - 1, image.height - 1)
    sheet.paste(image, (x, y), _rounded_mask(image.size))
    draw = ImageDraw.Draw(sheet)
    if frame is not None:
        outer = (x - 1, y - 1, x + box[2] + 1, y + box[3] + 1)
        draw.rounded_rectangle(outer, _RADIUS, outline=frame, width=_FRAME)
        _badge(sheet, x + image.width - _FRAME, y + _FRAME, frame)
    for n, caption in enumerate(captions):
        _centred(draw, x, image.width, y + image.height + _GAP // 2 + n * _LINE, caption, _SMALL)


def _badge(sheet: Image.Image, x: int, y: int, verdict: Colour) -> None:
    """A tick, a cross or a dash in a disc, for those who do not tell green from red."""
    size, fine = 16 * DENSITY, 4
    disc = Image.new("RGBA", (size * fine, size * fine))
    draw = ImageDraw.Draw(disc)
    draw.ellipse((0, 0, size * fine - 1, size * fine - 1), fill=verdict)
    strokes = {
        MATCH: [[(0.27, 0.52), (0.44, 0.69), (0.74, 0.34)]],
        WRONG: [[(0.32, 0.32), (0.68, 0.68)], [(0.68, 0.32), (0.32, 0.68)]],
        LEFT_OUT: [[(0.28, 0.5), (0.72, 0.5)]],
    }[verdict]
    for stroke in strokes:
        points = [(px * size * fine, py * size * fine) for px, py in stroke]
        draw.line(points, fill="white", width=size * fine // 9, joint="curve")
    disc = disc.resize((size, size), Image.Resampling.LANCZOS)
    sheet.alpha_composite(disc, (x - size, y))


def _overlaid(image: Image.Image, attention: NDArray[np.floating[Any]]) -> Pixels:
    """The crop, dimmed and greyed, beneath the colours of the map [R, C]."""
    scaled = np.asarray(attention, np.float32) / max(float(attention.max()), 1e-12)
    smooth = Image.fromarray(scaled).resize(image.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(smooth), 0, 1)  # [H, W]
    position = heat * (len(_HEAT) - 1)
    low = np.minimum(position.astype(np.int64), len(_HEAT) - 2)
    share = (position - low)[..., None]
    colours = _HEAT[low] * (1 - share) + _HEAT[low + 1] * share  # [H, W, 3]
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    strength = 0.35 + 0.45 * heat[..., None]
    return np.clip(grey * (1 - strength) + colours * strength, 0, 255).astype(np.uint8)


def _verdict(query: Features, i: int, gallery: Features, j: int) -> Colour:
    if gallery.identities[j] == JUNK:
        return LEFT_OUT
    if gallery.identities[j] != query.identities[i]:
        return WRONG
    return LEFT_OUT if gallery.cameras[j] == query.cameras[i] else MATCH


def _who_and_where(features: Features, i: int) -> str:
    """The caption of a crop; for people, cameras count from 1."""
    who = "junk" if features.identities[i] == JUNK else f"id {features.identities[i]}"
    return f"{who}  cam {features.cameras[i] + 1}"


def _shortened(name: str, width: int) -> str:
    """The end of a file name, as much of it as fits beneath a crop."""
    shown = name
    while len(shown) > 4 and _text_width(shown, _SMALL) > width:
        shown = "…" + shown.lstrip("…")[1:]
    return shown


def _fitted(crop: Pixels) -> Image.Image:
    """At the common height."""
    image = Image.fromarray(np.asarray(crop))
    width = round(image.width * _HEIGHT / image.height)
    return image if image.height == _HEIGHT else image.resize((width, _HEIGHT), Image.Resampling.BICUBIC)


def _rounded_mask(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), _RADIUS, fill=255)
    return mask


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _text_width(text: str, size: int) -> int:
    return int(np.ceil(_font(size).getlength(text)))


def _centred(draw: ImageDraw.ImageDraw, x: int, width: int, y: int, text: str, size: int) -> None:
    """A line of text in the middle of a column, smaller if it does not fit."""
    while size > 8 and _text_width(text, size) > width + _GAP:
        size -= 1
    draw.text((x + (width - _text_width(text, size)) // 2, y), text, fill=TEXT, font=_font(size))
