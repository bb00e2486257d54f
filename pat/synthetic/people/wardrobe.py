"""What people wear and how often: colours, garments, patterns, hair, things they carry."""

from dataclasses import dataclass
from typing import Literal

from pat.synthetic.people.shade import PATTERNS

PARTS = (
    "none", "skin", "hair", "face", "top", "bottom", "shoes", "bag", "hat", "accessory", "vehicle", "umbrella",
)

# Linear RGB.
COLOURS = {
    "black": (0.020, 0.020, 0.023),
    "dark grey": (0.07, 0.07, 0.075),
    "grey": (0.22, 0.22, 0.23),
    "light grey": (0.48, 0.48, 0.48),
    "white": (0.82, 0.82, 0.80),
    "navy": (0.025, 0.04, 0.11),
    "blue": (0.05, 0.12, 0.42),
    "sky": (0.28, 0.48, 0.70),
    "red": (0.50, 0.03, 0.045),
    "wine": (0.18, 0.025, 0.045),
    "pink": (0.75, 0.33, 0.42),
    "orange": (0.75, 0.24, 0.04),
    "yellow": (0.78, 0.60, 0.09),
    "green": (0.05, 0.25, 0.08),
    "lime": (0.55, 0.80, 0.06),
    "olive": (0.13, 0.14, 0.055),
    "teal": (0.03, 0.27, 0.29),
    "purple": (0.18, 0.07, 0.32),
    "brown": (0.13, 0.065, 0.035),
    "beige": (0.54, 0.44, 0.31),
    "denim": (0.09, 0.15, 0.28),
    "light denim": (0.27, 0.36, 0.50),
    "cream": (0.74, 0.68, 0.54),
}
TOP_COLOURS = {
    "black": 5, "dark grey": 2, "grey": 2, "light grey": 1.5, "white": 4.5, "navy": 2.5, "blue": 1.5, "sky": 1,
    "red": 1.6, "wine": 0.8, "pink": 0.9, "orange": 0.6, "yellow": 0.7, "green": 0.9, "lime": 0.3, "olive": 0.8,
    "teal": 0.6, "purple": 0.7, "brown": 0.8, "beige": 1, "denim": 0.6, "cream": 0.8,
}
BOTTOM_COLOURS = {
    "black": 5, "dark grey": 2.5, "grey": 1.5, "light grey": 0.5, "white": 0.8, "navy": 2.2, "blue": 0.7,
    "denim": 4, "light denim": 1.8, "brown": 0.7, "beige": 1.2, "olive": 0.7, "red": 0.25, "wine": 0.2,
    "cream": 0.3, "pink": 0.15,
}
SHOE_COLOURS = {
    "black": 5, "white": 3.5, "grey": 1, "brown": 1.3, "red": 0.4, "navy": 0.6, "blue": 0.3, "beige": 0.6,
}
BAG_COLOURS = {
    "black": 5, "navy": 1, "grey": 1, "red": 0.8, "blue": 0.7, "brown": 1.2, "beige": 0.6, "pink": 0.4,
    "green": 0.4, "white": 0.5, "orange": 0.3, "olive": 0.5,
}
HAIR_COLOURS = {
    "black": (0.012, 0.010, 0.010),
    "dark brown": (0.03, 0.018, 0.012),
    "brown": (0.09, 0.048, 0.026),
    "blond": (0.40, 0.27, 0.12),
    "grey": (0.30, 0.29, 0.28),
    "white": (0.62, 0.61, 0.58),
    "red": (0.20, 0.055, 0.025),
}
HAIR_ODDS = {"black": 40, "dark brown": 24, "brown": 15, "blond": 8, "grey": 7, "white": 3, "red": 3}

# Garment: how far down the arm it reaches (1 is the wrist), its hem on the template and its looseness in metres.
TOPS = {
    "t-shirt": (0.34, 0.88, 0.012),
    "tank top": (0.02, 0.92, 0.006),
    "shirt": (0.97, 0.86, 0.013),
    "jumper": (1.0, 0.90, 0.018),
    "hoodie": (1.0, 0.88, 0.024),
    "jacket": (1.0, 0.88, 0.028),
    "blazer": (0.97, 0.80, 0.020),
    "coat": (1.0, 0.58, 0.030),
    "long coat": (1.0, 0.34, 0.030),
    "down jacket": (1.0, 0.90, 0.048),
    "vest": (0.03, 0.90, 0.034),
    "polo shirt": (0.30, 0.88, 0.012),
    "high-visibility vest": (0.04, 0.86, 0.030),
    "sports shirt": (0.36, 0.87, 0.014),
    "dress": (0.22, 0.55, 0.010),
    "long dress": (0.8, 0.18, 0.012),
    "robe": (1.0, 0.08, 0.035),
    "tunic": (0.9, 0.70, 0.020),
}
OPEN_TOPS = {
    "jacket", "blazer", "coat", "long coat", "down jacket", "hoodie", "shirt", "vest", "high-visibility vest",
}
# Share of these tops that have a hood, and share of the hoods that are worn up.
HOODS = {"hoodie": (1.0, 0.12), "jacket": (0.3, 0.15), "coat": (0.3, 0.15), "down jacket": (0.6, 0.2)}
COLLARS = {"shirt": 0.026, "polo shirt": 0.024, "jacket": 0.045, "blazer": 0.03, "coat": 0.045, "long coat": 0.045,
           "down jacket": 0.055, "vest": 0.04, "robe": 0.03}  # height in metres  # fmt: skip
RIBBED = ("jumper", "hoodie", "jacket")  # cuffs and hem
TOP_ODDS = {
    "t-shirt": 22, "tank top": 3, "shirt": 12, "jumper": 9, "hoodie": 8, "jacket": 11, "blazer": 4, "coat": 4,
    "long coat": 2, "down jacket": 4, "vest": 1.5, "polo shirt": 4, "high-visibility vest": 1.2,
    "sports shirt": 3,
}
WOMEN_TOPS = TOP_ODDS | {"dress": 9, "long dress": 4, "tunic": 4, "robe": 1, "tank top": 6}
MEN_TOPS = TOP_ODDS | {"robe": 1.2}

# Bottom: how far down the leg, looseness at the thigh, width (radius in metres) at the hem.
BOTTOMS = {
    "jeans": (0.97, 0.006, 0.075),
    "slim trousers": (0.95, 0.003, 0.058),
    "trousers": (0.98, 0.010, 0.092),
    "wide trousers": (0.99, 0.016, 0.125),
    "joggers": (0.94, 0.016, 0.066),
    "leggings": (0.93, 0.001, 0.0),
    "cropped trousers": (0.78, 0.010, 0.090),
    "shorts": (0.44, 0.016, 0.105),
    "short shorts": (0.20, 0.010, 0.10),
    "cargo trousers": (0.97, 0.022, 0.100),
    "short skirt": (0.02, 0.0, 0.0),
    "knee skirt": (0.02, 0.0, 0.0),
    "long skirt": (0.02, 0.0, 0.0),
}
SKIRTS = {"short skirt": (0.66, 0.05), "knee skirt": (0.50, 0.05), "long skirt": (0.20, 0.10)}  # hem, flare
MEN_BOTTOMS = {
    "jeans": 10, "slim trousers": 5, "trousers": 9, "wide trousers": 2, "joggers": 4, "cropped trousers": 1.2,
    "shorts": 6, "cargo trousers": 2,
}
WOMEN_BOTTOMS = {
    "jeans": 7, "slim trousers": 8, "trousers": 4, "wide trousers": 4, "joggers": 2, "leggings": 5,
    "cropped trousers": 2, "shorts": 2, "short shorts": 3, "short skirt": 3, "knee skirt": 4, "long skirt": 3,
}
SHOES = {"trainers": 9, "shoes": 4, "boots": 2.5, "sandals": 1.2}
BAGS = {
    "none": 42, "backpack": 25, "shoulder bag": 13, "handbag": 9, "carrier bag": 5, "suitcase": 3, "bicycle": 2,
}
HANDS_FREE = ("none", "backpack", "shoulder bag")  # bags that need no hand
HATS = {"none": 80, "cap": 9, "beanie": 4, "brimmed hat": 2.5}
MEN_HAIR = {"short": 60, "cropped": 16, "medium": 7, "long": 3, "tied": 2, "bun": 1, "afro": 3, "bald": 10}
WOMEN_HAIR = {"short": 10, "medium": 20, "long": 34, "tied": 20, "bun": 9, "afro": 4, "cropped": 1}
BOTTOM_PATTERNS = {"plain": 80, "heather": 9, "side stripe": 6, "check": 2, "camouflage": 1.5}

Name = Literal["train", "test"]


@dataclass(frozen=True)
class Wardrobe:
    """Patterns and bags a domain may draw: `test` has prints that `train` never shows; plain cloth is in both."""

    patterns: tuple[str, ...]
    bags: tuple[str, ...]
    trolleys: float
    """Share that pushes a trolley of those with both hands free."""


_TEST_PATTERNS = ("tartan", "back print", "gradient", "zigzag", "diamonds", "tie-dye")
WARDROBES: dict[str, Wardrobe] = {
    "train": Wardrobe(
        tuple(p for p in PATTERNS if p not in (*_TEST_PATTERNS, "plain", "high-visibility", "side stripe")),
        ("none", "backpack", "shoulder bag", "handbag", "suitcase"),
        0.025,
    ),
    "test": Wardrobe(_TEST_PATTERNS, ("none", "carrier bag", "bicycle", "backpack", "shoulder bag"), 0.0),
}
