"""Hair, hoods, hats, glasses, bags, what hands hold and what people push: simple solids on a bone."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pat.synthetic.people import dress, trolley
from pat.synthetic.people.bodies import bodies
from pat.synthetic.people.dress import Body
from pat.synthetic.people.mesh import Mesh, blob, grid, rod
from pat.synthetic.people.person import Person

Solid = tuple[NDArray, NDArray]
HERE = (0.0, 0.0, 0.0)
"""Where a solid is whose points are given in place."""


def _solid(
    body: Body, solid: Solid, at: ArrayLike, material: int, bones: str | dict[str, float | NDArray]
) -> Mesh:
    """A solid moved to `at` and carried by a bone, or by several with their shares, or by none."""
    points, faces = solid
    points = points + np.asarray(at)
    weights = np.zeros((len(points), len(body.joints)))
    for bone, share in ({bones: 1.0} if isinstance(bones, str) else bones).items():
        weights[:, bodies().bones.index(bone)] = share
    cloth = np.concatenate([points, np.full((len(points), 2), -1.0)], axis=1)
    return Mesh(points, cloth, weights, faces, np.full(len(faces), material))


def _scalp(body: Body, thickness: float, keep: NDArray, material: int) -> Mesh:
    """A copy of the head, `thickness` metres out, where `keep` is positive."""
    mesh = body.mesh
    rim = np.clip(keep / 0.03, 0.25, 1)
    ripple = 1 + 0.25 * np.sin(mesh.cloth[:, 0] * 110 + mesh.cloth[:, 2] * 60)
    moved = mesh.rest + body.normals * (thickness * rim * ripple)[:, None]
    return Mesh(moved, mesh.cloth, mesh.weights, mesh.faces, mesh.material).cut(keep).of(material)


def head_centre(body: Body) -> NDArray:
    head = body.mesh.rest[(body.height > 1.70) & (body.arm < 0)]
    return (head.min(0) + head.max(0)) / 2


def hair(body: Body, person: Person) -> list[Mesh]:
    y, z = body.mesh.cloth[:, 1:3].T
    high = np.where((body.arm < 0) & (z > 1.58), 1.0, -1.0)
    line = np.interp(y, [-0.15, -0.10, -0.06, -0.03, 0.02], [1.790, 1.784, 1.748, 1.685, 1.620])
    keep = np.where(high > 0, z - line - 0.008 * np.tanh(person.tint[38]), -1)
    keep = np.where(high > 0, np.minimum(keep, z - 1.60), keep)
    style = person.hair
    out: list[Mesh] = []
    if style in ("bald", "covered") or person.hood == "up":
        return out
    thickness = {"cropped": 0.005, "short": 0.016, "medium": 0.022, "long": 0.018, "afro": 0.065}.get(style, 0.010)
    thickness = min(thickness, 0.012) if person.hat != "none" else thickness
    out.append(_scalp(body, thickness, keep, dress.HAIR))
    centre = head_centre(body)
    half = np.ptp(body.mesh.rest[(body.height > 1.70) & (body.arm < 0)][:, 0]) / 2
    if style in ("medium", "long"):
        length = 0.17 if style == "medium" else 0.30 + 0.06 * np.tanh(person.tint[39])
        out.append(_curtain(body, centre, half + 0.012, length, person.tint[39]))
    if style == "tied":
        tail = blob((0.028, 0.026, 0.11), 1.0, 10)
        share = np.clip((tail[0][:, 2] + 0.11) / 0.22, 0.3, 1)
        at = centre + np.array([0, 0.115, -0.10])
        out.append(_solid(body, tail, at, dress.HAIR, {"head": share, "spine01": 1 - share}))
    if style == "bun":
        knot = blob((0.042, 0.038, 0.040), 1.0, 10)
        out.append(_solid(body, knot, centre + np.array([0, 0.10, 0.05]), dress.HAIR, "head"))
    return out


def _curtain(body: Body, centre: NDArray, half: float, length: float, wave: float) -> Mesh:
    """Hair that falls from the temples round the back of the head."""
    u = np.linspace(np.radians(-22), np.radians(202), 18)  # from one temple over the nape to the other
    rings = []
    steps = np.linspace(0, 1, 7)
    for step in steps:
        wide = half * (1.0 + 0.10 * np.sin(step * 3 + wave)) * (1 - 0.10 * step)
        deep = 0.112 * (1 - 0.12 * step)
        down = np.full(len(u), 0.035 - step * (length + 0.05))
        rings.append(np.stack([np.cos(u) * wide, np.sin(u) * deep - 0.012, down], 1))
    points, faces = grid(np.array(rings))
    seam = (faces % len(u) == len(u) - 1).any(1) & (faces % len(u) == 0).any(1)
    share = np.repeat(np.clip(1.2 - steps * length / 0.22, 0.15, 1), len(u))
    return _solid(body, (points, faces[~seam]), centre, dress.HAIR, {"head": share, "spine01": 1 - share})


def headwear(body: Body, person: Person) -> list[Mesh]:
    x, y, z = body.mesh.cloth[:, :3].T
    head = (body.arm < 0) & (z > 1.50)
    centre = head_centre(body)
    out: list[Mesh] = []
    if person.hat == "headscarf" or person.hood == "up":
        material, thickness = (dress.HAT, 0.016) if person.hat == "headscarf" else (dress.TOP, 0.026)
        oval = ((x / 0.062) ** 2 + ((z - 1.69) / 0.088) ** 2) - 1
        keep = np.where(head, np.where(y < -0.06, oval * 0.05, 0.05), -1)
        out.append(_scalp(body, thickness, np.minimum(keep, (z - 1.50) * 1.0), material))
        at = body.joint("neck01") + np.array([0, -0.01, 0.0])
        out.append(_solid(body, blob((0.125, 0.115, 0.10), 0.9), at, material, {"spine01": 0.5, "neck01": 0.5}))
    elif person.hat in ("cap", "beanie", "brimmed hat"):
        line = 1.765 if person.hat != "beanie" else 1.755
        out.append(_scalp(body, 0.030, np.where(head, z - line + 0.2 * (y + 0.05), -1), dress.HAT))
        if person.hat == "cap":
            peak = blob((0.075, 0.075, 0.007), 1.0, 12)
            out.append(_solid(body, peak, centre + np.array([0, -0.135, 0.030]), dress.HAT, "head"))
        if person.hat == "brimmed hat":
            brim = blob((0.165, 0.175, 0.010), 1.0, 16)
            out.append(_solid(body, brim, centre + np.array([0, 0, 0.035]), dress.HAT, "head"))
    if person.hood == "down":
        fold = blob((0.118, 0.062, 0.088), 0.9, 12)
        behind = body.joint("neck01") + np.array([0, 0.082, -0.05])
        out.append(_solid(body, fold, behind, dress.TOP, "spine01"))
    if person.glasses != "none":
        away = np.abs(body.height - 1.722)  # from the height of the eyes
        front = body.mesh.rest[(away < 0.02) & (np.abs(x) < 0.05)][:, 1].min()
        z_eye = body.mesh.rest[(away < 0.015) & (np.abs(x) < 0.06) & (y < -0.1)][:, 2].mean()
        lens = blob((0.026, 0.006, 0.010 if person.glasses == "glasses" else 0.018), 0.7, 8)
        for sign in (-1, 1):
            out.append(_solid(body, lens, [sign * 0.031, front + 0.012, z_eye], dress.ACCESSORY, "head"))
    return out


def bags(body: Body, person: Person) -> list[Mesh]:
    r = np.abs(np.array(person.tint[28:32]))
    r = np.minimum(r, 1.5) / 1.5
    out: list[Mesh] = []
    if person.bag == "backpack":
        back = body.extents[np.abs(dress.LEVELS - 1.26).argmin(), 2] + 0.02
        size = (0.13 + 0.04 * r[0], 0.07 + 0.06 * r[1], 0.19 + 0.07 * r[2])
        at = np.array([0, back + size[1] * 0.9, body.level(1.27)])
        spine: dict[str, float | NDArray] = {"spine03": 0.5, "spine01": 0.5}
        out.append(_solid(body, blob(size, 0.5), at, dress.BAG, spine))
        pocket = blob((size[0] * 0.75, 0.03, size[2] * 0.4), 0.5, 10)
        out.append(_solid(body, pocket, at + np.array([0, size[1], -size[2] * 0.4]), dress.BAG, spine))
    elif person.bag == "shoulder bag":
        wide = body.extents[2:4, 0].max() + 0.05
        size = (0.05, 0.12 + 0.06 * r[0], 0.09 + 0.07 * r[1])
        out.append(_solid(body, blob(size, 0.45), [-wide, 0.02, body.level(0.93)], dress.BAG, "root"))
    elif person.bag in ("handbag", "carrier bag"):
        wrist, elbow = body.joint("wrist.R"), body.joint("lowerarm01.R")
        down = (wrist - elbow) / np.linalg.norm(wrist - elbow)
        across = np.array([0, 1.0, 0]) - down * down[1]
        across /= np.linalg.norm(across)
        deep, tall = (
            (0.14 + 0.05 * r[0], 0.10 + 0.05 * r[1]) if person.bag == "handbag" else (0.15, 0.20 + 0.04 * r[1])
        )
        points, faces = blob((0.055, deep, tall), 0.4)
        points = points @ np.stack([np.cross(across, -down), across, -down])
        out.append(_solid(body, (points, faces), wrist + down * (tall + 0.17), dress.BAG, "wrist.R"))
    elif person.bag == "suitcase":
        at = np.array([-0.36, 0.38, 0.33])
        case = blob((0.11, 0.18 + 0.04 * r[0], 0.27 + 0.05 * r[1]), 0.3)
        handle = rod(at + np.array([0, -0.1, 0.25]), np.array([-0.30, 0.05, 0.80]), 0.012)
        out.append(_solid(body, case, at, dress.BAG, "root"))
        out.append(_solid(body, handle, HERE, dress.VEHICLE, "root"))
    return out


def held(body: Body, hands: str, side: str) -> list[Mesh]:
    """What a pose's busy hands hold: a phone in the hand of a `side`, or a parcel before the belly."""
    if hands == "phone":
        hand = body.mesh.rest[(body.arm > 1.1) & ((body.mesh.cloth[:, 0] > 0) == (side == "L"))]
        middle, wrist = hand.mean(0), body.joint(f"wrist.{side}")
        along, across, _ = np.linalg.svd(hand - middle, full_matrices=False)[2]
        along = along * np.sign(along @ (middle - wrist))
        flat = np.cross(along, across)
        flat = flat * -np.sign(flat[0] * middle[0])  # the palm looks inwards
        points, faces = blob((0.038, 0.006, 0.078), 0.3, 8)
        points = points @ np.stack([np.cross(flat, along), flat, along])
        return [_solid(body, (points, faces), middle + 0.022 * flat, dress.ACCESSORY, f"wrist.{side}")]
    if hands == "parcel":
        size = (0.17, 0.12, 0.11)
        front = body.extents[np.abs(dress.LEVELS - 1.10).argmin(), 1] + 0.05
        at = np.array([0, -front - size[1], body.level(1.11)])
        return [_solid(body, blob(size, 0.12, 8), at, dress.PARCEL, "spine03")]
    return []


def vehicles(body: Body, person: Person) -> list[Mesh]:
    """What is pushed or held up: carried by the hips, which no pose turns, so that it stays upright.

    No bone carries a trolley: it stands on the ground, which the hips are nearer to in some poses.
    """
    out: list[Mesh] = []
    if person.bag == "bicycle":
        side = -0.48
        a, b = np.array([side, 0.52, 0.34]), np.array([side, -0.52, 0.34])
        seat, bar, crank = np.array([[side, 0.22, 0.88], [side, -0.38, 0.92], [side, 0.10, 0.30]])
        pairs = ((a, crank), (a, seat), (crank, seat), (crank, bar), (seat, bar), (bar, b))
        solids = [rod(p, q, 0.018) for p, q in pairs]
        solids += [rod(bar + np.array([-0.26, 0, 0.08]), bar + np.array([0.26, 0, 0.08]), 0.014)]
        solids += [_wheel(centre, 0.33) for centre in (a, b)]
        out += [_solid(body, solid, HERE, dress.VEHICLE, "root") for solid in solids]
        saddle = blob((0.07, 0.13, 0.03), 0.8, 8)
        out.append(_solid(body, saddle, seat + np.array([0, 0, 0.05]), dress.VEHICLE, "root"))
    if person.trolley:
        out += [_solid(body, solid, HERE, material, {}) for material, solid in trolley.solids(body)]
    if person.umbrella:
        top = body.mesh.rest[:, 2].max() + 0.28
        u = np.arange(16) * 2 * np.pi / 16
        rings = [
            np.stack([np.cos(u) * q * 0.52, np.sin(u) * q * 0.52 - 0.05, np.full(16, top - 0.26 * q * q)], 1)
            for q in (0.02, 0.35, 0.7, 1.0)
        ]
        stick = rod(np.array([-0.18, -0.05, 1.0]), np.array([-0.18, -0.05, top]), 0.010)
        out.append(_solid(body, grid(np.array(rings)), [-0.18, 0, 0], dress.UMBRELLA, "root"))
        out.append(_solid(body, stick, HERE, dress.VEHICLE, "root"))
    return out


def _wheel(centre: NDArray, radius: float) -> Solid:
    around = np.arange(20) * 2 * np.pi / 20
    ring = np.stack([np.zeros(20), np.cos(around), np.sin(around)], axis=1)
    section = [(radius - 0.02, -0.014), (radius, 0.0), (radius - 0.02, 0.014)]
    return grid(np.array([centre + ring * r + [x, 0, 0] for r, x in section]))
