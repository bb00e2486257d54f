"""Drawing a head: face, hair and hat."""

from __future__ import annotations

from math import cos, hypot, sin

import numpy as np

from pat.synthetic.flat.body import Body
from pat.synthetic.flat.canvas import Array, Canvas, Labels, Point
from pat.synthetic.flat.fabric import PixelLabel, cloth, darker, facing, flat, folded, inside, labelled, mixed
from pat.synthetic.flat.wardrobe import Identity, Item

TALL = 0.142
"""From crown to chin, in person heights."""

HAT_DEPTH = {"cap": 0.26, "beanie": 0.34, "brim": 0.24}
"""Share of the head that a hat covers."""


def draw_head(canvas: Canvas, identity: Identity, body: Body) -> None:
    """Paint the head with the hair around the face, and the hat."""
    yaw, tall = body.pose.head_yaw, TALL * body.head
    crown, chin = body.seen(body.trunk(0.145 - tall, z=0.012)), body.seen(body.trunk(0.145, z=0.016))
    wide = hypot(0.046 * cos(yaw), 0.055 * sin(yaw)) * body.head

    def paint(angle: Array, down: Array) -> tuple[Array, Labels]:
        around, level = facing(angle, yaw), down / tall  # 0 at the crown, 1 at the chin
        beside = np.abs(around)
        eyes = inside(np.abs(beside - 0.42), -1, 0.16, 0.1) * inside(level, 0.47, 0.53, 0.05)
        mouth = inside(beside, -1, 0.28, 0.1) * inside(level, 0.76, 0.80, 0.05)
        colours = mixed(flat(identity.skin, down), (0.1, 0.07, 0.06), 0.75 * eyes)
        colours = mixed(colours, darker(identity.skin), 0.8 * mouth)
        hair = _hairline(identity.hair.kind, beside, level)
        labels = labelled(PixelLabel.SKIN, down)
        labels[hair > 0.5] = PixelLabel.HAIR
        return mixed(colours, identity.hair.colour, hair), labels

    oval = [wide * w for w in (0.3, 0.78, 0.96, 1.0, 0.97, 0.86, 0.55)]
    canvas.sweep(crown, chin, oval, paint, round_ends=False)
    if identity.hat.kind != "none":
        _draw_hat(canvas, identity.hat, crown, chin[1] - crown[1], wide, yaw)


def _hairline(kind: str, beside: Array, level: Array) -> Array:
    """Where the head shows hair [h, w]: above the forehead, and behind the ears."""
    if kind == "bald":
        return np.zeros_like(level)
    nape = 1.2 if kind == "long" else 0.75
    behind = inside(beside, 1.45, 9, 0.2) * inside(level, -9, nape, 0.1)
    return np.maximum(inside(level, -9, 0.27, 0.06), behind)


def _draw_hat(canvas: Canvas, hat: Item, crown: Point, tall: float, wide: float, yaw: float) -> None:
    def paint(angle: Array, down: Array) -> tuple[Array, int]:
        return cloth(hat, angle, down), PixelLabel.HAT

    x, y = crown
    depth = HAT_DEPTH[hat.kind]
    dome = [wide * w for w in (0.35, 0.85, 1.05, 1.12)]
    canvas.sweep((x, y - 0.01), (x, y + depth * tall), dome, paint, round_ends=False)
    edge = y + (depth + 0.03) * tall
    if hat.kind == "brim":
        ends = (x - wide * 1.75, edge), (x + wide * 1.75, edge)
        canvas.sweep(*ends, (0.006, 0.012, 0.006), paint, shade=0.85)
    elif hat.kind == "beanie":
        canvas.sweep((x - wide, edge - 0.01), (x + wide, edge - 0.01), (0.014,), paint, shade=0.8)
    elif cos(yaw) > -0.5:  # the peak of a cap points forward
        side, forward = wide * 0.6 * abs(cos(yaw)), 0.075 * sin(yaw)
        ends = (x - side, edge), (x + forward + side, edge + 0.004)
        canvas.sweep(*ends, (0.009,), paint, shade=0.75)


def draw_hair_behind(canvas: Canvas, hair: Item, body: Body, seed: float) -> None:
    """Paint hair that hangs, or is tied, behind the head; `seed` places its strands."""
    yaw = body.pose.head_yaw

    def paint(angle: Array, down: Array) -> tuple[Array, int]:
        return folded(flat(hair.colour, down), angle * 1.7, down, seed), PixelLabel.HAIR

    wide = hypot(0.05 * cos(yaw), 0.032 * sin(yaw)) * body.head
    if hair.kind == "long":
        ends = body.seen(body.trunk(0.05, z=-0.022)), body.seen(body.trunk(0.225, z=-0.06))
        canvas.sweep(*ends, [wide * w for w in (0.85, 1.05, 1.08, 0.95)], paint)
    else:
        knot = body.seen(body.trunk(0.035, z=-0.052))
        canvas.sweep(knot, knot, (0.026,), paint)
