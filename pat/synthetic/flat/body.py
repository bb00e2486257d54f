"""The skeleton of a walking person: joints in three dimensions, seen from any side.

Lengths are in person heights. x points to the person's left, y down from the crown, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from pat.synthetic.flat.canvas import Point

Joint = tuple[float, float, float]
Limb = tuple[Joint, Joint, Joint]

VIEWS: dict[str, float] = {"front": 0.0, "right": pi / 2, "back": pi, "left": -pi / 2}
"""Angle by which a person is turned away from the camera; a view is named after the side that it shows."""


@dataclass(frozen=True)
class Pose:
    """How a person stands in front of the camera; angles in radians."""

    yaw: float
    head_yaw: float
    elevation: float  # of the camera above the person
    phase: float  # of the stride
    stride: float  # largest angle of a thigh; near 0 is standing
    swing: float  # largest angle of an upper arm
    elbows: tuple[float, float]  # bend of the left and the right one

    @staticmethod
    def drawn(generator: np.random.Generator, view: str, elevation: float) -> Pose:
        """A random pose in the given view: walking, standing, at times with a hand raised."""
        yaw = VIEWS[view] + float(np.clip(generator.normal(0, 0.22), -0.5, 0.5))
        walking = generator.random() < 0.82
        elbows = generator.uniform(0.15, 0.6, 2)
        if generator.random() < 0.12:
            elbows[int(generator.integers(2))] = generator.uniform(1.6, 2.1)
        return Pose(
            yaw=yaw,
            head_yaw=yaw + float(generator.normal(0, 0.3)),
            elevation=elevation,
            phase=float(generator.uniform(0, 2 * pi)),
            stride=float(generator.uniform(0.3, 0.55) if walking else generator.uniform(0, 0.08)),
            swing=float(generator.uniform(0.2, 0.55) if walking else generator.uniform(0, 0.12)),
            elbows=(float(elbows[0]), float(elbows[1])),
        )


@dataclass(frozen=True)
class Body:
    """The joints of one person in one pose; `left` and `right` hold hip or shoulder first."""

    pose: Pose
    width: float
    left_leg: Limb  # hip, knee, ankle
    right_leg: Limb
    left_arm: Limb  # shoulder, elbow, wrist
    right_arm: Limb
    drop: float  # how far the trunk sinks because the legs are spread
    head: float  # size of the head relative to the average; it varies less than the height

    @staticmethod
    def of(pose: Pose, height: float, width: float) -> Body:
        """Limbs for a build; the lower foot stands on the ground at y = 1."""
        legs = [_leg(side, pose.phase + offset, pose.stride, width) for side, offset in ((1, 0), (-1, pi))]
        drop = 0.965 - max(leg[2][1] for leg in legs)
        arms = [
            _arm(side, pose.swing * sin(pose.phase + offset), bend, width)
            for side, offset, bend in ((1, pi, pose.elbows[0]), (-1, 0, pose.elbows[1]))
        ]
        left_leg, right_leg, left_arm, right_arm = (_lowered(limb, drop) for limb in (*legs, *arms))
        return Body(pose, width, left_leg, right_leg, left_arm, right_arm, drop, head=height**-0.8)

    def trunk(self, y: float, x: float = 0.0, z: float = 0.0) -> Joint:
        """A point of the upper body, given as if the person stood upright."""
        return x, y + self.drop, z

    def seen(self, joint: Joint) -> Point:
        """Where the camera sees the joint."""
        x, y, _ = joint
        across = x * cos(self.pose.yaw) + joint[2] * sin(self.pose.yaw)
        return across, y + self.depth(joint) * sin(self.pose.elevation)

    def depth(self, joint: Joint) -> float:
        """How far the joint is in front of the body's axis, towards the camera."""
        return joint[2] * cos(self.pose.yaw) - joint[0] * sin(self.pose.yaw)

    def reach(self) -> float:
        """Half of the width that the person takes up on the image."""
        joints = (*self.left_leg, *self.right_leg, *self.left_arm, *self.right_arm)
        return max(abs(self.seen(joint)[0]) for joint in joints) + 0.05

    def breadth(self, front: float, side: float) -> float:
        """Half width on the image of something with these half widths from the front and from the side."""
        across = front * self.width * cos(self.pose.yaw)
        return float(np.hypot(across, side * (0.5 + 0.5 * self.width) * sin(self.pose.yaw)))


def _leg(side: int, phase: float, stride: float, width: float) -> Limb:
    angle = stride * sin(phase) + 0.06
    bend = 0.08 + 1.7 * stride * max(0.0, cos(phase))  # a leg that swings forward leaves the ground
    x = side * 0.054 * width
    knee = (x, 0.5 + 0.235 * cos(angle), 0.235 * sin(angle))
    ankle = (x * 0.85, knee[1] + 0.225 * cos(angle - bend), knee[2] + 0.225 * sin(angle - bend))
    return (x, 0.5, 0.0), knee, ankle


def _arm(side: int, angle: float, bend: float, width: float) -> Limb:
    x = side * 0.093 * width
    elbow = (x + side * 0.022, 0.198 + 0.152 * cos(angle), 0.158 * sin(angle))
    lower = angle + bend
    wrist = (x + side * 0.02, elbow[1] + 0.135 * cos(lower), elbow[2] + 0.135 * sin(lower))
    return (x, 0.198, 0.0), elbow, wrist


def _lowered(limb: Limb, drop: float) -> Limb:
    (a, b, c), (d, e, f), (g, h, i) = limb
    return (a, b + drop, c), (d, e + drop, f), (g, h + drop, i)
