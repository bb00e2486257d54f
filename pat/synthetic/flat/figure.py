"""Drawing a person: shapes along the skeleton, painted from the farthest to the nearest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import cos, sin

import numpy as np

from pat.synthetic.flat.body import Body, Joint
from pat.synthetic.flat.canvas import Array, Canvas, Labels, Paint
from pat.synthetic.flat.fabric import (
    PixelLabel,
    chest_print,
    cloth,
    darker,
    facing,
    flat,
    folded,
    inside,
    labelled,
    mixed,
)
from pat.synthetic.flat.head import draw_hair_behind, draw_head
from pat.synthetic.flat.wardrobe import Identity, Item

TRUNK = (  # half widths from the front and from the side, between the neck and the hips
    (0.045, 0.040),
    (0.100, 0.060),
    (0.106, 0.070),
    (0.102, 0.071),
    (0.096, 0.067),
    (0.094, 0.064),
    (0.100, 0.067),
    (0.104, 0.069),
)


@dataclass(frozen=True)
class Fit:
    """The cut of a kind of top: lengths in person heights."""

    hem: float  # where it ends
    sleeve: float  # share of the arm that it covers
    room: float  # how much wider than the body
    flare: float = 0.0  # how much wider still at the hem of a coat


CUTS = {
    "tee": Fit(hem=0.53, sleeve=0.42, room=0.004),
    "shirt": Fit(hem=0.53, sleeve=1.0, room=0.003),
    "hoodie": Fit(hem=0.54, sleeve=1.0, room=0.012),
    "jacket": Fit(hem=0.54, sleeve=1.0, room=0.014),
    "coat": Fit(hem=0.70, sleeve=1.0, room=0.013, flare=0.02),
    "vest": Fit(hem=0.52, sleeve=0.0, room=0.0),
}


def draw_person(canvas: Canvas, identity: Identity, body: Body, seed: float) -> None:
    """Paint one person; `seed` in [0, 1) places the folds of the clothes."""
    _Figure(canvas, identity, body, seed).draw()


@dataclass(frozen=True)
class _Figure:
    canvas: Canvas
    identity: Identity
    body: Body
    seed: float

    def draw(self) -> None:
        """Shapes in order of depth; legs come before the trunk, whose hem covers them."""
        body, worn = self.body, self.identity
        head = partial(draw_head, self.canvas, worn, body)
        hair_behind = partial(draw_hair_behind, self.canvas, worn.hair, body, self.seed)
        shapes: list[tuple[float, Callable[[], None]]] = [(0.0, self._trunk), (0.012, head)]
        for leg in (body.left_leg, body.right_leg):
            order = 0.3 * body.depth(leg[0]) + 0.1 * body.depth(leg[2]) - 0.06
            shapes.append((order, partial(self._leg, leg)))
        for arm in (body.left_arm, body.right_arm):
            shapes.append((body.depth(arm[1]) + 0.02, partial(self._arm, arm)))
        shapes.append((-0.03, self._lower))
        for is_there, middle, draw in (
            (worn.bag.kind == "backpack", body.trunk(0.3, z=-0.11), self._backpack),
            (worn.bag.kind == "shoulder", body.trunk(0.5, x=0.13), self._shoulder_bag),
            (worn.top.kind == "hoodie", body.trunk(0.18, z=-0.045), self._hood),
            (worn.hair.kind in ("long", "bun"), body.trunk(0.1, z=-0.05), hair_behind),
        ):
            if is_there:
                shapes.append((body.depth(middle) + 0.021, draw))
        for _, draw in sorted(shapes, key=lambda shape: shape[0]):
            draw()

    def _cloth(self, item: Item, label: PixelLabel, girth: float, start: float = 0.0) -> Paint:
        """Paint of a garment whose pattern runs on from `start` below its upper edge."""

        def paint(angle: Array, down: Array) -> tuple[Array, int]:
            around = facing(angle, self.body.pose.yaw)
            return folded(cloth(item, around, down + start, girth), angle, down, self.seed), label

        return paint

    def _skin(self, angle: Array, down: Array) -> tuple[Array, int]:
        return flat(self.identity.skin, down), PixelLabel.SKIN

    def _limb(self, ends: tuple[Joint, Joint], widths: tuple[float, ...], paint: Paint, shade: float) -> None:
        self.canvas.sweep(self.body.seen(ends[0]), self.body.seen(ends[1]), widths, paint, shade=shade)

    def _leg(self, leg: tuple[Joint, Joint, Joint]) -> None:
        hip, knee, ankle = leg
        bottom, shoes, width = self.identity.bottom, self.identity.shoes, 0.55 + 0.45 * self.body.width
        shade = 0.86 if self.body.depth(hip) < -0.02 else 1.0
        long = bottom.kind == "trousers"
        room = 0.007 if long else 0.0
        upper = self._cloth(bottom, PixelLabel.BOTTOM, 0.055)
        lower = self._cloth(bottom, PixelLabel.BOTTOM, 0.055, 0.235) if long else self._skin

        self._shoe(ankle, shade)
        calf = (0.038 * width + room, 0.04 * width + room, 0.022 + room)
        self._limb((knee, ankle), calf, lower, shade)
        if shoes.kind == "boots":
            self._limb((_between(knee, ankle, 0.45), ankle), (0.036, 0.032), self._leather, shade)
        thigh = (0.058 * width + room, 0.053 * width + room, 0.039 * width + room)
        self._limb((hip, knee), thigh, upper if long else self._skin, shade)
        if bottom.kind == "shorts":
            self._limb((hip, _between(hip, knee, 0.75)), (0.062 * width, 0.06 * width), upper, shade)

    def _leather(self, angle: Array, down: Array) -> tuple[Array, int]:
        return cloth(self.identity.shoes, angle, down, 0.05), PixelLabel.SHOES

    def _shoe(self, ankle: Joint, shade: float) -> None:
        """Flat on the ground; the toe points down as the heel lifts."""
        lift = min(max((0.955 - ankle[1]) * 3.0, 0.0), 0.9)
        x, y, z = ankle
        heel = (x, y + 0.014, z - 0.015)
        toe = (x * 1.15, y + 0.018 + 0.085 * sin(lift), z + 0.075 * cos(lift))
        self._limb((heel, toe), (0.021, 0.021, 0.016), self._leather, shade)

    def _lower(self) -> None:
        """The hips, and the skirt where one is worn; a stride seen from the side spreads it."""
        body, bottom = self.body, self.identity.bottom
        hip = body.breadth(0.1, 0.068)
        skirt = bottom.kind == "skirt"
        flare = (0.03 + abs(sin(body.pose.yaw)) * body.pose.stride * 0.16) if skirt else 0.0
        widths = (hip * 0.9, hip, hip + flare / 2, hip + flare)
        ends = body.seen(body.trunk(0.43)), body.seen(body.trunk(0.7 if skirt else 0.53))
        self.canvas.sweep(*ends, widths, self._cloth(bottom, PixelLabel.BOTTOM, 0.1), round_ends=False)

    def _trunk(self) -> None:
        body, cut = self.body, CUTS[self.identity.top.kind]
        neck = body.seen(body.trunk(0.165)), body.seen(body.trunk(0.12, z=0.01))
        self.canvas.sweep(*neck, (0.03, 0.028), self._skin, shade=0.85)
        widths = [body.breadth(front, side) + cut.room for front, side in TRUNK]
        if cut.flare:  # the profile goes on below the hips, at the same spacing
            widths += [widths[-1] + cut.flare * step / 3 for step in (1, 2, 3)]
        ends = body.seen(body.trunk(0.158)), body.seen(body.trunk(cut.hem))
        self.canvas.sweep(*ends, widths, self._front, round_ends=False)

    def _front(self, angle: Array, down: Array) -> tuple[Array, Labels]:
        """The top as it is worn: its cloth with opening, neckline, print and the straps of a bag."""
        top, bag = self.identity.top, self.identity.bag
        around = facing(angle, self.body.pose.yaw)
        beside = np.abs(around)
        colours, labels = cloth(top, around, down), labelled(PixelLabel.TOP, down)
        if top.texture == "logo":
            colours, share = chest_print(top, colours, around, down)
            labels[share > 0.5] = PixelLabel.LOGO
        if top.kind in ("jacket", "coat"):
            gap = 0.5 - 0.5 * down if top.kind == "jacket" else 0.42 - 1.6 * down
            colours = mixed(colours, top.second, inside(beside - gap, -9, 0, 0.08))
        elif top.kind == "shirt":
            colours = mixed(colours, darker(top.colour), 0.6 * inside(beside, -1, 0.05, 0.08))
        elif top.kind == "hoodie":
            pocket = inside(down, 0.24, 0.31, 0.008) * inside(beside, -1, 0.6, 0.1)
            colours = mixed(colours, darker(top.colour), 0.5 * pocket)
        else:
            neckline = inside(beside * 0.1 + down, -1, 0.045, 0.01) * (beside < 1.2)
            colours = mixed(colours, self.identity.skin, neckline)
        strap = _strap(bag.kind, around, down)
        labels[strap > 0.5] = PixelLabel.BAG
        return mixed(folded(colours, angle, down, self.seed), darker(bag.colour), strap), labels

    def _arm(self, arm: tuple[Joint, Joint, Joint]) -> None:
        shoulder, elbow, wrist = arm
        top, cut, width = self.identity.top, CUTS[self.identity.top.kind], 0.6 + 0.4 * self.body.width
        shade = 0.82 if self.body.depth(shoulder) < -0.03 else 0.97
        self._limb((wrist, _between(elbow, wrist, 1.16)), (0.016, 0.015), self._skin, shade)
        for ends, widths, covered, start in (
            ((elbow, wrist), (0.028, 0.026, 0.018), cut.sleeve * 2 - 1, 0.18),
            ((shoulder, elbow), (0.033, 0.032, 0.027), cut.sleeve * 2, 0.02),
        ):
            bare = tuple(w * width for w in widths)
            if covered < 1:
                self._limb(ends, bare, self._skin, shade)
            if covered > 0:
                sleeve = tuple(w + cut.room * 0.6 + 0.003 for w in bare)
                hem = _between(*ends, min(covered, 1.0))
                self._limb((ends[0], hem), sleeve, self._cloth(top, PixelLabel.TOP, 0.045, start), shade)

    def _hood(self) -> None:
        body = self.body
        wide = body.breadth(0.062, 0.035)
        ends = body.seen(body.trunk(0.155, z=-0.045)), body.seen(body.trunk(0.205, z=-0.065))
        paint = self._cloth(self.identity.top, PixelLabel.TOP, 0.1)
        self.canvas.sweep(*ends, (wide, wide * 0.75), paint, shade=0.8)

    def _backpack(self) -> None:
        body, bag = self.body, self.identity.bag
        wide = body.breadth(0.082, 0.05)
        ends = body.seen(body.trunk(0.2, z=-0.108)), body.seen(body.trunk(0.425, z=-0.118))

        def paint(angle: Array, down: Array) -> tuple[Array, int]:
            pocket = inside(down, 0.12, 0.2, 0.008) * inside(np.abs(angle), -1, 0.75, 0.08)
            seam = inside(down, 0.035, 0.045, 0.01)
            lines = np.clip(0.55 * pocket + 0.8 * seam, 0, 1)
            colours = mixed(cloth(bag, angle, down), darker(bag.colour), lines)
            return folded(colours, angle, down, self.seed), PixelLabel.BAG

        self.canvas.sweep(*ends, [wide * w for w in (0.8, 0.97, 1.0, 1.0, 1.02, 0.95)], paint)

    def _shoulder_bag(self) -> None:
        body, bag = self.body, self.identity.bag
        wide, x = body.breadth(0.035, 0.075), 0.118 * body.width
        ends = body.seen(body.trunk(0.46, x=x)), body.seen(body.trunk(0.56, x=x))

        def paint(angle: Array, down: Array) -> tuple[Array, int]:
            flap = inside(down, 0.045, 0.055, 0.008)
            return mixed(cloth(bag, angle, down), darker(bag.colour), 0.8 * flap), PixelLabel.BAG

        self.canvas.sweep(*ends, (wide, wide * 1.06, wide), paint)


def _between(start: Joint, end: Joint, share: float) -> Joint:
    (a, b, c), (x, y, z) = start, end
    return a + share * (x - a), b + share * (y - b), c + share * (z - c)


def _strap(kind: str, around: Array, down: Array) -> Array:
    """Where the straps of a bag cross the trunk [h, w]."""
    if kind == "backpack":
        return inside(np.abs(np.abs(around) - 0.78), -1, 0.11, 0.08) * inside(down, -1, 0.2, 0.01)
    if kind == "shoulder":  # from the right shoulder to the left hip, in front and behind
        height = 0.04 + 0.27 * (np.sin(around) + 0.75) / 1.75
        return inside(down - height, -0.012, 0.012, 0.008)
    return np.zeros_like(down)
