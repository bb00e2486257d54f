"""How a body stands or walks: a turn of each joint about the axes of the world in the rest pose."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pat.synthetic.people.bodies import bodies

ACTIONS = ("walk", "stand", "turn", "phone", "call", "pockets", "carry", "behind")
ODDS = (0.58, 0.12, 0.05, 0.06, 0.04, 0.07, 0.04, 0.04)


Bones = dict[str, list[tuple[str, float]]]
Turns = tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
"""Bone: (axis, degrees), applied from the last."""


@dataclass(frozen=True)
class Pose:
    action: str
    turns: Turns
    busy: str = ""  # sides of the hands that the action needs: "L", "R", "LR" or none

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Pose":
        action = ACTIONS[int(rng.choice(len(ACTIONS), p=ODDS))]
        moving = action == "walk" or (action in ("phone", "call", "pockets", "carry") and rng.random() < 0.6)
        stride = float(rng.uniform(0.55, 1.15)) if moving else float(rng.uniform(0, 0.15))
        phase = float(rng.uniform(0, 2 * np.pi))
        busy = "" if action not in BUSY else "LR" if action in BOTH_HANDS else "LR"[int(rng.integers(2))]
        return cls(action, _turns(action, busy, phase, stride, rng), busy)

    @classmethod
    def walking(cls, phase: float, stride: float) -> "Pose":
        """A step cycle at `phase` in radians; stride 1 is a brisk walk, 0 stands."""
        return cls("walk", _turns("walk", "", phase, stride, np.random.default_rng(0)))

    def holding(self, side: str, *, raised: bool) -> "Pose":
        """The same pose with one arm hanging straight down, or raised as under an umbrella; the other is busy."""
        other = "R" if side == "L" else "L"
        turns = dict(self.turns)
        if self.busy == side:
            for bone in ("clavicle", "upperarm01", "lowerarm01"):
                turns[f"{bone}.{other}"] = tuple(
                    (axis, degrees if axis == "x" else -degrees) for axis, degrees in turns[f"{bone}.{side}"]
                )
        arm = _arm(side, 1 if side == "L" else -1, *((-22.0, 120.0, 0.0) if raised else (0.0, 8.0, 0.0)), 34.0)
        return Pose(self.action, _with(tuple(turns.items()), arm), other if self.busy else "")

    def reaching(self, joints: NDArray, palms: NDArray) -> "Pose":
        """The same pose with the left and the right palm at two places f64 [2, 3]; no hand is busy.

        Places and joints f64 [J, 3] are of the body at rest. An arm that is too short points to its place.
        """
        number = {name: index for index, name in enumerate(bodies().bones)}
        hanging = {**_arm("L", 1, 0.0, REST_BEND, 0.0, 34.0), **_arm("R", -1, 0.0, REST_BEND, 0.0, 34.0)}
        bones = Pose(self.action, _with(self.turns, hanging)).bones(joints)
        arms: Bones = {}
        for side, sign, palm in zip("LR", (1, -1), palms, strict=True):
            chain = [number[f"{bone}.{side}"] for bone in ("upperarm01", "lowerarm01", "wrist")]
            shoulder, elbow, wrist = (bones[j, :, :3] @ joints[j] + bones[j, :, 3] for j in chain)
            hand = wrist + PALM * (wrist - elbow) / np.linalg.norm(wrist - elbow)
            ways = np.array([elbow - shoulder, hand - elbow, palm - shoulder])
            yaw, forward, bend = _reach(*(ways @ bones[number[f"clavicle.{side}"], :, :3]))
            arms |= _arm(side, sign, forward, REST_BEND + bend, 0.0, 34.0)
            arms[f"upperarm01.{side}"].insert(0, ("z", yaw))
        return Pose(self.action, _with(self.turns, arms))

    @property
    def hands(self) -> str:
        """What the busy hands do: "phone", "parcel" (which takes both), "pocket", or "" for nothing that shows."""
        if not self.busy:
            return ""
        if self.action in ("phone", "call"):
            return "phone"
        if self.action == "carry" and self.busy == "LR":
            return "parcel"
        return "pocket" if self.action == "pockets" else ""

    def bones(self, joints: NDArray) -> NDArray[np.float64]:
        """Transforms f64 [J, 3, 4] of rest points for joints f64 [J, 3]."""
        number = {name: index for index, name in enumerate(bodies().bones)}
        turns = [(number[bone], "xyz".index(axis), degrees) for bone, each in self.turns for axis, degrees in each]
        return _chain(joints, bodies().tables["parents"], np.array(turns, np.float64).reshape(-1, 3))


def _with(turns: Turns, bones: Bones) -> Turns:
    """The turns with those of some bones replaced."""
    return tuple((dict(turns) | {bone: tuple(each) for bone, each in bones.items()}).items())


def _turns(action: str, busy: str, phase: float, stride: float, rng: np.random.Generator) -> Turns:
    """Of all bones; arms and trunk swing against the legs."""
    swing = float(np.sin(phase)) * stride
    pose = _legs(phase, stride) | _arms(action, busy, swing, rng) | _trunk(swing, rng, action)
    return tuple((bone, tuple(turns)) for bone, turns in pose.items())


@njit(cache=True)
def _chain(joints, parents, turns):
    """Bones f64 [J, 3, 4] turned about their joints, each on its parent; turns f64 [K, 3]: bone, axis, degrees."""
    count = joints.shape[0]
    local = np.zeros((count, 3, 3))
    for j in range(count):
        for k in range(3):
            local[j, k, k] = 1.0
    for t in range(turns.shape[0]):
        j, axis, angle = int(turns[t, 0]), int(turns[t, 1]), np.radians(turns[t, 2])
        c, s, p, q = np.cos(angle), np.sin(angle), (axis + 1) % 3, (axis + 2) % 3
        for k in range(3):
            a, b = local[j, k, p], local[j, k, q]
            local[j, k, p], local[j, k, q] = a * c + b * s, b * c - a * s
    out, world = np.zeros((count, 3, 4)), np.zeros((3, 4))
    for k in range(3):
        world[k, k] = 1.0
    for j in range(count):
        above = out[parents[j]] if parents[j] >= 0 else world
        for k in range(3):
            for i in range(3):
                for h in range(3):
                    out[j, k, i] += above[k, h] * local[j, h, i]
            out[j, k, 3] = above[k, 3]
            for h in range(3):  # the joint stays where the parent puts it
                out[j, k, 3] += (above[k, h] - out[j, k, h]) * joints[j, h]
    return out


def _legs(phase: float, stride: float) -> Bones:
    pose: Bones = {}
    for side, sign in (("L", 1), ("R", -1)):
        swing = sign * np.sin(phase)
        lift = max(0.0, sign * np.cos(phase))
        hip = -24 * stride * swing - 5 * stride
        knee = 4 + stride * (8 + 44 * lift)
        pose[f"upperleg01.{side}"] = [("x", hip), ("y", sign * 5.0)]
        pose[f"lowerleg01.{side}"] = [("x", knee)]
        pose[f"foot.{side}"] = [("x", -0.45 * hip - 0.5 * knee)]
    return pose


# Action: swing of the upper arm (forwards below 0), the forearm before the vertical, turn to the middle; degrees.
BUSY = {
    "phone": (8.0, 110.0, 30.0),
    "call": (-72.0, 140.0, 30.0),
    "pockets": (40.0, 70.0, 0.0),
    "carry": (16.0, 90.0, 0.0),
    "behind": (40.0, 40.0, 50.0),
}
BOTH_HANDS = ("pockets", "carry", "behind")
PALM = 0.085
"""Metres from the wrist to the middle of the palm."""
REST_BEND = 49.0  # of the forearm in the rest pose, once the upper arm hangs down


def _arms(action: str, busy: str, swing: float, rng: np.random.Generator) -> Bones:
    pose: Bones = {}
    for side, sign in (("L", 1), ("R", -1)):
        forward, inward = 26 * sign * swing + float(rng.normal(4, 4)), 6.0
        bend = float(rng.uniform(8, 22)) + max(0.0, -forward) * 0.7
        if side in busy:
            forward, bend, inward = BUSY[action]
        pose |= _arm(side, sign, forward, bend, inward, float(rng.normal(34, 2)))
    return pose


def _arm(side: str, sign: int, forward: float, bend: float, inward: float, lower: float) -> Bones:
    """The elbow bends about an axis that lies across the body once the arm hangs, hence the turns by `lower`."""
    return {
        f"clavicle.{side}": [("y", sign * 4.0)],
        f"upperarm01.{side}": [("x", forward), ("y", sign * lower)],
        f"lowerarm01.{side}": [
            ("y", -sign * lower), ("z", -sign * inward), ("x", REST_BEND - bend), ("y", sign * lower),
            ("z", -sign * 10),
        ],
    }


def _reach(upper: NDArray, lower: NDArray, way: NDArray) -> tuple[float, float, float]:
    """Yaw and swing of an arm and bend of its elbow, degrees, that lead a `way` f64 [3] from shoulder to hand.

    `upper` and `lower` f64 [3] are the ways from shoulder to elbow and on to the hand where all three are 0.
    """
    aside = upper[0] + lower[0]  # of the hand; swing and bend leave it as it is
    ahead = -np.sqrt(max(way[0] ** 2 + way[1] ** 2 - aside**2, 0.0))
    yaw = np.arctan2(way[1], way[0]) - np.arctan2(ahead, aside)
    y, z = np.array([upper[1:], lower[1:], (ahead, way[2])]).T
    (a, b, c), (first, second, towards) = np.hypot(y, z), np.arctan2(z, y)
    c = min(c, 0.995 * (a + b))  # an elbow is never quite straight
    swing = towards - first + np.arccos((a * a + c * c - b * b) / (2 * a * c))
    bend = swing - towards + second + np.arccos((b * b + c * c - a * a) / (2 * b * c))
    return float(np.degrees(yaw)), float(np.degrees(swing)), float(np.degrees(bend))


def _trunk(swing: float, rng: np.random.Generator, action: str) -> Bones:
    stoop = float(rng.uniform(-1, 7))
    look = float(rng.normal(0, 14)) + (0 if action != "turn" else float(rng.choice([-1, 1])) * 45)
    return {
        "spine05": [("z", -5 * swing), ("x", stoop * 0.4)],
        "spine03": [("z", 9 * swing + (0 if action != "turn" else 0.3 * look)), ("x", stoop * 0.5)],
        "neck01": [("z", look * 0.5), ("x", 22.0 if action == "phone" else float(rng.normal(3, 5)))],
        "head": [("z", look * 0.5)],
    }
