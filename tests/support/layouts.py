"""Data sets on disk, as the tests of their readers make them and look at them."""

from __future__ import annotations

from pathlib import Path

from pat.data.layouts import DataSet


def touch(path: Path) -> Path:
    """An empty file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")  # a layout looks at names alone
    return path


def facts(samples: tuple) -> list[tuple[str, int, int]]:
    """Name, identity and camera of each."""
    return [(sample.path.name, sample.identity, sample.camera) for sample in samples]


def as_people(data_set: DataSet) -> list[tuple[str, int, int]]:
    """The same of a gallery in a folder `people`, by path."""
    return sorted((s.path.as_posix().split("people/")[1], s.identity, s.camera) for s in data_set.gallery)
