"""Triangles with what dressing, skinning and shading need to know of each vertex."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mesh:
    rest: NDArray  # f64 [V, 3] metres, rest pose
    cloth: NDArray  # f64 [V, 5] place on the template body (x, y, z), along the arm, along the leg
    weights: NDArray  # f64 [V, J] share of each bone
    faces: NDArray  # int [F, 3]
    material: NDArray  # int [F]

    def cut(self, keep: NDArray) -> "Mesh":
        """What lies where `keep` f64 [V] is positive; triangles across the border are cut along it."""
        inside = keep > 0
        count = inside[self.faces].sum(1)
        whole = count == 3
        faces, material = [self.faces[whole]], [self.material[whole]]
        made: list[tuple[NDArray, NDArray]] = []
        first_new = len(self.rest)
        for number in (1, 2):
            index = np.flatnonzero(count == number)
            if not len(index):
                continue
            odd = (inside[self.faces[index]] == (number == 1)).argmax(1)  # the corner that stands alone
            corner = [self.faces[index, (odd + k) % 3] for k in range(3)]
            start = first_new + sum(len(pair) for pair, _ in made)
            for k in (1, 2):
                share = keep[corner[0]] / (keep[corner[0]] - keep[corner[k]])
                made.append((np.stack([corner[0], corner[k]], axis=1), share))
            one = np.arange(start, start + len(index))
            two = one + len(index)
            if number == 1:
                faces.append(np.stack([corner[0], one, two], axis=1))
                material.append(self.material[index])
            else:
                faces += [np.stack([one, corner[1], corner[2]], axis=1), np.stack([one, corner[2], two], axis=1)]
                material += [self.material[index]] * 2

        def extended(values: NDArray) -> NDArray:
            new = [values[p[:, 0]] * (1 - s[:, None]) + values[p[:, 1]] * s[:, None] for p, s in made]
            return np.concatenate([values, *new])

        rest, cloth, weights = map(extended, (self.rest, self.cloth, self.weights))
        return Mesh(rest, cloth, weights, np.concatenate(faces), np.concatenate(material)).compact()

    def compact(self) -> "Mesh":
        used, faces = np.unique(self.faces, return_inverse=True)
        return Mesh(self.rest[used], self.cloth[used], self.weights[used], faces.reshape(-1, 3), self.material)

    def of(self, material: int) -> "Mesh":
        return replace(self, material=np.full(len(self.faces), material))


def join(meshes: list[Mesh]) -> Mesh:
    offsets = np.cumsum([0, *(len(mesh.rest) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.rest for mesh in meshes]),
        np.concatenate([mesh.cloth for mesh in meshes]),
        np.concatenate([mesh.weights for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]),
        np.concatenate([mesh.material for mesh in meshes]),
    )


def normals(points: NDArray, faces: NDArray) -> NDArray[np.float64]:
    """Unit normals f64 [V, 3], each face counted by its area."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    total = np.stack(
        [sum(np.bincount(faces[:, k], face[:, axis], len(points)) for k in range(3)) for axis in range(3)], axis=1
    )
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12)


def grid(rings: NDArray) -> tuple[NDArray, NDArray]:
    """Points [R * C, 3] and faces of a tube through closed rings [R, C, 3], counter-clockwise and downwards."""
    r, c = rings.shape[:2]
    i, j = np.meshgrid(np.arange(r - 1), np.arange(c), indexing="ij")
    a, b = (i * c + j).ravel(), (i * c + (j + 1) % c).ravel()
    return rings.reshape(-1, 3), np.concatenate([np.stack([a, a + c, b], 1), np.stack([b, a + c, b + c], 1)])


def blob(size: tuple[float, float, float], roundness: float, around: int = 14) -> tuple[NDArray, NDArray]:
    """A superellipsoid of half-axes `size`: roundness 1 is an ellipsoid, towards 0 a box."""
    u = np.arange(around) * 2 * np.pi / around
    v = np.linspace(0, np.pi, around // 2 + 1)[:, None]
    rings = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v) * np.ones_like(u)], axis=-1)
    return grid(np.sign(rings) * np.abs(rings) ** roundness * np.asarray(size))


def rod(start: NDArray, end: NDArray, radius: float, around: int = 5) -> tuple[NDArray, NDArray]:
    axis = (np.asarray(end) - start) / np.linalg.norm(np.asarray(end) - start)
    side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    other = np.cross(side, axis)
    u = (np.arange(around) * 2 * np.pi / around)[:, None]
    ring = radius * (np.cos(u) * side + np.sin(u) * other)
    return grid(np.stack([start + ring, end + ring]))
