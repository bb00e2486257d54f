"""What people wear: a wardrobe of limited size, and identities that combine its items."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pat.base.errors import UserError
from pat.synthetic.flat.domains import DomainStyle, Weights
from pat.synthetic.randomness import chosen, stream

Colour = tuple[float, float, float]
"""sRGB in [0, 1]."""

COLOURS: dict[str, Colour] = {
    "black": (0.09, 0.09, 0.10),
    "charcoal": (0.25, 0.26, 0.28),
    "grey": (0.52, 0.52, 0.54),
    "white": (0.93, 0.93, 0.91),
    "navy": (0.10, 0.14, 0.32),
    "blue": (0.14, 0.33, 0.72),
    "sky": (0.50, 0.71, 0.91),
    "denim": (0.27, 0.38, 0.56),
    "teal": (0.08, 0.49, 0.51),
    "green": (0.13, 0.50, 0.25),
    "olive": (0.40, 0.42, 0.21),
    "yellow": (0.94, 0.80, 0.20),
    "orange": (0.91, 0.45, 0.11),
    "red": (0.77, 0.11, 0.13),
    "maroon": (0.42, 0.08, 0.14),
    "pink": (0.92, 0.55, 0.66),
    "purple": (0.43, 0.22, 0.56),
    "brown": (0.38, 0.25, 0.15),
    "beige": (0.81, 0.72, 0.57),
}
SKINS: dict[str, Colour] = {
    "pale": (0.94, 0.79, 0.70),
    "light": (0.87, 0.69, 0.56),
    "tan": (0.73, 0.53, 0.39),
    "brown": (0.52, 0.35, 0.24),
    "dark": (0.34, 0.22, 0.16),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.07, 0.06, 0.06),
    "brown": (0.27, 0.16, 0.09),
    "blond": (0.78, 0.62, 0.33),
    "red": (0.52, 0.22, 0.09),
    "grey": (0.62, 0.61, 0.60),
}
HAIR: Weights = (("short", 4.0), ("long", 3.0), ("bun", 1.5), ("bald", 0.7))
HAIR_FREQUENCY: Weights = (("black", 4.0), ("brown", 3.0), ("blond", 1.5), ("red", 0.7), ("grey", 1.0))
CONTRASTS = ("white", "black", "red", "yellow", "navy", "sky", "beige", "green", "orange")
"""Second colours of patterns."""


@dataclass(frozen=True)
class Item:
    """One thing to wear; `number` is its place in the wardrobe. Without a texture: second = first colour."""

    kind: str
    number: int = 0
    colour_name: str = "black"
    colour: Colour = COLOURS["black"]
    texture: str = "plain"
    second_name: str = "black"
    second: Colour = COLOURS["black"]

    def described(self) -> dict[str, Any]:
        """The attributes of the item, as they are written beside the images."""
        if self.kind == "none":
            return {"type": "none"}
        described = {"type": self.kind, "item": self.number, "colour": self.colour_name, "texture": self.texture}
        if self.second_name != self.colour_name:
            described["second_colour"] = self.second_name
        return described


NOTHING = Item("none")


@dataclass(frozen=True)
class Identity:
    """One person. `height` and `width` are relative to the average build."""

    top: Item
    bottom: Item
    shoes: Item
    bag: Item
    hat: Item
    hair: Item
    skin_name: str
    skin: Colour
    height: float
    width: float

    @property
    def parts(self) -> tuple[Item, ...]:
        """All that is worn, with the hair."""
        return self.top, self.bottom, self.shoes, self.bag, self.hat, self.hair

    def described(self) -> dict[str, Any]:
        """The attributes of the person, as they are written beside the images."""
        names = ("top", "bottom", "shoes", "bag", "hat", "hair")
        worn = {name: item.described() for name, item in zip(names, self.parts, strict=True)}
        build = {"height": round(self.height, 3), "width": round(self.width, 3)}
        return {**worn, "skin": self.skin_name, "build": build}


@dataclass(frozen=True)
class Wardrobe:
    """All items that exist in a domain."""

    tops: tuple[Item, ...]
    bottoms: tuple[Item, ...]
    shoes: tuple[Item, ...]
    bags: tuple[Item, ...]
    hats: tuple[Item, ...]
    hair: tuple[Item, ...]

    @staticmethod
    def of(style: DomainStyle) -> Wardrobe:
        """The wardrobe of a domain: the same for every data set made in it."""
        generator = stream("wardrobe", style.seed)

        def items(count: int, kinds: Weights, colours: Weights, textures: Weights) -> tuple[Item, ...]:
            return tuple(_item(generator, n, kinds, colours, textures) for n in range(count if kinds else 0))

        plain: Weights = (("plain", 1.0),)
        leather: Weights = tuple((name, 1.0) for name in ("black", "brown", "white", "grey", "red", "navy"))
        canvas: Weights = tuple((name, 1.0) for name in COLOURS)
        bags = items(style.wardrobe_bags, _worn(style.bags), canvas, (("plain", 1.0), ("blocks", 1.0)))
        hats = items(style.wardrobe_hats, _worn(style.hats), canvas, plain)
        return Wardrobe(
            tops=items(style.wardrobe_tops, style.tops, style.top_colours, style.top_textures),
            bottoms=items(style.wardrobe_bottoms, style.bottoms, style.bottom_colours, style.bottom_textures),
            shoes=items(style.wardrobe_shoes, style.shoes, leather, plain),
            bags=bags,
            hats=hats,
            hair=tuple(
                Item(kind, n, colour, HAIR_COLOURS[colour], "plain", colour, HAIR_COLOURS[colour])
                for n, (kind, colour) in enumerate((k, c) for k, _ in HAIR for c, _ in HAIR_FREQUENCY)
            ),
        )


def _worn(weights: Weights) -> Weights:
    return tuple((name, weight) for name, weight in weights if name != "none")


def _item(
    generator: np.random.Generator, number: int, kinds: Weights, colours: Weights, textures: Weights
) -> Item:
    kind, first, texture = chosen(generator, kinds), chosen(generator, colours), chosen(generator, textures)
    shift = generator.normal(0, 0.03, 3)
    second = first
    if texture != "plain" or kind == "jacket":
        far = [name for name in CONTRASTS if math.dist(COLOURS[name], COLOURS[first]) > 0.5]
        second = far[int(generator.integers(len(far)))]
    red, green, blue = np.clip(np.array(COLOURS[first]) + shift, 0.02, 0.98).tolist()
    return Item(kind, number, first, (red, green, blue), texture, second, COLOURS[second])


def identities(style: DomainStyle, seed: int) -> Iterator[Identity]:
    """People without end; no two of them agree in everything they wear, their hair and their skin.

    The first n are the same however many are taken. Raises UserError when the wardrobe is used up.
    """
    wardrobe = Wardrobe.of(style)
    generator = stream("identities", style.seed, seed)
    seen: set[tuple[tuple[Item, ...], str]] = set()
    while True:
        for _ in range(1000):
            identity = _identity(generator, wardrobe, style)
            if (identity.parts, identity.skin_name) not in seen:
                break
        else:
            raise UserError(
                f"the wardrobe of the synthetic domain {style.name} dresses {len(seen)} people differently,"
                " not more; ask for fewer identities or a larger wardrobe"
            )
        seen.add((identity.parts, identity.skin_name))
        yield identity


def _identity(generator: np.random.Generator, wardrobe: Wardrobe, style: DomainStyle) -> Identity:
    def one(items: tuple[Item, ...]) -> Item:
        return items[int(generator.integers(len(items)))]

    def perhaps(items: tuple[Item, ...], weights: Weights) -> Item:
        kind = chosen(generator, weights)
        fitting = tuple(item for item in items if item.kind == kind)
        return one(fitting) if fitting else NOTHING

    skin = chosen(generator, tuple((name, 1.0) for name in SKINS))
    kind, colour = chosen(generator, HAIR), chosen(generator, HAIR_FREQUENCY)
    return Identity(
        top=one(wardrobe.tops),
        bottom=one(wardrobe.bottoms),
        shoes=one(wardrobe.shoes),
        bag=perhaps(wardrobe.bags, style.bags),
        hat=perhaps(wardrobe.hats, style.hats),
        hair=next(item for item in wardrobe.hair if (item.kind, item.colour_name) == (kind, colour)),
        skin_name=skin,
        skin=SKINS[skin],
        height=float(generator.uniform(0.9, 1.08)),
        width=float(generator.uniform(0.86, 1.2)),
    )
