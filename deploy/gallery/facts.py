"""What a gallery says about itself: whose vectors it holds and how long it keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deploy.gallery.entries import checked_name
from pat.base.errors import UserError

FORMAT = "pat-reid-gallery/2"
LARGEST_DIMENSION = 65536
DAY = 86400.0


@dataclass(frozen=True)
class Facts:
    """Stored with a gallery and compared on opening. Raises UserError for values that cannot be."""

    dimension: int
    model: str
    """Fingerprint of the embedding model (deploy.gallery.fingerprint)."""
    retention: float | None
    """Seconds after which entries are deleted; None keeps them."""

    def __post_init__(self) -> None:
        if not (type(self.dimension) is int and 1 <= self.dimension <= LARGEST_DIMENSION):
            raise UserError(f"the dimension is {self.dimension!r}; it must be 1 to {LARGEST_DIMENSION}")
        checked_name("model fingerprint", self.model)
        if self.retention is not None and not (math.isfinite(self.retention) and self.retention > 0):
            raise UserError(
                f"the retention is {self.retention} seconds; it must be above 0, or None to keep all"
            )

    def to_mapping(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> Facts:
        """Facts read back. Raises UserError, naming `where`, when they are not a gallery's."""
        if (found := values.get("format")) != FORMAT:
            raise UserError(f"{where} says the format {found!r}, not {FORMAT!r}: it is no gallery, or damaged")
        try:
            return cls(values["dimension"], values["model"], values["retention"])
        except (KeyError, TypeError, UserError) as error:
            raise UserError(f"{where} is damaged ({error}); restore a backup of the gallery") from error

    def check(self, stored: Facts, where: str) -> None:
        """Raise UserError when the gallery `stored` holds vectors of another model than these facts ask for."""
        if (self.dimension, self.model) != (stored.dimension, stored.model):
            raise UserError(
                f"{where} holds vectors of the model {stored.model} ({stored.dimension} numbers), not of "
                f"{self.model} ({self.dimension}), which cannot be compared; use the bundle it was made with, "
                "another gallery, or one made of it for this model: `pat gallery migrate`"
            )


def words(seconds: float | None) -> str:
    """A duration for people: 36 h."""
    if seconds is None or math.isinf(seconds):
        return "ever"
    for length, unit in ((DAY, "days"), (3600.0, "h"), (60.0, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
