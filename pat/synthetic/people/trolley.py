"""A shopping trolley: a basket of wire on four wheels with a bar that both hands hold."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people import dress
from pat.synthetic.people.dress import Body
from pat.synthetic.people.mesh import blob, rod

# Metres, from the ground below the middle of the bar; it goes along -y. Corners, from behind on the right around.
RIM = np.array([(-0.27, -0.09, 0.95), (0.27, -0.09, 0.95), (0.24, -0.90, 0.89), (-0.24, -0.90, 0.89)])
FLOOR = np.array([(-0.21, -0.14, 0.50), (0.21, -0.14, 0.50), (0.18, -0.78, 0.54), (-0.18, -0.78, 0.54)])
WHEELS = np.array([(-0.25, -0.12, 0.06), (0.25, -0.12, 0.06), (0.17, -0.76, 0.06), (-0.17, -0.76, 0.06)])
BAR = np.array([(-0.28, 0.0, 1.0), (0.28, 0.0, 1.0)])
WIRE, TUBE = 0.005, 0.013
"""Radii of what the basket and the frame are made of."""
APART = 0.19
"""Of each hand from the middle of the bar."""


def place(body: Body) -> tuple[NDArray, float]:
    """Where on the ground, f64 [3], and at which size a body pushes it: trolleys differ half as much as people."""
    front = body.extents[np.abs(dress.LEVELS - 1.10).argmin(), 1]
    size = (1 + body.scale) / 2
    return np.array([0.0, -front - 0.18, 0.0]), size


def palms(body: Body) -> NDArray:
    """Where on the bar the palms of the left and the right hand lie, f64 [2, 3]."""
    at, size = place(body)
    return at + size * np.array([(APART, 0.0, BAR[0, 2]), (-APART, 0.0, BAR[0, 2])])


def solids(body: Body) -> Iterator[tuple[int, tuple[NDArray, NDArray]]]:
    """Materials and solids, in place before a body at rest."""
    at, size = place(body)
    for material, (points, faces) in _solids():
        yield material, (at + size * points, faces)


def _solids() -> Iterator[tuple[int, tuple[NDArray, NDArray]]]:
    yield dress.VEHICLE, rod(BAR[0], BAR[1], 0.017)
    for wheel in WHEELS:
        points, faces = blob((0.018, 0.06, 0.06), 1.0, 6)
        yield dress.VEHICLE, (points + wheel, faces)
    hubs = WHEELS + np.array([0.0, 0.0, 0.07])
    frame = [(hubs[k], hubs[(k + 1) % 4]) for k in (1, 2, 3)]  # open behind, where feet step
    frame += [(hubs[k], RIM[k]) for k in (0, 1)] + [(RIM[k], BAR[k]) for k in (0, 1)]
    for start, end in frame:
        yield dress.WIRE, rod(start, end, TUBE, 4)
    for start, end in _wires():
        yield dress.WIRE, rod(start, end, WIRE, 3)


def _wires() -> Iterator[tuple[NDArray, NDArray]]:
    """The ends of the basket's wires: rings, uprights, and those of its floor."""
    for share in np.linspace(0, 1, 4):
        ring = FLOOR + share * (RIM - FLOOR)
        yield from zip(ring, np.roll(ring, -1, axis=0), strict=True)
    low, high = np.roll(FLOOR, -1, axis=0) - FLOOR, np.roll(RIM, -1, axis=0) - RIM
    for side, count in enumerate((5, 8, 5, 8)):
        for share in np.arange(count) / count:
            yield FLOOR[side] + share * low[side], RIM[side] + share * high[side]
    for share in np.arange(1, 5) / 5:
        yield FLOOR[0] + share * low[0], FLOOR[3] - share * low[2]
