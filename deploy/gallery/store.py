"""What keeps the entries: one small interface, so that a folder and a server behave alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from deploy.errors import DeployError
from deploy.gallery.entries import Floats, Match, Record, Where
from deploy.gallery.facts import Facts

PAGE = 1000
"""Records read from a store at once."""


class Store(Protocol):
    """Names and vectors come checked, calls one at a time. Everything written is durable when a call returns.

    Raises DeployFailure when the store does not do what it was asked for.
    """

    name: str
    """The path or URL, for messages."""
    facts: Facts

    def write(self, records: Sequence[Record]) -> None:
        """Store records, which have vectors."""

    def nearest(self, vector: Floats, k: int, where: Where) -> list[Match]:
        """The `k` entries of largest cosine to the vector [D], best first."""

    def count(self, where: Where) -> int:
        """The number of entries."""

    def pages(self, where: Where, *, vectors: bool) -> Iterator[list[Record]]:
        """All entries, `PAGE` at a time."""

    def rename(self, where: Where, identity: str) -> None:
        """Give entries another identity."""

    def delete(self, where: Where) -> None:
        """Delete entries: no later call sees them."""

    def purge(self) -> None:
        """Remove what was deleted from the disk, as far as the store can be told to."""

    def keep_for(self, retention: float | None) -> None:
        """Store another retention."""

    def close(self) -> None:
        """Let go of the store; nothing may be called afterwards."""


def open_store(place: str | Path, facts: Facts) -> Store:
    """The store at a path or URL, made where there is none.

    Raises DeployError for another model, a damaged, locked or unreadable folder, and a URL that cannot be.
    """
    if is_url(place):
        from deploy.gallery.server import ServerStore

        return ServerStore.open(str(place), facts)
    from deploy.gallery.edge import EdgeStore

    return EdgeStore.open(Path(place), facts)


def read_facts(place: str | Path) -> Facts:
    """What the gallery at a path or URL says about itself. Raises DeployError when there is none."""
    if is_url(place):
        from deploy.gallery.server import ServerStore

        return ServerStore.read_facts(str(place))
    from deploy.gallery.folder import read_facts as read

    return read(Path(place))


def is_url(place: str | Path) -> bool:
    """Whether `place` is a server's URL. Raises DeployError for a scheme that no server here speaks."""
    scheme, separator, _ = str(place).partition("://")
    if not separator or isinstance(place, Path):
        return False
    if scheme not in ("http", "https"):
        raise DeployError(f"{place}: a gallery is a folder, or http(s)://host:port/collection; not {scheme}://")
    return True
