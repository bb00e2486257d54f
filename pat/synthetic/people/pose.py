"""How a body stands or walks: a turn of each joint about the axes of the world in the rest pose."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people.bodies import bodies

ACTIONS = ("walk", "stand", "turn", "phone", "call", "pockets", "carry", "behind")
ODDS = (0.58, 0.12, 0.05, 0.06, 0.04, 0.07, 0.04, 0.04)


@dataclass(frozen=True)
class Pose:
    action: str
    turns: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]  # bone: (axis, degrees), applied from the last

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Pose":
        action = ACTIONS[int(rng.choice(len(ACTIONS), p=ODDS))]
        moving = action == "walk" or (action in ("phone", "call", "pockets", "carry") and rng.random() < 0.6)
        stride = float(rng.uniform(0.55, 1.15)) if moving else float(rng.uniform(0, 0.15))
        legs = _legs(float(rng.uniform(0, 2 * np.pi)), stride)
        pose = legs | _arms(action, legs["_swing"][0][1], rng) | _trunk(legs["_swing"][0][1], rng, action)
        pose.pop("_swing")
        return cls(action, tuple((bone, tuple(turns)) for bone, turns in pose.items()))

    @classmethod
    def walking(cls, phase: float, stride: float) -> "Pose":
        """A step cycle at `phase` in radians; stride 1 is a brisk walk, 0 stands."""
        rng = np.random.default_rng(0)
        legs = _legs(phase, stride)
        pose = legs | _arms("walk", legs["_swing"][0][1], rng) | _trunk(legs["_swing"][0][1], rng, "walk")
        pose.pop("_swing")
        return cls("walk", tuple((bone, tuple(turns)) for bone, turns in pose.items()))

    def holding(self, side: str, *, raised: bool) -> "Pose":
        """The same pose with one arm hanging straight down, or raised as under an umbrella."""
        sign = 1 if side == "L" else -1
        upper, lower = ((-20.0, 36.0), -95.0) if raised else ((2.0, 36.0), 16.0)
        turns = dict(self.turns)
        turns[f"upperarm01.{side}"] = (("x", upper[0]), ("y", sign * upper[1]))
        turns[f"lowerarm01.{side}"] = (("x", lower), ("y", sign * 8.0), ("z", -sign * 6.0))
        return Pose(self.action, tuple(turns.items()))

    def bones(self, joints: NDArray) -> NDArray[np.float64]:
        """Transforms f64 [J, 3, 4] of rest points for joints f64 [J, 3]."""
        body = bodies()
        turns = dict(self.turns)
        out = np.zeros((len(joints), 3, 4))
        for j, (name, parent) in enumerate(zip(body.bones, body.tables["parents"], strict=True)):
            local = np.eye(3)
            for axis, degrees in turns.get(name, ()):
                local = local @ _turn(axis, degrees)
            shift = joints[j] - local @ joints[j]
            above = out[parent] if parent >= 0 else np.eye(3, 4)
            out[j, :, :3] = above[:, :3] @ local
            out[j, :, 3] = above[:, :3] @ shift + above[:, 3]
        return out


Turns = dict[str, list[tuple[str, float]]]


def _turn(axis: str, degrees: float) -> NDArray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _legs(phase: float, stride: float) -> Turns:
    pose: Turns = {"_swing": [("x", float(np.sin(phase)) * stride)]}
    for side, sign in (("L", 1), ("R", -1)):
        swing = sign * np.sin(phase)
        lift = max(0.0, sign * np.cos(phase))
        hip = -24 * stride * swing - 5 * stride
        knee = 4 + stride * (8 + 44 * lift)
        pose[f"upperleg01.{side}"] = [("x", hip), ("y", sign * 5.0)]
        pose[f"lowerleg01.{side}"] = [("x", knee)]
        pose[f"foot.{side}"] = [("x", -0.45 * hip - 0.5 * knee)]
    return pose


def _arms(action: str, swing: float, rng: np.random.Generator) -> Turns:
    pose: Turns = {}
    busy = "LR"[int(rng.integers(2))]
    for side, sign in (("L", 1), ("R", -1)):
        forward = 26 * sign * swing + rng.normal(4, 4)
        lower, inward = 38 + rng.normal(0, 2), 10.0
        elbow = -(2 + rng.uniform(0, 10) + max(0.0, -forward) * 0.7)
        both = action in ("pockets", "behind", "carry")
        if action == "phone" and side == busy:
            forward, elbow, inward = -14.0, -72.0, 26.0
        elif action == "call" and side == busy:
            forward, elbow, lower, inward = -38.0, -112.0, 24.0, 4.0
        elif both and (action != "pockets" or rng.random() < 0.8):
            forward, elbow, lower, inward = {
                "pockets": (20.0, -26.0, 34.0, 18.0),
                "behind": (34.0, -22.0, 36.0, 44.0),
                "carry": (-16.0, -58.0, 37.0, 24.0),
            }[action]
        pose[f"clavicle.{side}"] = [("y", sign * 4.0)]
        pose[f"upperarm01.{side}"] = [("x", forward + 6), ("y", sign * (lower - 4))]
        pose[f"lowerarm01.{side}"] = [("x", elbow + 20), ("y", sign * 8.0), ("z", -sign * inward)]
    return pose


def _trunk(swing: float, rng: np.random.Generator, action: str) -> Turns:
    stoop = float(rng.uniform(-1, 7))
    look = float(rng.normal(0, 14)) + (0 if action != "turn" else float(rng.choice([-1, 1])) * 45)
    return {
        "spine05": [("z", -5 * swing), ("x", stoop * 0.4)],
        "spine03": [("z", 9 * swing + (0 if action != "turn" else 0.3 * look)), ("x", stoop * 0.5)],
        "neck01": [("z", look * 0.5), ("x", 22.0 if action == "phone" else float(rng.normal(3, 5)))],
        "head": [("z", look * 0.5)],
    }
