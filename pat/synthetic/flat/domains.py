"""What differs between domains: how cameras see, where they hang, and what people wear there."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from pat.base.errors import UserError

Weights = tuple[tuple[str, float], ...]
"""Relative frequency of each choice."""

Range = tuple[float, float]
"""Lowest and highest value; drawn uniformly between them."""


def _weights(**frequencies: float) -> Weights:
    return tuple(frequencies.items())


@dataclass(frozen=True)
class DomainStyle:
    """One domain; make others with `dataclasses.replace`.

    Two styles that differ in `seed` alone have other cameras, places and garments of the same statistics.
    """

    name: str
    seed: int

    # What people wear: how many different items exist, and of which kinds.
    wardrobe_tops: int
    wardrobe_bottoms: int
    wardrobe_shoes: int
    wardrobe_bags: int
    wardrobe_hats: int
    tops: Weights
    top_colours: Weights
    top_textures: Weights
    bottoms: Weights
    bottom_colours: Weights
    bottom_textures: Weights
    shoes: Weights
    bags: Weights
    hats: Weights

    # Where the cameras hang.
    places: Weights
    daylight: Range
    """Brightness of the surroundings."""
    occlusion: float
    """Share of images in which something stands in front of the person."""
    elevation: Range
    """Angle in radians by which a camera looks down."""

    # How the cameras see; each camera draws its own values, and its images vary around them.
    warmth: Range
    """Natural logarithm of the red gain; the blue gain is its inverse."""
    tint: Range
    """Natural logarithm of the green gain."""
    exposure: Range
    """Stops."""
    exposure_jitter: float
    """Standard deviation between the images of one camera, in stops."""
    gamma: Range
    contrast: Range
    saturation: Range
    crosstalk: Range
    """Share of each colour channel that leaks into the others."""
    haze: Range
    """Light that veils the whole image; full scale is 1."""
    blur: Range
    """Standard deviation of the optics in pixels of an image 128 pixels high."""
    noise: Range
    """Standard deviation of the sensor noise; full scale is 1."""
    stream_quality: Range
    """JPEG quality of the camera's own stream, before the crop is stored."""


SOURCE = DomainStyle(
    name="source",
    seed=101,
    wardrobe_tops=18, wardrobe_bottoms=10, wardrobe_shoes=6, wardrobe_bags=7, wardrobe_hats=5,
    tops=_weights(tee=5, shirt=3, hoodie=2, jacket=1.5, vest=1.5, coat=0.5),
    top_colours=_weights(
        white=3, black=2, grey=1.5, blue=2, sky=1.5, red=2, pink=1, yellow=1.5, green=1.5, orange=1, purple=1,
        teal=1, navy=1,
    ),
    top_textures=_weights(plain=4, stripes=2.5, logo=2.5, dots=1, blocks=1.5, checks=1, pinstripes=0.5),
    bottoms=_weights(trousers=3, shorts=3, skirt=1.5),
    bottom_colours=_weights(denim=3, black=2, navy=1, beige=2, grey=1, white=0.7, red=0.5, olive=0.8),
    bottom_textures=_weights(plain=6, sidestripe=1, checks=1),
    shoes=_weights(sneakers=4, boots=1),
    bags=_weights(none=4.5, backpack=3, shoulder=2.5),
    hats=_weights(none=6, cap=2.5, brim=1, beanie=0.5),
    places=_weights(plaza=2, shop=2, park=2, brick=1),
    daylight=(0.9, 1.15), occlusion=0.15, elevation=(0.02, 0.2),
    warmth=(-0.16, 0.16), tint=(-0.06, 0.06), exposure=(-0.15, 0.4), exposure_jitter=0.15,
    gamma=(0.9, 1.12), contrast=(0.95, 1.2), saturation=(0.8, 1.25), crosstalk=(0.0, 0.1), haze=(0.0, 0.02),
    blur=(0.2, 0.6), noise=(0.005, 0.025), stream_quality=(35, 80),
)  # fmt: skip
"""A campus in summer: light clothes, stripes and prints, bright cameras."""

TARGET = replace(
    SOURCE,
    name="target",
    seed=202,
    tops=_weights(jacket=3, coat=2.5, hoodie=2.5, shirt=2.5, tee=1.5, vest=0.5),
    top_colours=_weights(
        black=3, charcoal=2, navy=2, grey=2, maroon=1.5, olive=1.5, brown=1.5, beige=1.5, blue=1, red=1, white=1,
        teal=0.7, orange=0.6,
    ),
    top_textures=_weights(plain=4.5, checks=2.5, blocks=1.5, stripes=1.5, logo=1.5, pinstripes=1, dots=0.5),
    bottoms=_weights(trousers=6, skirt=1.5, shorts=0.7),
    bottom_colours=_weights(black=3, denim=2.5, charcoal=2, navy=2, brown=1, olive=1, beige=1, maroon=0.5),
    shoes=_weights(sneakers=2.5, boots=2.5),
    bags=_weights(none=4, backpack=3, shoulder=3),
    hats=_weights(none=5, beanie=2.5, cap=1.5, brim=0.7),
    places=_weights(road=2, station=2, brick=2, shop=1),
    daylight=(0.65, 1.0), warmth=(-0.26, 0.3), tint=(-0.1, 0.06), exposure=(-0.45, 0.4),
    contrast=(0.92, 1.18), saturation=(0.65, 1.2), blur=(0.3, 0.8), noise=(0.01, 0.035), stream_quality=(28, 65),
)  # fmt: skip
"""A railway quarter in autumn: dark layers, checks, artificial light, poorer cameras."""

PRESETS = {style.name: style for style in (SOURCE, TARGET)}


def style_named(name: str) -> DomainStyle:
    """A preset by name ("target"), or a seeded variant of it ("target:7").

    A variant keeps the statistics of its preset; its cameras, places and garments are others.
    Raises UserError for an unknown preset or a seed that is not a whole number.
    """
    preset, colon, seed = name.partition(":")
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
        raise UserError(f"no synthetic domain is called {preset!r}; {hint}")
    if colon and not (seed.isascii() and seed.isdecimal()):
        raise UserError(f"the variant of a synthetic domain is NAME:NUMBER, such as {preset}:7, not {name!r}")
    style = PRESETS[preset]
    return replace(style, name=name, seed=style.seed * 100_003 + int(seed) + 1) if colon else style
