"""Who is seen where: the people, their cameras and images, all following from a few numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pat.base.errors import UserError
from pat.synthetic.people.person import Person
from pat.synthetic.people.site import KINDS
from pat.synthetic.randomness import stream

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
Domain = Literal["train", "test"]
MOST_CAMERAS = 999
MOST_PEOPLE = 999_999
FAMILY = 4
"""Look-alikes that share all but one attribute."""
CHUNK = 8
"""People of one piece of work; two families."""
PASSERS_BY = 16
TEST_SEED = 20_231_117
"""Cameras, places and people of the test domain; no training draws from its kinds of places or its prints."""
LOOK = 3
"""How people and places are drawn: another number, other pixels of the same plan. Figures name theirs."""


@dataclass(frozen=True)
class Plan:
    """A data set of people; what is drawn depends on it and on LOOK, and on nothing else."""

    identities: int = 5000
    images: int = 24
    """Of each person."""
    cameras: int = 200
    cameras_each: int = 6
    """Cameras that see each person; at most `cameras`."""
    test_share: float = 0.1
    """Of the people, who are queries and gallery; the others train."""
    look_alikes: float = 0.2
    size: tuple[int, int] = (256, 128)
    """Height and width."""
    seed: int = 0
    domain: Domain = "train"
    segmentation: bool = False

    def check(self) -> None:
        """Raise UserError for numbers that make no data set."""
        seen = min(self.cameras_each, self.cameras)
        for wrong, message in (
            (not 2 <= self.identities <= MOST_PEOPLE,
             f"identities must be 2 to {MOST_PEOPLE} (some train, some test), not {self.identities}"),
            (not 1 <= self.cameras <= MOST_CAMERAS,
             f"cameras must be 1 to {MOST_CAMERAS}, three digits in the names of images, not {self.cameras}"),
            (self.cameras_each < 1, f"cameras of each person must be at least 1, not {self.cameras_each}"),
            (not 2 * seen <= self.images <= 10_000,
             f"images must be {2 * seen} to 10000 (a query and a match in {seen} cameras), not {self.images}"),
            (not 0 < self.test_share < 1, f"test-share must be between 0 and 1, not {self.test_share}"),
            (not 0 <= self.look_alikes <= 1, f"look-alikes must be 0 to 1, not {self.look_alikes}"),
            (min(self.size) < 32 or max(self.size) > 1024,
             f"size must be 32 to 1024 pixels each way, not {self.size[0]}x{self.size[1]}"),
            (self.seed < 0, f"seed must be at least 0, not {self.seed}"),
            (self.domain not in KINDS, f"domain must be one of {', '.join(KINDS)}, not {self.domain}"),
        ):  # fmt: skip
            if wrong:
                raise UserError(message)

    def told(self) -> dict[str, Any]:
        """The plan as JSON, and the look that it is drawn in."""
        return asdict(self) | {"size": list(self.size), "look": LOOK}

    @property
    def training(self) -> int:
        """People who train: identities 1 to this; the others test."""
        return self.identities - min(self.identities - 1, max(1, round(self.identities * self.test_share)))

    @property
    def total(self) -> int:
        """Images of the data set."""
        return self.identities * self.images

    def camera_seed(self, camera: int) -> int:
        """The seed of a camera, from 0."""
        return int(stream("camera of", self.seed).integers(1 << 30)) + camera

    def shots(self, identity: int) -> list[Shot]:
        """The images of an identity, from 1, its cameras in turn; the first of each camera is a query."""
        seen = min(self.cameras_each, self.cameras)
        order = stream("cameras", self.seed, identity).permutation(self.cameras)[:seen]
        shots = []
        for index in range(self.images):
            turn, camera = index // seen, int(order[index % seen])
            folder = TRAIN if identity <= self.training else GALLERY if turn else QUERY
            frame = 1 + identity * 131 % 90_000 + 25 * turn
            name = f"{identity:04d}_c{camera + 1}s1_{frame:06d}_{turn % 5 + 1:02d}.jpg"
            shots.append(Shot(identity, camera, index, f"{folder}/{name}"))
        return shots

    def chunks(self) -> list[range]:
        """Pieces of work: identities that one process draws at once."""
        end = self.identities + 1
        return [range(begin, min(begin + CHUNK, end)) for begin in range(1, end, CHUNK)]

    def people(self, identities: range) -> list[Person]:
        """The people of a chunk; where look-alikes are drawn, half of it is a family."""
        people: list[Person] = []
        for begin in range(identities.start, identities.stop, FAMILY):
            own = range(begin, min(begin + FAMILY, identities.stop))
            g = stream("person", self.seed, begin)
            if g.random() < self.look_alikes:
                people += Person.look_alikes(int(g.integers(1 << 30)), len(own), style=self.domain)
            else:
                people += [Person.sample(int(g.integers(1 << 30)), style=self.domain) for _ in own]
        return people

    def passers_by(self) -> list[Person]:
        """People who are nobody's identity and walk by."""
        g = stream("passers-by", self.seed)
        return [Person.sample(int(g.integers(1 << 30)), style=self.domain) for _ in range(PASSERS_BY)]


@dataclass(frozen=True)
class Shot:
    """An image to be taken; `camera` from 0, `index` among the person's images."""

    identity: int
    camera: int
    index: int
    path: str


TEST_DOMAIN = Plan(
    identities=550, images=24, cameras=12, cameras_each=6, test_share=10 / 11, look_alikes=0.2, seed=TEST_SEED,
    domain="test",
)  # fmt: skip
"""The fixed test domain: 500 people who test, each in 6 of 12 cameras, and 50 who only make its layout whole."""
