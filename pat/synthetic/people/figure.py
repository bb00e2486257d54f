"""A person, dressed and posed, standing somewhere in the world."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people import carried, dress, shade, trolley
from pat.synthetic.people.mesh import Mesh, join
from pat.synthetic.people.person import Colour, Person
from pat.synthetic.people.pose import Pose
from pat.synthetic.people.raster import skin
from pat.synthetic.people.wardrobe import COLOURS, HAIR_COLOURS, HANDS_FREE, OPEN_TOPS, PARTS, RIBBED


@dataclass(frozen=True)
class Figure:
    vertices: NDArray[np.float32]  # [V, 3] world, metres
    cloth: NDArray[np.float32]  # [V, 5] place on the template body, along the arm, along the leg
    faces: NDArray[np.int32]  # [F, 3]
    material: NDArray[np.int32]  # [F] row of `materials`
    materials: NDArray[np.void]  # shade.MATERIAL [M]


@dataclass(frozen=True)
class _Dressed:
    rest: NDArray[np.float32]
    cloth: NDArray[np.float32]
    weights: NDArray[np.float32]
    faces: NDArray[np.int32]
    material: NDArray[np.int32]
    joints: NDArray[np.float64]


def figure(
    person: Person, pose: Pose, *, position: tuple[float, float] = (0.0, 0.0), heading: float = 0.0
) -> Figure:
    """The person in a pose; `heading` 0 looks along -y and turns to the left. The lowest foot stands on z = 0."""
    if person.bag not in HANDS_FREE:
        pose = pose.holding("R", raised=False)
    elif person.umbrella:
        pose = pose.holding("R", raised=True)
    elif person.trolley:
        pose = _pushing(person, pose)
    dressed = _dressed(person, pose.hands, pose.busy if pose.hands else "")
    points = skin(dressed.rest, dressed.weights, pose.bones(dressed.joints))
    feet = dressed.cloth[:, 4] > 0.9
    points[:, 2] -= points[feet, 2].min()
    if person.trolley:
        uncarried = ~dressed.weights.any(axis=1)
        points[uncarried] = dressed.rest[uncarried]
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, s], [-s, c]], np.float32)
    points[:, :2] = points[:, :2] @ turn + np.array(position, np.float32)
    return Figure(points, dressed.cloth, dressed.faces, dressed.material, materials(person))


def _pushing(person: Person, pose: Pose) -> Pose:
    """The pose with both hands on the bar of a trolley that stands where the lowest foot does."""
    body, _ = _worn(person)
    dressed = _dressed(person, "", "")
    feet = dressed.cloth[:, 4] > 0.9
    ground = skin(dressed.rest[feet], dressed.weights[feet], pose.bones(body.joints))[:, 2].min()
    return pose.reaching(body.joints, trolley.palms(body) + np.array([0.0, 0.0, ground]))


@lru_cache(maxsize=64)  # the images of one person come one after another, and dressing costs more than drawing
def _worn(person: Person) -> tuple[dress.Body, Mesh]:
    body = dress.Body(person)
    parts = [
        *dress.clothes(body, person),
        *carried.hair(body, person),
        *carried.headwear(body, person),
        *carried.bags(body, person),
        *carried.vehicles(body, person),
    ]
    return body, join(parts)


@lru_cache(maxsize=64)
def _dressed(person: Person, hands: str, busy: str) -> _Dressed:
    body, worn = _worn(person)
    mesh = join([worn, *carried.held(body, hands, busy)])
    if hands == "pocket":
        mesh = mesh.cut(np.where(_hand(mesh, busy), 1.06 - mesh.cloth[:, 3], 1.0))
    return _Dressed(
        np.ascontiguousarray(mesh.rest, np.float32),
        np.ascontiguousarray(mesh.cloth, np.float32),
        np.ascontiguousarray(mesh.weights, np.float32),
        np.ascontiguousarray(mesh.faces, np.int32),
        np.ascontiguousarray(mesh.material, np.int32),
        body.joints,
    )


def _hand(mesh: Mesh, sides: str) -> NDArray:
    """Which vertices are of the arms of these sides."""
    left, right = (mesh.cloth[:, 0] > 0) & ("L" in sides), (mesh.cloth[:, 0] < 0) & ("R" in sides)
    return (mesh.cloth[:, 3] >= 0) & (left | right)


@lru_cache(maxsize=64)
def materials(person: Person) -> NDArray[np.void]:
    """The table the renderer colours by, shade.MATERIAL [14]."""
    table = np.zeros(14, shade.MATERIAL)

    def put(row: int, part: str, kind: int, colour: Colour, **columns: float | Colour) -> None:
        own = {"scale": 0.06, "seed": 1 + abs(person.tint[34]) * 3, "second": colour, "third": colour} | columns
        for name, value in {"part": PARTS.index(part), "kind": kind, "colour": colour, **own}.items():
            table[name][row] = value

    hair = HAIR_COLOURS[person.hair_colour]
    bag = person.colour(person.bag_colour, 5)
    folds = 0.35 + 0.3 * min(1.5, abs(person.tint[33]))
    strap = {"backpack": 1, "shoulder bag": 2}.get(person.bag, 0)
    second = person.colour(person.top_second, 1)
    third = bag if strap else person.colour(person.inner_colour, 3)
    put(dress.SKIN, "skin", shade.SKIN, person.skin, gloss=0.02)
    beard = {"none": 0.0, "stubble": 0.35, "beard": 0.85}[person.beard]
    put(dress.FACE, "face", shade.FACE, person.skin, second=hair, trim=beard, gloss=0.02)
    put(dress.HAIR, "hair", shade.HAIR, hair, gloss=0.03)
    closed = person.opened == 0 and person.top in OPEN_TOPS
    finish = shade.QUILTED if person.top == "down jacket" else shade.RIBBED if person.top in RIBBED else 0
    shiny = 0.06 if person.top in ("down jacket", "sports shirt") else 0.0
    put(
        dress.TOP, "top", shade.CLOTH, person.colour(person.top_colour, 0), second=second, third=third,
        pattern=shade.PATTERNS.index(person.top_pattern), scale=person.top_scale, folds=folds, strap=strap,
        trim=float(closed), gloss=shiny, finish=finish,
    )  # fmt: skip
    put(dress.INNER, "top", shade.CLOTH, person.colour(person.inner_colour, 3), folds=folds * 0.6)
    put(
        dress.BOTTOM, "bottom", shade.CLOTH, person.colour(person.bottom_colour, 2),
        second=COLOURS["white"] if person.bottom_pattern == "side stripe" else person.colour("grey", 4),
        pattern=shade.PATTERNS.index(person.bottom_pattern), folds=folds * 0.8,
        finish=shade.POCKETS if "jeans" in person.bottom or "trousers" in person.bottom else 0,
    )  # fmt: skip
    shoes, sole = person.colour(person.shoe_colour, 4), COLOURS[person.sole_colour]
    put(dress.SHOES, "shoes", shade.SHOE, shoes, second=sole, gloss=0.05)
    put(dress.BAG, "bag", shade.BAG, bag, gloss=0.03)
    put(dress.HAT, "hat", shade.CLOTH, person.colour(person.hat_colour, 6), folds=0.2)
    put(dress.ACCESSORY, "accessory", shade.BAG, (0.02, 0.02, 0.02), gloss=0.2)
    put(dress.VEHICLE, "vehicle", shade.BAG, (0.05, 0.05, 0.055), gloss=0.2)
    put(dress.WIRE, "vehicle", shade.BAG, (0.36, 0.37, 0.39), gloss=0.3)
    put(dress.UMBRELLA, "umbrella", shade.BAG, bag)
    put(dress.PARCEL, "accessory", shade.BAG, person.colour("beige", 7))
    return table
