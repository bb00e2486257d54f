"""People who walk past several cameras, filmed: the same people in each, and who is where in every frame."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain, cycle
from math import hypot, pi
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import Failure, UserError
from pat.base.files import folder_written_whole
from pat.synthetic.people.camera import COLUMNS, ROWS, Camera
from pat.synthetic.people.composing import background, over, touching
from pat.synthetic.people.crop import NO_SHADOW, facing, sun_matters, sun_share
from pat.synthetic.people.developing import GRAIN, Shot, expose
from pat.synthetic.people.figure import Figure, figure
from pat.synthetic.people.person import Person
from pat.synthetic.people.plan import FAMILY, MOST_CAMERAS
from pat.synthetic.people.pose import Pose
from pat.synthetic.people.render import ground_shadow, render
from pat.synthetic.people.shadow import shadow_map
from pat.synthetic.people.site import KINDS, TALL, Site, make_site
from pat.synthetic.randomness import stream
from pat.synthetic.sharing import checked_workers, in_processes

TRUTH = "truth.jsonl"
RATE = 10
"""Frames per second, unless another rate is asked for."""
GAP = 2.5
"""Seconds between two people who come into the image, on average."""
LONGEST = 15.0
"""Seconds of the longest way past a camera."""
QUIET = 2.5
"""Seconds before and after people that are filmed, so that their tracks end: longer ones without anybody are left
out of the video, whose time stamps go on."""
SMALLEST, LARGEST = 120, 300
"""Pixels of a person's height."""
STEP = 1.42
"""Metres of two steps."""
LEAST_SEEN = 300
"""Pixels at which someone counts as visible."""
TRIES = 60


@dataclass(frozen=True)
class Visit:
    """A person, numbered from 1, and the second at which the way past a camera begins."""

    number: int
    begins: float


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
    look_alikes: float = 0.0,
    returns: Sequence[float] = (),
    rate: int = RATE,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write OUT/camera-N.mp4 (ROWS x COLUMNS) of each camera and OUT/truth.jsonl; returns the most frames of one.

    Everyone walks past every camera once, in another order; `look_alikes` is the share of the people who come in
    families of FAMILY that differ in one attribute. With `returns` everyone comes back to one of the cameras, the
    first after returns[0] seconds out of sight (and up to LONGEST more), the next after returns[1], and so on
    around. A line of the truth holds camera, frame of the video, time in seconds since the street began, person,
    and visible box (x0, y0, x1, y1) in pixels. `rate` is in frames per second. OUT appears when all is filmed.
    Raises UserError when OUT exists or a number makes no sense.
    """
    if out.exists():
        raise UserError(f"{out} already exists; give a folder that does not")
    if not 1 <= cameras <= MOST_CAMERAS or people < 1:
        wanted = f"1 to {MOST_CAMERAS} cameras and at least one person"
        raise UserError(f"a street needs {wanted}, not {cameras} and {people}")
    if rate < 1:
        raise UserError(f"a video has at least 1 frame per second, not {rate}")
    if not 0 <= look_alikes <= 1:
        raise UserError(f"look-alikes must be 0 to 1, a share of the people, not {look_alikes:g}")
    if seed < 0:
        raise UserError(f"the seed is {seed}; it must be 0 or more")
    if not all(0 < wait < math.inf for wait in returns):
        raise UserError(f"people return after seconds above 0, not {' '.join(f'{wait:g}' for wait in returns)}")
    shown = street_people(people, look_alikes, seed)
    plan = visits(cameras, people, returns, stream("visits", seed))
    lines: dict[int, list[str]] = {}
    longest = 0
    with folder_written_whole(out) as draft:
        film = partial(_film, draft, shown, seed, rate)
        for number, frames, told in in_processes(film, enumerate(plan, 1), min(checked_workers(workers), cameras)):
            lines[number] = told
            longest = max(longest, frames)
            progress(len(lines), cameras)
        truth = "".join(line for number in sorted(lines) for line in lines[number])
        (draft / TRUTH).write_text(truth, encoding="utf-8")
    return longest


def street_people(count: int, look_alikes: float, seed: int) -> list[Person]:
    """The people of a street; the families come first."""
    first = int(stream("street people", seed).integers(1 << 30))
    alike = min(FAMILY * math.ceil(round(look_alikes * count, 6) / FAMILY), count)
    families = (Person.look_alikes(first + begin, FAMILY, style="test") for begin in range(0, alike, FAMILY))
    people = [person for family in families for person in family][:alike]
    return people + [Person.sample(first + number, style="test") for number in range(alike, count)]


def visits(cameras: int, people: int, returns: Sequence[float], g: np.random.Generator) -> list[list[Visit]]:
    """Who passes each camera when."""
    plan: list[list[Visit]] = []
    for _ in range(cameras):
        order = g.permutation(people)
        plan.append([Visit(int(n) + 1, GAP * (place + float(g.uniform(0, 0.6)))) for place, n in enumerate(order)])
    if returns:
        last = {visit.number: 0.0 for visit in plan[0]}
        for visit in chain(*plan):
            last[visit.number] = max(last[visit.number], visit.begins)
        for number, wait in zip(last, cycle(returns), strict=False):
            plan[int(g.integers(cameras))].append(Visit(number, last[number] + LONGEST + wait))
    return plan


def _film(
    out: Path, people: list[Person], seed: int, rate: int, job: tuple[int, list[Visit]]
) -> tuple[int, int, list[str]]:
    """Film one camera; its number, frames, and lines of truth."""
    number, visits = job
    site, ways = street_site(seed, number)
    walks = walks_past(ways, people, visits, stream("walks", seed, number))
    ticks = filmed(walks, rate)
    told: list[str] = []
    times = [tick / rate for tick in ticks]
    film = film_camera(site, number, walks, times, lambda line: told.append(json.dumps(line) + "\n"))
    _encode(out / f"camera-{number}.mp4", film, ticks, rate)
    return number, len(ticks), told


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


def walks_past(
    ways: NDArray[np.float64], people: list[Person], visits: list[Visit], g: np.random.Generator
) -> list[Walk]:
    """The ways of a camera's visitors."""
    walks = []
    for visit in visits:
        start, end = ways[int(g.integers(len(ways)))][:: int(g.choice([-1, 1]))]
        pace = float(g.uniform(1.0, 1.6))
        ends = (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))
        walks.append(Walk(visit.number, people[visit.number - 1], visit.begins, pace, *ends))
    return walks


def filmed(walks: list[Walk], rate: int) -> list[int]:
    """The moments, counted in frames since the street began, with somebody there or within QUIET seconds."""
    near = {0}
    for walk in walks:
        near.update(range(max(0, int(rate * (walk.begins - QUIET))), 1 + round(rate * (walk.ends + QUIET))))
    return sorted(near)


def film_camera(
    site: Site, number: int, walks: list[Walk], times: list[float], tell: Callable[[dict[str, object]], None]
) -> Iterator[NDArray[np.uint8]]:
    """The frames u8 [ROWS, COLUMNS, 3] of one camera; `tell` gets the truth of every visible person."""
    film = site.camera.film
    gains = site.exposure * 2**film.stops * np.array(site.balance) ** film.adapts * np.array(film.gains)
    shot = Shot(ROWS, (float(gains[0]), float(gains[1]), float(gains[2])), 0.0)
    grain = stream("film", site.camera.seed)
    for frame, time in enumerate(times):
        present = [walk for walk in walks if walk.begins <= time <= walk.ends]
        light, owner = scene(site, [walk.at(time) for walk in present])
        for index, walk in enumerate(present):
            box, pixels = visible_box(owner == index + 1)
            if pixels >= LEAST_SEEN:
                who = {"camera": f"camera-{number}", "frame": frame, "time": time, "person": walk.number}
                tell(who | {"box": box})
        yield expose(light, film, shot, (ROWS, COLUMNS), grain.integers(GRAIN, size=2))


def visible_box(mask: NDArray[np.bool_]) -> tuple[list[int], int]:
    """Box (x0, y0, x1, y1) of the true pixels of a mask [H, W], and their number; without any all is 0."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0, 0, 0, 0], 0
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    return box, int(mask.sum())


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


def _encode(path: Path, frames: Iterator[NDArray[np.uint8]], ticks: list[int], rate: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        video = container.add_stream(codec, rate=rate)
        assert isinstance(video, av.VideoStream)
        video.height, video.width, video.pix_fmt = ROWS, COLUMNS, "yuv420p"
        if codec == "mpeg4":
            video.codec_context.bit_rate = 4_000_000
        for tick, pixels in zip(ticks, frames, strict=True):
            image = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            image.pts, image.time_base = tick, Fraction(1, rate)
            for packet in video.encode(image):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
