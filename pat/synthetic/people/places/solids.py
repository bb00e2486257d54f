"""The things of a place: convex solids, each an intersection of half-spaces with a material."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people.places.surfaces import Material

PLANES = 10
"""Half-spaces a solid may have."""

Colour = Sequence[float]

SOLID = np.dtype(
    [
        ("planes", np.float64, (PLANES, 4)),  # inside where n·p <= d
        ("count", np.int64),  # of planes
        ("sphere", np.float64, 4),  # centre and radius
        ("origin", np.float64, 3),  # of the frame that patterns follow
        ("turn", np.float64, 2),  # cosine and sine of its yaw
        ("material", np.int64),
        ("colours", np.float64, (2, 3)),  # linear albedo
        ("size", np.float64),  # of the pattern, metres
        ("seed", np.int64),  # of the pattern
        ("glow", np.float64),  # light given off
    ]
)
"""A solid, as compiled code reads it: records can be handed on there for nothing, arrays are counted each time."""


@dataclass
class Builder:
    """Collects solids."""

    rows: list[tuple[object, ...]] = field(default_factory=list)

    def extrude(
        self,
        profile: Sequence[tuple[float, float]], half: float, place: Sequence[float], yaw: float,
        material: Material = Material.PLAIN, colour: Colour = (0.4, 0.4, 0.4), other: Colour | None = None, *,
        size: float = 1.0, seed: float = 0.0, glow: float = 0.0,
    ) -> None:  # fmt: skip
        """A convex profile (along, up), counter-clockwise in metres, drawn out by `half` to both sides.

        Local axes: x along, y to the side, z up; turned by `yaw` about z and moved to `place`.
        """
        points = np.array(profile, np.float64)
        planes = []
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
            normal = np.array([end[1] - start[1], 0.0, start[0] - end[0]])
            normal /= np.linalg.norm(normal)
            planes.append([*normal, normal[0] * start[0] + normal[2] * start[1]])
        planes += [[0.0, 1.0, 0.0, half], [0.0, -1.0, 0.0, half]]
        middle = (points.min(0) + points.max(0)) / 2
        radius = float(np.sqrt(((points - middle) ** 2).sum(1).max() + half**2))
        look = material, colour, colour if other is None else other, size, seed, glow
        self._add(np.array(planes), (middle[0], 0.0, middle[1]), radius, place, yaw, look)

    def box(
        self, centre: Sequence[float], half: Sequence[float], yaw: float = 0.0, *look: object, **values: float
    ) -> None:
        """A box, `half` its half sizes along, to the side and up; `look` and `values` as in `extrude`."""
        x, y, z = half
        profile = [(-x, -z), (x, -z), (x, z), (-x, z)]
        self.extrude(profile, y, centre, yaw, *look, **values)  # type: ignore[arg-type]

    def disc(self, centre: Sequence[float], radius: float, half: float, yaw: float, colour: Colour) -> None:
        """A lying cylinder with its axis to the side: a wheel."""
        ring = [(radius * cos(pi * (k + 0.5) / 4), radius * sin(pi * (k + 0.5) / 4)) for k in range(8)]
        self.extrude(ring, half, centre, yaw, Material.PLAIN, colour)

    def post(
        self, foot: Sequence[float], radius: float, height: float, colour: Colour,
        material: Material = Material.PLAIN,
    ) -> None:  # fmt: skip
        """An upright post with eight sides."""
        planes = [[cos(pi * k / 4), sin(pi * k / 4), 0.0, radius] for k in range(8)]
        planes += [[0.0, 0.0, 1.0, height], [0.0, 0.0, -1.0, 0.0]]
        reach = float(np.hypot(radius * 1.1, height / 2))
        look = material, colour, colour, 0.2, 0.0, 0.0
        self._add(np.array(planes), (0.0, 0.0, height / 2), reach, foot, 0.0, look)

    def _add(
        self, planes: NDArray, middle: Sequence[float], radius: float, place: Sequence[float], yaw: float,
        look: tuple[Material, Colour, Colour, float, float, float],
    ) -> None:  # fmt: skip
        """`look`: material, both colours, size, seed and glow, as in `extrude`."""
        turn = np.array([[cos(yaw), -sin(yaw), 0.0], [sin(yaw), cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        origin = np.array(place, np.float64)
        world = np.zeros((PLANES, 4))
        world[: len(planes), :3] = planes[:, :3] @ turn.T
        world[: len(planes), 3] = planes[:, 3] + world[: len(planes), :3] @ origin
        sphere = np.array([*(turn @ np.array(middle) + origin), radius])
        material, *colours, size, seed, glow = look
        pattern = material, np.array(colours, np.float64), size, int(seed), glow
        self.rows.append((world, len(planes), sphere, origin, turn[:2, 0], *pattern))

    def things(self) -> NDArray[np.void]:
        """Everything collected, SOLID [N]."""
        return np.array(self.rows, SOLID)
