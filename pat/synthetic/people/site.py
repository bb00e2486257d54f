"""A camera over its empty place, ready to have people put into it: the plate, the spots where one can stand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import Failure
from pat.base.files import write_text, written_whole
from pat.synthetic.people.camera import COLUMNS, ROWS, Camera
from pat.synthetic.people.places.kinds import TEST_KINDS, TRAIN_KINDS, blocked, build
from pat.synthetic.people.places.plate import Place, Plate, render_plate
from pat.synthetic.people.view import Light, View
from pat.synthetic.randomness import stream

TALL = 1.72
"""Height in metres of whom spots are tried with."""
SMALLEST, LARGEST = 0.1, 0.62
"""Share of the camera's height that a person may have."""
LEAST_SPOTS = 24
ATTEMPTS = 30
KINDS = {"train": TRAIN_KINDS, "test": TEST_KINDS}
"""Kinds of places by domain."""


@dataclass(frozen=True)
class Site:
    """What crops are made of. H = ROWS, W = COLUMNS.

    `plate` u8 [H, W, 4]: the square root of radiance / `white`, and the share of sunlit ground; `depth` u16 [H, W]
    centimetres; `clear` and `hidden` f32 [N, 2]: spots on the ground where one is seen whole, and in part.
    """

    camera: Camera
    weather: str
    light: Light
    lamps: NDArray[np.float64]
    flow: float
    view: View
    plate: NDArray[np.uint8]
    white: float
    depth: NDArray[np.uint16]
    clear: NDArray[np.float32]
    hidden: NDArray[np.float32]
    exposure: float
    """Factor that brings the place to a good exposure."""
    balance: tuple[float, float, float]
    """Gains that turn the light of the place to grey."""


class Sites:
    """The sites of cameras, each rendered once and kept in a folder, from where every process maps it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[tuple[str, int], Site] = {}

    def get(self, seed: int, domain: str = "train") -> Site:
        """The site of a camera's seed; rendered when it is not in the folder yet (seconds)."""
        key = domain, seed
        if key not in self._open:
            folder = self.folder / f"{domain}-{seed}"
            if not (folder / "site.json").is_file():
                _store(folder, make_site(Camera.sample(seed, KINDS[domain])))
            self._open[key] = _load(folder, seed, domain)
        return self._open[key]


def make_site(camera: Camera) -> Site:
    """Build the camera's place and render it; a place with too little room to stand is built anew."""
    view = camera.view()
    for attempt in range(ATTEMPTS):
        place, weather = _place(camera, attempt)
        spots = _spots(place, view, stream("spots", camera.seed, attempt))
        if len(spots) < LEAST_SPOTS:
            continue
        plate = render_plate(place, view)
        clear, hidden = _sorted(spots, view, plate)
        if len(clear) >= LEAST_SPOTS:
            return _site(camera, place, weather, view, plate, clear, hidden)
    raise Failure(f"camera {camera.seed}: {ATTEMPTS} places of kind {camera.kind} have no room for people")


def _place(camera: Camera, attempt: int) -> tuple[Place, str]:
    return build(camera.kind, stream("place", camera.seed, attempt), camera.weather)


def _site(
    camera: Camera, place: Place, weather: str, view: View, plate: Plate, clear: NDArray, hidden: NDArray
) -> Site:
    level = plate.colour.mean(axis=2)
    typical = float(np.exp(np.log(level + 1e-3).mean()))
    exposure = min(0.22 / typical, 1.4 / float(np.quantile(level, 0.9)))
    white = max(float(np.quantile(plate.colour, 0.998)), 1.1 / exposure)
    coded = np.sqrt(np.clip(plate.colour / white, 0, 1)) * 255 + 0.5
    lamps = place.lamps[:, 3:].mean(axis=0) * 0.05 if len(place.lamps) else 0
    tone = 0.5 * place.light.sun + place.light.sky + lamps
    balance = (float(tone[1] / tone[0]), 1.0, float(tone[1] / tone[2]))
    return Site(
        camera, weather, place.light, place.lamps, place.flow, view,
        np.concatenate([coded, plate.sunlit[..., None] * 255], axis=2).astype(np.uint8),
        white, np.minimum(plate.depth * 100, 65535).astype(np.uint16), clear, hidden, exposure, balance,
    )  # fmt: skip


def _spots(place: Place, view: View, generator: np.random.Generator) -> NDArray[np.float32]:
    """Places on the ground where a person fits into the image, at a size that a detector finds."""
    rows, columns = generator.uniform(0.15, 1.0, 6000) * ROWS, generator.uniform(0.04, 0.96, 6000) * COLUMNS
    ground = np.linalg.inv(view.matrix[:, [0, 1, 3]]) @ np.stack([columns, rows, np.ones(6000)])
    spots = (ground[:2] / ground[2]).T[ground[2] > 0]
    feet = view.project(np.concatenate([spots, np.zeros((len(spots), 1))], axis=1))
    heads = view.project(np.concatenate([spots, np.full((len(spots), 1), TALL)], axis=1))
    tall = feet[:, 1] - heads[:, 1]
    fits = (tall > SMALLEST * ROWS) & (tall < LARGEST * ROWS) & (heads[:, 1] > -0.02 * ROWS)
    fits &= (np.abs(feet[:, 0] - COLUMNS / 2) < COLUMNS / 2 - 0.22 * tall) & (feet[:, 2] > 0)
    spots = spots[fits].astype(np.float32)[:1500]
    return spots[~blocked(place, spots)]


def _sorted(spots: NDArray, view: View, plate: Plate) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spots where one is seen whole, and those where things of the place hide a part."""
    seen = np.zeros(len(spots))
    right = view.matrix[0, :3] - view.matrix[2, :3] * COLUMNS / 2
    right = right / np.linalg.norm(right)
    tries = [(height, side) for height in np.linspace(0.05, TALL, 9) for side in (-0.2, 0.0, 0.2)]
    for height, side in tries:
        points = np.concatenate([spots, np.full((len(spots), 1), height)], axis=1) + side * right
        u, v, depth = view.project(points).T
        inside = (u >= 0) & (u < COLUMNS) & (v >= 0) & (v < ROWS)
        column, row = np.clip(u, 0, COLUMNS - 1).astype(int), np.clip(v, 0, ROWS - 1).astype(int)
        seen += ~inside | (plate.depth[row, column] > depth - 0.1)
    seen /= len(tries)
    return spots[seen > 0.97], spots[(seen > 0.4) & (seen < 0.9)]


def _store(folder: Path, site: Site) -> None:
    for name in ("plate", "depth", "clear", "hidden"):
        with written_whole(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, getattr(site, name))
    attempt = {"weather": site.weather, "white": site.white, "flow": site.flow, "exposure": site.exposure,
               "balance": site.balance, "lamps": site.lamps.tolist(), "light": [
                   np.asarray(part).tolist() for part in
                   (site.light.direction, site.light.sun, site.light.sky, site.light.ground)]}  # fmt: skip
    write_text(folder / "site.json", json.dumps(attempt))


def _load(folder: Path, seed: int, domain: str) -> Site:
    told = json.loads((folder / "site.json").read_text(encoding="utf-8"))
    camera = Camera.sample(seed, KINDS[domain])
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("plate", "depth", "clear", "hidden")
    }
    direction, *colours = told["light"]
    return Site(
        camera=camera,
        weather=told["weather"],
        light=Light(np.array(direction), *(np.array(each, np.float32) for each in colours)),
        lamps=np.array(told["lamps"], np.float64).reshape(-1, 6),
        flow=told["flow"],
        view=camera.view(),
        white=told["white"],
        exposure=told["exposure"],
        balance=tuple(told["balance"]),
        **arrays,
    )
