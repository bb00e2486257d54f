"""Outlines leave nothing out: each sample that meets a solid, each point that one shades."""

from __future__ import annotations

import numpy as np
import pytest

from pat.synthetic.people.camera import Camera
from pat.synthetic.people.places.kinds import build
from pat.synthetic.people.places.outlines import CELLS, shadows, spans
from pat.synthetic.people.places.rays import entered, stops
from pat.synthetic.randomness import stream


@pytest.mark.parametrize("kind", ["street", "corridor"])  # solids reach behind the camera in both
def test_what_is_met_lies_in_the_span_of_its_row(kind):
    place, _ = build(kind, stream("outlines", 0), "sunny")
    view = Camera.sample(3, {kind: 1.0}).view()
    height, width = 9, 16
    matrix = np.diag([width / view.width, height / view.height, 1.0]) @ view.matrix
    rays = np.linalg.inv(matrix[:, :3])
    met = left_out = 0
    for solid in place.things:
        columns = spans(solid["planes"][: solid["count"]], matrix, 0.04, height, width)
        for row in range(height):
            for column in range(width):
                ray = *view.eye, *(rays @ (column + 0.5, row + 0.5, 1.0)), 0.05
                if entered(solid, *ray)[1] >= 0:
                    met += 1
                    left_out += not columns[row, 0] <= column < columns[row, 1]
        if solid["sphere"][3] < 0.5:  # small things do not fill the image
            assert (columns[:, 1] - columns[:, 0]).clip(0).sum() < height * width
    assert met > height * width / 2
    assert left_out == 0


def test_what_keeps_the_sun_off_a_point_is_in_its_cell():
    place, _ = build("market", stream("outlines", 1), "sunny")
    direction = place.light.direction
    frame, first, found = shadows(place.things, direction, np.zeros(len(place.things), bool))
    points = stream("points", 0).uniform([-8, 2, 0], [8, 20, 2], (300, 3))
    shaded = 0
    for point in points:
        row, column = np.floor(frame[:, :3] @ point + frame[:, 3]).astype(int)
        inside = 0 <= row < CELLS and 0 <= column < CELLS
        cell = row * CELLS + column if inside else CELLS**2
        known = set(found[first[cell] : first[cell + 1]])
        those = {index for index, solid in enumerate(place.things) if stops(solid, *point, *direction)}
        shaded += bool(those)
        assert those <= known
    assert 30 < shaded < 300
    assert len(found) < 0.2 * len(place.things) * CELLS**2
