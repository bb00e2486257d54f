"""Images for people to judge by: ranked lists, attention maps, contact sheets.

All are RGBA with a transparent ground and mid-grey text, so that they read on white and on black, and drawn at
twice their size on the page for dense screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pat.evaluation.ranking import Features, rank_list

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

MATCH: Colour = (22, 163, 74)
WRONG: Colour = (220, 38, 38)
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
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Image.Image:
    """The first k answers to the queries `rows`, one row each, with their identity, camera and distance.

    Green frame: the same identity. Red: another, or a distractor. Images that do not count (same identity and
    camera, junk) are left out. Pixels are uint8 [N, H, W, 3], in the order of the features.

    Where nobody knows who is who, `names` (of queries, of gallery images) are the captions instead, nothing is
    left out and no frame judges.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    indices, distances = rank_list(query[chosen], gallery, k, leave_out=names is None)
    cells = []
    for i, answers, apart in zip(chosen, indices, distances, strict=True):
        caption = _who_and_where(query, i) if names is None else _shortened(names[0][i], query_pixels[i])
        row = [_Cell(query_pixels[i], (caption,))]
        for j, distance in zip(answers[answers >= 0], apart, strict=False):
            if names is None:
                caption = _who_and_where(gallery, j)
                verdict = MATCH if gallery.identities[j] == query.identities[i] else WRONG
            else:
                caption, verdict = _shortened(names[1][j], gallery_pixels[j]), None
            row.append(_Cell(gallery_pixels[j], (caption, f"{distance:.3f}"), verdict))
        cells.append(row)
    return _grid(cells, ["query", *map(str, range(1, k + 1))], lines=2, apart=2 * _GAP)


def attention_figure(images: Pixels, maps: NDArray[np.floating[Any]], names: Sequence[str]) -> Image.Image:
    """Where tokens look: each crop, then the crop under the heat map of each token.

    `images` uint8 [n, H, W, 3]; `maps` floats [n, T, R, C], attention of T tokens over the patch grid, not
    negative; each map is scaled to its own largest value. `names` are the tokens' captions, T of them.
    """
    rows = []
    for crop, tokens in zip(images, maps, strict=True):
        image = _fitted(crop)
        rows.append([_Cell(crop), *(_Cell(_overlaid(image, token)) for token in tokens)])
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
            _draw_cell(sheet, c * (width + _GAP), r * row_height + _LINE + _GAP // 2, _Cell(crop))
    return sheet


@dataclass(frozen=True)
class _Cell:
    """A crop, lines of text beneath it, and the colour of its frame."""

    crop: Pixels
    captions: Sequence[str] = ()
    verdict: Colour | None = None


def _grid(
    rows: Sequence[Sequence[_Cell]], names: Sequence[str], *, lines: int = 0, apart: int = 0
) -> Image.Image:
    """Rows of crops under the columns' names, `lines` of text beneath each; the first column stands `apart`."""
    widest = max(_fitted(cell.crop).width for row in rows for cell in row)
    width = max(widest, *(_text_width(name, _NORMAL) for name in names))
    top, below = _LINE + _GAP // 2, lines * _LINE + (2 * _GAP if lines else _GAP)
    bottom = top + len(rows) * (_HEIGHT + below) - (0 if lines else _GAP)
    sheet = Image.new("RGBA", (len(names) * (width + _GAP) - _GAP + apart, bottom))
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(names):
        x = c * (width + _GAP) + (apart if c else 0)
        _centred(draw, x, width, 0, name, _NORMAL)
        for r, row in enumerate(rows):
            if c < len(row):
                inset = (width - _fitted(row[c].crop).width) // 2
                _draw_cell(sheet, x + inset, top + r * (_HEIGHT + below), row[c])
    return sheet


def _draw_cell(sheet: Image.Image, x: int, y: int, cell: _Cell) -> None:
    """A crop with round corners, its frame, and its captions."""
    image = _fitted(cell.crop)
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, image.width - 1, image.height - 1), _RADIUS, fill=255)
    sheet.paste(image, (x, y), mask)
    draw = ImageDraw.Draw(sheet)
    if cell.verdict is not None:
        outer = (x - 1, y - 1, x + image.width, y + image.height)
        draw.rounded_rectangle(outer, _RADIUS, outline=cell.verdict, width=_FRAME)
        _badge(sheet, x + image.width - _FRAME, y + _FRAME, cell.verdict)
    for n, caption in enumerate(cell.captions):
        _centred(draw, x, image.width, y + image.height + _GAP // 2 + n * _LINE, caption, _SMALL)


def _badge(sheet: Image.Image, x: int, y: int, verdict: Colour) -> None:
    """A tick or a cross in a disc, for those who do not tell green from red."""
    size, fine = 16 * DENSITY, 4
    disc = Image.new("RGBA", (size * fine, size * fine))
    draw = ImageDraw.Draw(disc)
    draw.ellipse((0, 0, size * fine - 1, size * fine - 1), fill=verdict)
    strokes = {
        MATCH: [[(0.27, 0.52), (0.44, 0.69), (0.74, 0.34)]],
        WRONG: [[(0.32, 0.32), (0.68, 0.68)], [(0.68, 0.32), (0.32, 0.68)]],
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


def _who_and_where(features: Features, i: int) -> str:
    """The caption of a crop; for people, cameras count from 1."""
    return f"id {features.identities[i]}  cam {features.cameras[i] + 1}"


def _shortened(name: str, crop: Pixels) -> str:
    """The end of a file name, as much of it as fits beneath a crop."""
    shown, width = name, _fitted(crop).width
    while len(shown) > 4 and _text_width(shown, _SMALL) > width:
        shown = "…" + shown.lstrip("…")[1:]
    return shown


def _fitted(crop: Pixels) -> Image.Image:
    """At the common height."""
    image = Image.fromarray(np.asarray(crop))
    width = round(image.width * _HEIGHT / image.height)
    return image if image.height == _HEIGHT else image.resize((width, _HEIGHT), Image.Resampling.BICUBIC)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _text_width(text: str, size: int) -> int:
    return int(np.ceil(_font(size).getlength(text)))


def _centred(draw: ImageDraw.ImageDraw, x: int, width: int, y: int, text: str, size: int) -> None:
    """A line of text in the middle of a column, smaller if it does not fit."""
    while size > 8 and _text_width(text, size) > width + _GAP:
        size -= 1
    draw.text((x + (width - _text_width(text, size)) // 2, y), text, fill=TEXT, font=_font(size))
