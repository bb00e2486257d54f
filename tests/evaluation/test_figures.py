"""Images show what the ranking says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pat.evaluation.curves import LINES, cmc_curve, training_curve
from pat.evaluation.figures import (
    MATCH,
    WRONG,
    attention_figure,
    contact_sheet,
    ranked_list_figure,
)
from pat.evaluation.kinds import every_kind
from pat.evaluation.ranking import Features


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    """Opaque colours of more than a frame's worth of pixels."""
    counted = image.getcolors(maxcolors=1 << 24)
    assert counted is not None
    return {tuple(colour[:3]) for count, colour in counted if count > 500 and colour[3] == 255}


@pytest.fixture
def sides() -> tuple[np.ndarray, Features, np.ndarray, Features]:
    """One query; in the gallery, by distance: its own camera's image, a match, a stranger, junk."""
    gallery = Features(
        np.array([[0.1], [0.2], [0.3], [0.4]], np.float32), np.array([5, 5, 9, -1]), np.array([0, 1, 1, 2])
    )
    query = Features(np.zeros((1, 1), np.float32), np.array([5]), np.array([0]))
    pixels = np.zeros((4, 32, 16, 3), np.uint8)
    return pixels[:1], query, pixels, gallery


def frames(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours of the frames from left to right, seen along a line that crosses their upright sides."""
    along = [tuple(pixel[:3]) for pixel in np.asarray(image)[image.height // 2].tolist()]
    sides = [colour for colour, before in zip(along[1:], along, strict=False) if colour != before]
    return [colour for colour in sides if colour in (MATCH, WRONG)][::2]  # two sides a frame


def test_frames_follow_the_ranking(sides) -> None:
    assert frames(ranked_list_figure(*sides, rows=[0], k=4)) == [MATCH, WRONG]


def test_rows_choose_queries(sides) -> None:
    gallery_pixels, gallery = sides[2:]
    two = Features(np.zeros((2, 1), np.float32), np.array([5, 9]), np.array([0, 0]))
    painted = np.zeros((2, 32, 16, 3), np.uint8)
    painted[1] = (10, 200, 90)
    one, both = (ranked_list_figure(painted, two, gallery_pixels, gallery, rows) for rows in ([0], [0, 1]))
    assert (10, 200, 90) not in colours(one)
    assert (10, 200, 90) in colours(both)
    assert both.height > 1.8 * one.height


def test_attention_lights_up_where_it_is() -> None:
    crop = np.full((1, 64, 32, 3), 128, np.uint8)
    maps = np.zeros((1, 2, 8, 4), np.float32)
    maps[0, 0, :2], maps[0, 1, 6:] = 0.5, 0.01  # tokens are scaled on their own
    image = np.asarray(attention_figure(crop, maps, ["cls", "part 1"]).convert("RGB"), np.int64)
    below = image[-280:].sum(axis=2)  # without the names
    columns = np.split(below[:, : below.shape[1] // 3 * 3], 3, axis=1)
    _, first, second = (column[:, column.shape[1] // 2] for column in columns)
    assert first[20] > first[260] + 100
    assert second[260] > second[20] + 100


def test_attention_of_zeros() -> None:
    crop = np.full((1, 64, 32, 3), 128, np.uint8)
    assert attention_figure(crop, np.zeros((1, 1, 8, 4)), ["cls"]).mode == "RGBA"


def test_contact_sheet_shows_every_image() -> None:
    images = np.zeros((3, 32, 16, 3), np.uint8)
    images[0], images[1], images[2] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    sheet = contact_sheet({"source": images, "target": images[:1]})
    assert {(200, 0, 0), (0, 200, 0), (0, 0, 200)} <= colours(sheet)
    assert np.asarray(sheet)[0, -1, 3] == 0  # the ground is transparent


def test_no_two_of_all_ways_to_rank_have_one_line() -> None:
    pytest.importorskip("matplotlib")
    names = [kind.named() for kind in every_kind(parts=True, flip=True, debias=True, rerank=True)]
    assert len(set(LINES)) >= len(names)
    low = np.full(50, 0.2)

    def inked(number: int) -> int:
        """Pixels drawn, where the curve of this number lies below all others."""
        curves = {name: low if place == number else low + 0.7 for place, name in enumerate(names[:8])}
        return int((np.asarray(cmc_curve(curves))[:, :, 3] > 0).sum())

    assert inked(7) < inked(0)  # dashed, in the colour of the first


def test_curves_are_drawn_and_transparent() -> None:
    pytest.importorskip("matplotlib")
    curve = cmc_curve({"pat": np.linspace(0.5, 1, 50), "histogram": np.linspace(0.2, 0.8, 20)})
    losses = training_curve({"identity": [3.0, 2.0, float("nan"), 1.0], "CSL": [0.5]})
    for image in (curve, losses):
        assert image.mode == "RGBA"
        assert image.getpixel((0, 0))[3] == 0
    assert {(59, 130, 246), (245, 158, 11)} <= colours(curve)
    assert losses.width > losses.height
