"""What tests of the gallery share: a clock that they set, and a look at what is stored."""

from __future__ import annotations

from deploy.gallery import Gallery

DIMENSION = 16
NOW = 1_700_000_000.0
HOUR = 3600.0


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def rows(gallery: Gallery, table: str) -> int:
    with gallery._database.reading() as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def on_disk(gallery: Gallery) -> int:
    """Entries, also those that are hidden because they have expired."""
    return rows(gallery, "entries")
