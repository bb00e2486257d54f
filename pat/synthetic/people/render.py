"""Figures seen by a camera: one z-buffer, one pass of shading, shadows from the same z-buffer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people.figure import Figure
from pat.synthetic.people.raster import point_normals, raster
from pat.synthetic.people.shade import shade
from pat.synthetic.people.shadow import Shadow, shadow_map, shadow_on_ground, softened
from pat.synthetic.people.view import Light, View


@dataclass
class Layer:
    """What a camera sees of the figures alone."""

    colour: NDArray[np.float32]  # [h, w, 3] linear, times alpha, the mean over the samples
    alpha: NDArray[np.float32]  # [h, w]
    part: NDArray[np.uint8]  # [h, w] of the nearest surface, an index into PARTS
    owner: NDArray[np.uint8]  # [h, w] 1 + index of the figure, 0 none
    depth: NDArray[np.float32]  # [h, w] metres, inf where empty


def render(figures: Sequence[Figure], view: View, light: Light, *, shadow: Shadow | None = None) -> Layer:
    """At most 255 figures; `shadow` is shadow_map(figures, light) where the caller has it already."""
    h, w, s = view.height, view.width, view.samples
    layer = Layer(
        np.zeros((h, w, 3), np.float32), np.zeros((h, w), np.float32), np.zeros((h, w), np.uint8),
        np.zeros((h, w), np.uint8), np.full((h, w), np.inf, np.float32),
    )  # fmt: skip
    if not figures:
        return layer
    if len(figures) > 255:
        raise ValueError(f"{len(figures)} figures in one view; 255 is the most")
    scene = _together(figures)
    screen = view.project(scene.vertices)
    depth = screen[:, 2]
    safe = np.where(depth > 0.05, depth, np.inf)
    screen = np.stack([screen[:, 0] * s, screen[:, 1] * s, 1 / safe], axis=1)
    nearest, _ = raster(screen, scene.faces, h * s, w * s)
    shadow = shadow or shadow_map(figures, light)
    sun, sky, ground = (np.asarray(each, np.float32) for each in (light.sun, light.sky, light.ground))
    shade(
        screen, scene.vertices, point_normals(scene.vertices, scene.faces), scene.cloth, scene.faces,
        scene.material, scene.materials, nearest, view.eye, light.direction, sun, sky, ground,
        shadow.close, shadow.frame, s, layer.colour, layer.alpha, layer.part, layer.owner, layer.depth,
    )  # fmt: skip
    return layer


def ground_shadow(
    figures: Sequence[Figure], view: View, light: Light, *, shadow: Shadow | None = None
) -> NDArray[np.float32]:
    """Share of the lamp's light that figures keep from the plane z = 0, f32 [h, w]; 0 where no ground is seen."""
    out = np.zeros((view.height, view.width), np.float32)
    if figures and light.direction[2] > 0.02:
        shadow = shadow or shadow_map(figures, light)
        plane = np.linalg.inv(view.matrix[:, [0, 1, 3]])
        shadow_on_ground(plane, softened(shadow.close), shadow.frame, out)
    return out


def _together(figures: Sequence[Figure]) -> Figure:
    if len(figures) == 1:
        table = figures[0].materials.copy()
        table["owner"] = 1
        return replace(figures[0], materials=table)
    vertices = np.cumsum([0, *(len(figure.vertices) for figure in figures)], dtype=np.int32)
    tables = np.cumsum([0, *(len(figure.materials) for figure in figures)], dtype=np.int32)
    materials = [figure.materials.copy() for figure in figures]
    for index, table in enumerate(materials):
        table["owner"] = index + 1
    return replace(
        figures[0],
        vertices=np.concatenate([figure.vertices for figure in figures]),
        cloth=np.concatenate([figure.cloth for figure in figures]),
        faces=np.concatenate([f.faces + start for f, start in zip(figures, vertices, strict=False)]),
        material=np.concatenate([f.material + start for f, start in zip(figures, tables, strict=False)]),
        materials=np.concatenate(materials),
    )
