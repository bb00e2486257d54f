"""A person in view of a camera, as its worker knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.appearance import Appearance, Array
from deploy.frames import Frame
from deploy.recognise import NOBODY, Recognition
from deploy.track import Tracked

CLEAR = 0.6
"""Quality of a view, as a share of its track's best, from which on it can show that the track has jumped."""


@dataclass
class Person:
    """What is known of a track that is in view."""

    track: int
    last: Tracked
    frame: Frame
    since: float = 0.0
    """Time of the first frame."""
    appearance: Appearance = field(default_factory=Appearance)
    doubtful: bool = False
    """Since the last view that looked like the track it was lost for a while, or touched another one: only then
    can it have jumped to somebody else."""
    odd: Array | None = None
    """The last view, when it does not look like the track: perhaps it has jumped."""
    recognition: Recognition = NOBODY
    """What the gallery said last."""
    asked: int = 0
    """Views when the gallery was asked last."""
    told: bool = False
    """That the person is unknown."""
    met: set[int] = field(default_factory=set)
    """Tracks that were seen in one image with this one: they are other people."""
    touched: set[int] = field(default_factory=set)
    """Tracks whose boxes have touched this one's: one may be a second box of the same person."""
    met_and_left: set[str] = field(default_factory=set)
    """Keys of those of them that have ended."""

    @property
    def identity(self) -> str | None:
        return self.recognition.identity

    def wondered_at(self, quality: float) -> bool:
        """Whether a view of this quality could show that the track has jumped, which it may have."""
        return self.doubtful and self.appearance.samples > 0 and self.clear(quality)

    def clear(self, quality: float) -> bool:
        return quality >= CLEAR * self.appearance.best


def meet(people: Sequence[Person]) -> None:
    """Note that these were seen in one image."""
    together = {each.track for each in people}
    for each in people:
        each.met |= together
