"""Clothes: copies of parts of the body, widened to a garment's cut and cut at its hems; skirts are tubes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people import wardrobe as w
from pat.synthetic.people.bodies import bodies
from pat.synthetic.people.mesh import Mesh, grid, join, normals
from pat.synthetic.people.person import Person

(
    SKIN, FACE, HAIR, TOP, INNER, BOTTOM, SHOES, BAG, HAT, ACCESSORY, VEHICLE, UMBRELLA, PARCEL, WIRE,
) = range(14)  # fmt: skip


class Body:
    """One person's bare body at rest, and the measures garments are cut by."""

    def __init__(self, person: Person) -> None:
        tables = bodies().tables
        vertices, self.joints = bodies().shape(dict(person.phenotypes))
        template = tables["template"].astype(np.float64)
        weights = np.zeros((len(vertices), len(self.joints)))
        shares = tables["bone_weights"].astype(np.float64)
        np.put_along_axis(weights, tables["bone_indices"].astype(int), shares, 1)
        faces = tables["faces"].astype(np.int64)
        cloth = np.concatenate([template, tables["limbs"].astype(np.float64)], axis=1)
        self.mesh = Mesh(vertices, cloth, weights, faces, np.full(len(faces), SKIN))
        self.normals = normals(vertices, faces)
        self.template_joints = tables["template_joints"].astype(np.float64)
        self.scale = self.joints[0, 2] / self.template_joints[0, 2]  # of the legs
        self.arm, self.leg, self.height = cloth[:, 3], cloth[:, 4], cloth[:, 2]
        self.extents = self._extents()

    def joint(self, name: str) -> NDArray:
        return self.joints[bodies().bones.index(name)]

    def level(self, height: float) -> float:
        """Height of this body where the template's is `height`."""
        root, neck = self.template_joints[0, 2], self.template_joints[bodies().bones.index("neck01"), 2]
        if height <= root:
            return height * self.scale
        top = self.joint("neck01")[2]
        return self.joints[0, 2] + (height - root) * (top - self.joints[0, 2]) / (neck - root)

    def _extents(self) -> NDArray:
        """Half-width, reach forwards and backwards f64 [Z, 3] of the trunk at LEVELS."""
        trunk = self.arm < 0
        found = []
        for level in LEVELS:
            near = self.mesh.rest[trunk & (np.abs(self.height - level) < 0.045)]
            found.append([np.abs(near[:, 0]).max(), -near[:, 1].min(), near[:, 1].max()])
        return np.array(found)

    def limb(self, chain: tuple[str, str, str], along: NDArray) -> tuple[NDArray, NDArray]:
        """Nearest points of the limb's axis f64 [V, 3], and which vertices belong to it."""
        axis, mine = np.zeros_like(self.mesh.rest), np.zeros(len(along), bool)
        for side, sign in (("L", 1), ("R", -1)):
            a, b, c = (self.joint(f"{bone}.{side}") for bone in chain)
            here = (along >= 0) & (self.mesh.cloth[:, 0] * sign > 0)
            t = along[here, None] * 2
            axis[here] = np.where(t < 1, a + (b - a) * t, b + (c - b) * (t - 1))
            mine |= here
        return axis, mine


LEVELS = np.arange(0.86, 1.50, 0.04)


def widen(body: Body, points: NDArray, limb: NDArray, axis: NDArray, least: NDArray, share: NDArray) -> NDArray:
    """Points moved away from a limb's axis until they are `least` metres from it, by `share` of the way."""
    away = points - axis
    distance = np.linalg.norm(away, axis=1) + 1e-9
    factor = 1 + share * np.maximum(0, least / distance - 1)
    return np.where(limb[:, None], axis + away * factor[:, None], points)


def top_layer(
    body: Body, material: int, hem: float, sleeve: float, ease: float, neck: float, opened: float
) -> Mesh:
    """A garment for trunk and arms. `hem`: height on the template; `neck`: radius of its opening."""
    t, arm = body.mesh.cloth, body.arm
    shoulder = np.clip((1.53 - t[:, 2]) / 0.12, 0.22, 1)
    points = body.mesh.rest + body.normals * (0.003 + ease * shoulder)[:, None]
    # Cloth hangs from the widest place above, more so the looser it is.
    hang = np.maximum.accumulate(body.extents[::-1], axis=0)[::-1]
    drape = min(1.0, 0.25 + ease * 25)
    ratio = 1 + drape * (hang / body.extents - 1)
    trunk = arm < 0
    for way, column in ((0, np.zeros(len(t), int)), (1, np.where(body.mesh.rest[:, 1] < 0, 1, 2))):
        factor = np.stack([np.interp(t[:, 2], LEVELS, ratio[:, k]) for k in range(3)])[column, np.arange(len(t))]
        factor = np.where(t[:, 2] < 1.36, factor, 1 + (factor - 1) * np.clip((1.46 - t[:, 2]) / 0.1, 0, 1))
        points[trunk, way] *= factor[trunk]
    axis, limb = body.limb(("upperarm01", "lowerarm01", "wrist"), arm)
    least = np.interp(arm, [0, 0.5, 1], [0.044, 0.042, 0.036]) + ease * 0.8
    points = widen(body, points, limb, axis, least, np.clip((arm - 0.12) / 0.25, 0, 1))
    keep = np.minimum(from_neck(body) - neck, 1.585 - t[:, 2])
    keep = np.minimum(keep, t[:, 2] - (hem if hem >= 0.855 else 0.93))
    keep = np.where(arm >= 0, sleeve - arm, keep)
    mesh = replace(body.mesh, rest=points).cut(keep).of(material)
    if hem < 0.855:
        mesh = join([mesh, tube(body, material, 1.0, hem, ease + 0.014, 0.02 + ease)])
    return open_front(mesh, opened)


def from_neck(body: Body) -> NDArray:
    """Distance f64 [V] from the middle of the neck, on the template: necklines are circles of it."""
    x, y, z = body.mesh.cloth[:, :3].T
    return np.sqrt(x**2 + (y + 0.035) ** 2 + ((z - 1.585) / 1.15) ** 2)


def collar(body: Body, material: int, neck: float, height: float) -> Mesh:
    """A band about the neck that stands `height` metres over the neckline, open in front."""
    x, y, z = body.mesh.cloth[:, :3].T
    away = from_neck(body)
    keep = np.minimum(away - (neck - height), neck + 0.02 - away)
    keep = np.where(body.arm < 0, np.minimum(keep, 1.62 - z), -1)
    keep = np.minimum(keep, np.where(y < -0.03, np.abs(x) - 0.006 - 0.25 * np.clip(z - 1.5, 0, 1), 1))
    return replace(body.mesh, rest=body.mesh.rest + body.normals * 0.02).cut(keep).of(material)


def open_front(mesh: Mesh, width: float) -> Mesh:
    if width <= 0:
        return mesh
    x, y, z = mesh.cloth[:, 0], mesh.cloth[:, 1], mesh.cloth[:, 2]
    gap = width * np.clip(0.55 + 0.9 * (z - 1.0) ** 2 + 0.5 * np.clip(0.8 - z, 0, 1), 0.5, 1.5)
    return mesh.cut(np.where((y < -0.02) & (mesh.cloth[:, 3] < 0), np.abs(x) - gap, 0.05))


def tube(
    body: Body, material: int, top: float, hem: float, ease: float, flare: float, waves: float = 0.012
) -> Mesh:
    """A skirt or a coat's tail between two heights of the template, carried by the hips and both legs.

    Its first ring lies closer, under what is worn over it.
    """
    rings, around = 9, 26
    u = np.arange(around) * 2 * np.pi / around
    hang = np.maximum.accumulate(body.extents[::-1], axis=0)[::-1]
    levels = np.linspace(top, hem, rings)
    points, weights = np.zeros((rings, around, 3)), np.zeros((rings, around, body.mesh.weights.shape[1]))
    bones = bodies().bones
    hips = body.extents[:4].max(0)
    for i, level in enumerate(levels):
        size = np.array([np.interp(level, LEVELS, hang[:, k]) for k in range(3)])
        size = np.minimum(size, hips) if top < 1.06 else size
        down = max(0.0, (0.95 - level) / 0.5)
        size = size + ease + flare * down - (0.02 if i == 0 else 0.0)
        ripple = 1 + waves * down * np.sin(5 * u + 1) + 0.6 * waves * down * np.sin(9 * u)
        x, y = np.cos(u) * size[0] * ripple, np.where(np.sin(u) < 0, size[1], size[2]) * np.sin(u) * ripple
        points[i] = np.stack([x, y, np.full(around, body.level(level))], axis=1)
        leg = np.clip((0.96 - level) / 0.30, 0, 0.9)
        left = 0.5 + 0.5 * np.clip(np.cos(u) * 1.6, -1, 1)
        knee = np.clip((0.50 - level) / 0.3, 0, 0.5) * leg
        weights[i, :, bones.index("root")] = 1 - leg
        for side, share in (("L", left), ("R", 1 - left)):
            weights[i, :, bones.index(f"upperleg01.{side}")] = (leg - knee) * share
            weights[i, :, bones.index(f"lowerleg01.{side}")] = knee * share
    flat, faces = grid(points)
    cloth = np.concatenate([flat, np.full((len(flat), 2), -1.0)], axis=1)
    cloth[:, 2] = np.repeat(levels, around)
    return Mesh(flat, cloth, weights.reshape(len(flat), -1), faces, np.full(len(faces), material))


def bottom_layer(body: Body, name: str, top: float) -> Mesh:
    """Trousers or a skirt up to the height `top` of the template; above it something hides them."""
    if name in w.SKIRTS:
        hem, flare = w.SKIRTS[name]
        return tube(body, BOTTOM, min(1.08, top), hem, 0.008, flare, 0.03)
    length, ease, hem = w.BOTTOMS[name]
    t, leg = body.mesh.cloth, body.leg
    points = body.mesh.rest + body.normals * (0.003 + ease * 0.6)
    axis, limb = body.limb(("upperleg01", "lowerleg01", "foot"), leg)
    least = np.interp(leg, [0.1, 0.35, length], [0.07 + ease, max(0.075 + ease, hem * 0.9), hem])
    points = widen(body, points, limb, axis, least, np.clip((leg - 0.12) / 0.2, 0, 1))
    sign = np.where(t[:, 0] < 0, -1, 1)
    points[:, 0] = np.where(limb, sign * np.maximum(points[:, 0] * sign, 0.004), points[:, 0])
    keep = np.where(body.arm >= 0, -1.0, np.where(leg >= 0, length - leg, 1.04 - t[:, 2]))
    keep = np.minimum(keep, top - t[:, 2])
    return replace(body.mesh, rest=points).cut(keep).of(BOTTOM)


def shoes_layer(body: Body, name: str) -> list[Mesh]:
    t = body.mesh.cloth
    rim = {"trainers": 0.088, "shoes": 0.072, "boots": 0.25, "sandals": 0.026}[name]
    low = np.clip((0.09 - t[:, 2]) / 0.06, 0, 1)
    points = body.mesh.rest + body.normals * 0.009
    points[:, 1] -= low * np.where(t[:, 1] < -0.1, 0.018, 0) - low * np.where(t[:, 1] > 0.02, 0.008, 0)
    points[:, 2] = np.where(t[:, 2] < 0.012, -0.012, points[:, 2])
    keep = np.where(body.arm >= 0, -1.0, rim + 0.012 * (t[:, 1] > 0) - t[:, 2])
    return [replace(body.mesh, rest=points).cut(keep).of(SHOES)]


def clothes(body: Body, person: Person) -> list[Mesh]:
    """Skin that shows, and every garment over it."""
    sleeve, hem, ease = w.TOPS[person.top]
    high = person.top in w.COLLARS or person.top == "hoodie"
    neck = 0.068 if high else 0.084 + 0.022 * min(1.0, abs(person.tint[36]))
    whole = person.top in ("dress", "long dress", "robe")
    layers = shoes_layer(body, person.shoes)
    outer = person.top in ("vest", "high-visibility vest", "jacket", "blazer", "coat", "long coat", "down jacket")
    inner = person.opened > 0 or outer
    if inner:
        sleeves = 0.97 if person.top in ("vest", "high-visibility vest") else 0.6
        layers.append(top_layer(body, INNER, 0.91, sleeves, 0.006, 0.085, 0.0))
    if person.bottom in w.SKIRTS and not whole:
        hem = min(hem, 0.83) if outer else max(hem, 0.96)  # over the hips, or ending at the waist
    layers.append(top_layer(body, TOP, hem, sleeve, ease + 0.004 * abs(person.tint[37]), neck, person.opened))
    if person.top in w.COLLARS:
        layers.append(collar(body, TOP, neck, w.COLLARS[person.top]))
    if not whole:
        layers.append(bottom_layer(body, person.bottom, _under(hem, person.opened)))
    return [*skin_that_shows(body, person, sleeve, whole, inner), *layers]


def _under(hem: float, opened: float) -> float:
    """How high on the template a bottom must reach to vanish under a top with this hem."""
    if opened:
        return 0.95  # an inner layer ends at 0.91
    return hem + (0.04 if hem >= 0.855 else 0.12)  # the tail of a coat swings


def skin_that_shows(body: Body, person: Person, sleeve: float, whole: bool, inner: bool) -> list[Mesh]:
    """The body without what surely lies under cloth, which would poke through."""
    arm, leg, z = body.arm, body.leg, body.height
    sleeve = 0.9 if inner and sleeve < 0.3 else sleeve
    skirt = w.TOPS[person.top][1] if whole else w.SKIRTS.get(person.bottom, (2.0,))[0]  # its hem
    length = -1.0 if skirt < 2 else w.BOTTOMS[person.bottom][0]
    rim = {"trainers": 0.06, "shoes": 0.05, "boots": 0.22, "sandals": 0.0}[person.shoes]
    hidden = np.where(arm >= 0, arm < sleeve - 0.06, (z > 0.84) & (z < 1.36) & (leg < 0.1))
    hidden |= (leg >= 0) & (arm < 0) & (leg < length - 0.06)
    hidden |= (leg >= 0) & (z > skirt + 0.06)
    hidden |= (arm < 0) & (z < rim)
    shown = ~hidden[body.mesh.faces].all(1)
    points = body.mesh.rest - body.normals * np.where(hidden, 0.008, 0)[:, None]
    faces = body.mesh.faces[shown]
    centre = body.mesh.cloth[faces].mean(1)
    face = (centre[:, 2] > 1.60) & (centre[:, 1] < -0.06)
    return [Mesh(points, body.mesh.cloth, body.mesh.weights, faces, np.where(face, FACE, SKIN)).compact()]
