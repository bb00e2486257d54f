"""A person who does not exist is a seed; all that is seen of them follows from it."""

from dataclasses import asdict, dataclass, replace
from math import erf, sqrt
from typing import Any

import numpy as np

from pat.synthetic.people import wardrobe as w
from pat.synthetic.randomness import chosen, stream

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """Colours are linear RGB. `changed` names the attribute in which a look-alike differs from the first one."""

    seed: int
    sex: str
    phenotypes: tuple[tuple[str, float], ...]
    skin: Colour
    hair: str
    hair_colour: str
    beard: str
    top: str
    top_colour: str
    top_second: str
    top_pattern: str
    top_scale: float
    opened: float  # half-width in metres of an open front, 0 closed
    inner_colour: str
    bottom: str
    bottom_colour: str
    bottom_pattern: str
    shoes: str
    shoe_colour: str
    sole_colour: str
    bag: str
    bag_colour: str
    hat: str
    hat_colour: str
    glasses: str
    umbrella: bool
    trolley: bool
    tint: tuple[float, ...]  # what makes one red differ from another
    family: int = -1
    changed: str = ""

    @classmethod
    def sample(cls, seed: int, *, style: w.Name = "train") -> "Person":
        """The person of a seed ≥ 0. Raises ValueError for a negative seed or an unknown style."""
        if seed < 0:
            raise ValueError(f"a person's seed is 0 or more, not {seed}")
        if style not in w.WARDROBES:
            raise ValueError(f"no wardrobe {style!r}; there are {', '.join(w.WARDROBES)}")
        rng = np.random.default_rng([seed, 0x9E0])
        wardrobe, woman = w.WARDROBES[style], rng.random() < 0.5
        phenotypes = _phenotypes(rng, woman)
        covered = woman and rng.random() < 0.07
        top = chosen(rng, w.WOMEN_TOPS if woman else w.MEN_TOPS)
        bags = {name: odds for name, odds in w.BAGS.items() if name in wardrobe.bags}
        hat = "headscarf" if covered else chosen(rng, w.HATS)
        hair = "covered" if covered else chosen(rng, w.WOMEN_HAIR if woman else w.MEN_HAIR)
        grey = phenotypes["age"] > 0.85 and rng.random() < 0.6
        top_colour = chosen(rng, w.TOP_COLOURS)
        pattern = str(rng.choice(wardrobe.patterns)) if rng.random() < 0.42 else "plain"
        if top == "high-visibility vest":
            top_colour, pattern = ("lime", "orange")[rng.integers(2)], "high-visibility"
        elif top in ("coat", "long coat", "blazer", "down jacket") and rng.random() < 0.7:
            pattern = "plain"
        bag = chosen(rng, bags)
        person = cls(
            seed=seed,
            sex="female" if woman else "male",
            phenotypes=tuple(phenotypes.items()),
            skin=_skin(rng),
            hair=hair,
            hair_colour=("grey", "white")[rng.integers(2)] if grey else chosen(rng, w.HAIR_ODDS),
            beard="none" if woman else chosen(rng, {"none": 60, "stubble": 18, "beard": 16}),
            top=top,
            top_colour=top_colour,
            top_second="light grey" if pattern == "high-visibility" else _other(rng, w.TOP_COLOURS, top_colour),
            top_pattern=pattern,
            top_scale=float(rng.uniform(0.035, 0.12)),
            opened=float(rng.uniform(0.03, 0.10)) if top in w.OPEN_TOPS and rng.random() < 0.42 else 0.0,
            inner_colour=chosen(rng, w.TOP_COLOURS),
            bottom=chosen(rng, w.WOMEN_BOTTOMS if woman else w.MEN_BOTTOMS),
            bottom_colour=chosen(rng, w.BOTTOM_COLOURS),
            bottom_pattern=chosen(rng, w.BOTTOM_PATTERNS | ({"flowers": 3} if woman else {})),
            shoes=chosen(rng, w.SHOES),
            shoe_colour=chosen(rng, w.SHOE_COLOURS),
            sole_colour=chosen(rng, {"black": 3, "white": 4, "brown": 1}),
            bag=bag,
            bag_colour=chosen(rng, w.BAG_COLOURS),
            hat=hat,
            hat_colour=chosen(rng, w.TOP_COLOURS),
            glasses=chosen(rng, {"none": 76, "glasses": 16, "sunglasses": 8}),
            umbrella=bool(rng.random() < 0.03) and bag in w.HANDS_FREE,
            trolley=False,
            tint=tuple(float(x) for x in rng.normal(0, 1, 40)),
        )
        free = bag in w.HANDS_FREE and not person.umbrella
        return replace(person, trolley=free and stream("trolley", seed).random() < wardrobe.trolleys)

    @classmethod
    def look_alikes(cls, seed: int, count: int, *, style: w.Name = "train") -> list["Person"]:
        """`count` people; each but the first differs from the first in exactly one attribute, named in `changed`.

        Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"a family has at least one member, not {count}")
        first = replace(cls.sample(seed, style=style), family=seed)
        rng = np.random.default_rng([seed, 0xA11])
        members, taken = [first], {first}
        while len(members) < count:
            other = _change(first, rng, style)
            if other not in taken:
                taken.add(other)
                members.append(other)
        return members

    def colour(self, name: str, slot: int) -> Colour:
        """A named colour in this person's own shade of it; `slot` keeps two garments of one colour apart."""
        base = np.array(w.COLOURS[name])
        shift = np.array(self.tint[4 * slot : 4 * slot + 4])
        base = base.mean() + (base - base.mean()) * (0.84 + 0.14 * np.tanh(shift[1]))  # dyes are rarely pure
        return _rgb(np.clip(base * np.exp(0.22 * shift[0] + 0.08 * shift[1:4]), 0.010, 0.9))

    @property
    def hood(self) -> str:
        """Of the top: "none", "down" or "up"; hats and hair that stands off keep it down."""
        some, worn = w.HOODS.get(self.top, (0.0, 0.0))
        drawn = 0.5 + 0.5 * erf(self.tint[35] / sqrt(2))  # even between 0 and 1
        if drawn >= some:
            return "none"
        fits = self.hat == "none" and self.hair not in ("tied", "bun", "afro")
        return "up" if fits and drawn < some * worn else "down"

    def attributes(self) -> dict[str, str | float | bool]:
        """Flat, for a table: everything but the shape's and the tint's numbers, and the top's and bottom's RGB."""
        flat: dict[str, Any] = {k: v for k, v in asdict(self).items() if k not in ("phenotypes", "tint", "skin")}
        flat |= {f"body_{k}": v for k, v in self.phenotypes}
        flat["hood"] = self.hood
        flat["tone"] = float(np.mean(self.skin))
        for name, slot in (("top", 0), ("bottom", 2)):
            rgb = self.colour(getattr(self, f"{name}_colour"), slot)
            flat |= dict(zip((f"{name}_red", f"{name}_green", f"{name}_blue"), rgb, strict=True))
        return flat


def _rgb(values: np.ndarray) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])


def _other(rng: np.random.Generator, odds: dict[str, Any], but: str) -> str:
    return chosen(rng, {name: share for name, share in odds.items() if name != but})


def _phenotypes(rng: np.random.Generator, woman: bool) -> dict[str, float]:
    african, asian, _ = rng.dirichlet([0.6, 0.6, 0.6])

    def around(middle: float, spread: float, low: float, high: float) -> float:
        return float(np.clip(rng.normal(middle, spread), low, high))

    return {
        "gender": around(0.92, 0.08, 0, 1) if woman else around(0.08, 0.08, 0, 1),  # 0 is male
        "age": around(0.70, 0.10, 0.55, 1.0),
        "muscle": around(0.5, 0.12, 0.2, 0.9),
        "weight": around(0.46, 0.17, 0.12, 0.95),
        "height": around(0.5, 0.17, 0.1, 0.9),
        "proportions": around(0.6, 0.12, 0.2, 0.9),
        "african": float(african),
        "asian": float(asian),
    }


def _skin(rng: np.random.Generator) -> Colour:
    """Even over tones from very dark to very light, apart from the shape of the face."""
    stops = np.array(
        [(0.045, 0.022, 0.014), (0.12, 0.060, 0.035), (0.27, 0.145, 0.085), (0.46, 0.29, 0.19), (0.64, 0.43, 0.33)]
    )
    at = rng.uniform(0, len(stops) - 1)
    colour = np.array([np.interp(at, range(len(stops)), stops[:, k]) for k in range(3)])
    return _rgb(colour * np.exp(rng.normal(0, 0.05, 3)))


def _change(first: Person, rng: np.random.Generator, style: w.Name) -> Person:
    woman, wardrobe = first.sex == "female", w.WARDROBES[style]
    odds: dict[str, dict[str, Any]] = {
        "top_colour": w.TOP_COLOURS,
        "bottom_colour": w.BOTTOM_COLOURS,
        "shoe_colour": w.SHOE_COLOURS,
        "bag": {name: share for name, share in w.BAGS.items() if name in wardrobe.bags},
        "top_pattern": dict.fromkeys(("plain", *wardrobe.patterns), 1),
        "bottom": w.WOMEN_BOTTOMS if woman else w.MEN_BOTTOMS,
        "top": w.WOMEN_TOPS if woman else w.MEN_TOPS,
    }
    if first.hat == "none" and first.hood != "up":
        odds["hair"] = w.WOMEN_HAIR if woman else w.MEN_HAIR
        odds["hair_colour"] = w.HAIR_ODDS
    if first.hat != "headscarf" and first.hood != "up":
        odds["hat"] = w.HATS
    if first.trolley:
        odds["bag"] = {name: share for name, share in odds["bag"].items() if name in w.HANDS_FREE}
    if first.bag != "none":
        odds["bag_colour"] = w.BAG_COLOURS
    if first.hair == "bald":
        odds.pop("hair_colour", None)
    if first.top in ("dress", "long dress", "robe"):
        odds.pop("bottom")
        odds.pop("bottom_colour")
    if first.top_pattern == "high-visibility":
        odds.pop("top_colour")
    name = list(odds)[rng.integers(len(odds))]
    difference: dict[str, Any] = {name: _other(rng, odds[name], getattr(first, name)), "changed": name}
    return replace(first, **difference)
