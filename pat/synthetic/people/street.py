"""People who walk past several cameras, filmed: the same people in each, and who is where in every frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import hypot, pi
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import Failure, UserError
from pat.base.files import write_text, written_whole
from pat.processes import cores
from pat.synthetic.people.camera import COLUMNS, ROWS, Camera
from pat.synthetic.people.composing import background, over, touching
from pat.synthetic.people.crop import NO_SHADOW, facing, sun_matters, sun_share
from pat.synthetic.people.dataset import in_processes
from pat.synthetic.people.developing import GRAIN, Shot, expose
from pat.synthetic.people.figure import Figure, figure
from pat.synthetic.people.person import Person
from pat.synthetic.people.plan import FAMILY, MOST_CAMERAS
from pat.synthetic.people.pose import Pose
from pat.synthetic.people.randomness import stream
from pat.synthetic.people.render import ground_shadow, render
from pat.synthetic.people.shadow import shadow_map
from pat.synthetic.people.site import KINDS, TALL, Site, make_site

TRUTH = "truth.jsonl"
RATE = 10
"""Frames per second."""
GAP = 2.5
"""Seconds between two people who come into the image, on average."""
SMALLEST, LARGEST = 120, 300
"""Pixels of a person's height."""
STEP = 1.42
"""Metres of two steps."""
LEAST_SEEN = 300
"""Pixels at which someone counts as visible."""
TRIES = 60


@dataclass(frozen=True)
class Walk:
    """One person's straight way past one camera: metres, seconds."""

    number: int
    person: Person
    begins: float
    pace: float
    start: tuple[float, float]
    end: tuple[float, float]

    @property
    def ends(self) -> float:
        return self.begins + hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]) / self.pace

    def at(self, time: float) -> Figure:
        """The person at a moment of the way."""
        along = (time - self.begins) / (self.ends - self.begins)
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        phase = 2 * pi * (time - self.begins) * self.pace / STEP + self.number
        place = self.start[0] + along * dx, self.start[1] + along * dy
        pose = Pose.walking(phase, 0.4 + 0.35 * self.pace)
        return figure(self.person, pose, position=place, heading=facing(float(np.arctan2(dy, dx))))


def film_people(
    out: Path,
    *,
    cameras: int = 2,
    people: int = 12,
    look_alikes: bool = False,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write OUT/camera-N.mp4 (ROWS x COLUMNS) of each camera and OUT/truth.jsonl; returns the most frames of one.

    Everyone walks past every camera once, in another order; with `look_alikes` they come in families of FAMILY
    who differ in one attribute. A line of the truth holds camera, frame, person and the visible box
    (x0, y0, x1, y1) in pixels. Raises UserError when OUT exists or a number makes no sense.
    """
    if out.exists():
        raise UserError(f"{out} already exists; give a folder that does not")
    if not 1 <= cameras <= MOST_CAMERAS or people < 1:
        wanted = f"1 to {MOST_CAMERAS} cameras and at least one person"
        raise UserError(f"a street needs {wanted}, not {cameras} and {people}")
    shown = _people(people, look_alikes, seed)
    films = in_processes(partial(_film, out, shown, seed), range(1, cameras + 1), min(workers or cores(), cameras))
    lines: dict[int, list[str]] = {}
    longest = 0
    for number, frames, told in films:
        lines[number] = told
        longest = max(longest, frames)
        progress(len(lines), cameras)
    write_text(out / TRUTH, "".join(line for number in sorted(lines) for line in lines[number]))
    return longest


def _people(count: int, look_alikes: bool, seed: int) -> list[Person]:
    first = int(stream("street people", seed).integers(1 << 30))
    if not look_alikes:
        return [Person.sample(first + number, style="test") for number in range(count)]
    families = (Person.look_alikes(first + begin, FAMILY, style="test") for begin in range(0, count, FAMILY))
    return [person for family in families for person in family][:count]


def _film(out: Path, people: list[Person], seed: int, number: int) -> tuple[int, int, list[str]]:
    """Film one camera; its number, frames, and lines of truth."""
    site, ways = street_site(seed, number)
    walks = walks_past(ways, people, stream("walks", seed, number))
    frames = 1 + round(RATE * max(walk.ends for walk in walks))
    told: list[str] = []
    film = film_camera(site, number, walks, frames, lambda line: told.append(json.dumps(line) + "\n"))
    with written_whole(out / f"camera-{number}.mp4") as temporary:
        _encode(temporary, film)
    return number, frames, told


def street_site(seed: int, number: int) -> tuple[Site, NDArray[np.float64]]:
    """A camera with room to walk past it, and ways f64 [N, 2, 2] from one edge of its image to the other."""
    for attempt in range(TRIES):
        camera = Camera.sample(int(stream("street", seed, number, attempt).integers(1 << 30)), KINDS["test"])
        site = make_site(replace(camera, film=replace(camera.film, detail=1.0)))
        ways = _ways(site, stream("ways", seed, number))
        if site.weather != "night" and len(ways) >= 4:
            return site, ways
    raise Failure(f"no camera of the street {seed} has room for people to walk past it")


def _ways(site: Site, g: np.random.Generator) -> NDArray[np.float64]:
    """Straight ways on free ground on which people have the size asked for."""
    rows = g.uniform(0.35, 1.15, (TRIES, 2)) * ROWS
    edges = np.array([-0.08, 1.08]) * COLUMNS
    ground = np.linalg.inv(site.view.matrix[:, [0, 1, 3]])
    pixels = np.stack([np.broadcast_to(edges, rows.shape), rows, np.ones_like(rows)], axis=-1)
    ends = pixels @ ground.T
    ends = ends[..., :2] / ends[..., 2:]
    along = np.linspace(0.12, 0.88, 24)[:, None]
    good = []
    for start, end in ends:
        points = start + along * (end - start)
        feet, heads = (site.view.project(np.insert(points, 2, up, axis=1)) for up in (0.0, TALL))
        tall = feet[:, 1] - heads[:, 1]
        near = np.linalg.norm(points[:, None] - site.clear[None], axis=2).min(axis=1)
        fits = (feet[:, 2] > 0) & (tall > SMALLEST) & (tall < LARGEST)
        good.append(fits.mean() > 0.95 and (near < 0.5).mean() > 0.8)
    return ends[np.array(good)]


def walks_past(ways: NDArray[np.float64], people: list[Person], g: np.random.Generator) -> list[Walk]:
    """The ways of all people past a camera, in random order."""
    walks = []
    for place, index in enumerate(g.permutation(len(people))):
        start, end = ways[int(g.integers(len(ways)))][:: int(g.choice([-1, 1]))]
        begins = GAP * (place + float(g.uniform(0, 0.6)))
        pace = float(g.uniform(1.0, 1.6))
        ends = (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))
        walks.append(Walk(int(index) + 1, people[index], begins, pace, *ends))
    return walks


def film_camera(
    site: Site, number: int, walks: list[Walk], frames: int, tell: Callable[[dict[str, object]], None]
) -> Iterator[NDArray[np.uint8]]:
    """The frames u8 [ROWS, COLUMNS, 3] of one camera; `tell` gets the truth of every visible person."""
    film = site.camera.film
    gains = site.exposure * 2**film.stops * np.array(site.balance) ** film.adapts * np.array(film.gains)
    shot = Shot(ROWS, (float(gains[0]), float(gains[1]), float(gains[2])), 0.0)
    grain = stream("film", site.camera.seed)
    for frame in range(frames):
        present = [walk for walk in walks if walk.begins <= frame / RATE <= walk.ends]
        light, owner = scene(site, [walk.at(frame / RATE) for walk in present])
        for index, walk in enumerate(present):
            rows, columns = np.nonzero(owner == index + 1)
            if len(rows) >= LEAST_SEEN:
                box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
                tell({"camera": f"camera-{number}", "frame": frame, "person": walk.number, "box": box})
        yield expose(light, film, shot, (ROWS, COLUMNS), grain.integers(GRAIN, size=2))


def scene(site: Site, figures: list[Figure]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The light of a frame f32 [H, W, 3], and whose figure is seen at each pixel u8 [H, W], from 1."""
    colour, depth = np.empty((ROWS, COLUMNS, 3), np.float32), np.empty((ROWS, COLUMNS), np.float32)
    shadows = shadow_map(figures, site.light) if figures and sun_matters(site.light) else NO_SHADOW
    shadow = ground_shadow(figures, site.view, site.light, shadow=shadows)
    feet = np.concatenate([np.zeros((0, 2), np.float32), *(touching(each.vertices) for each in figures)])
    whole = np.array([0.0, 0.0, COLUMNS, ROWS])
    rays = np.linalg.inv(site.view.matrix[:, :3])
    share = sun_share(site)
    background(site.plate, site.depth, site.white, whole, rays, site.view.eye, shadow, share, feet, colour, depth)
    layer = render(figures, site.view, site.light, shadow=shadows)
    seen = np.full(depth.shape, 2, np.uint8)
    nobody = np.zeros(depth.shape, np.float32)
    over(colour, depth, layer.colour, layer.alpha, layer.depth, nobody, nobody, True, seen)
    return colour, np.where(seen == 1, layer.owner, 0).astype(np.uint8)


def _encode(path: Path, frames: Iterator[NDArray[np.uint8]]) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        video = container.add_stream(codec, rate=RATE)
        assert isinstance(video, av.VideoStream)
        video.height, video.width, video.pix_fmt = ROWS, COLUMNS, "yuv420p"
        if codec == "mpeg4":
            video.codec_context.bit_rate = 4_000_000
        for pixels in frames:
            for packet in video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
