"""All entries of a gallery in one file: an .npz from which a folder or a server's collection is made again."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.errors import DeployError, DeployFailure
from deploy.gallery.entries import Record, Where, checked_name, checked_vectors
from deploy.gallery.facts import Facts
from deploy.gallery.files import sync, written_whole
from deploy.gallery.store import Store, is_url, open_store

WRITE_AT_ONCE = 5000


def write(path: Path, facts: Facts, records: Sequence[Record]) -> int:
    """Write arrays `facts` (JSON), `ids`, `identities`, `cameras`, `times`, `notes` and `vectors` f32 [n, D].

    Raises DeployFailure when the disk refuses; what was at `path` is then untouched.
    """
    vectors = np.empty((len(records), facts.dimension), dtype=np.float32)
    for row, record in zip(vectors, records, strict=True):
        row[:] = record.vector
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            facts=np.array(json.dumps(facts.to_mapping())),
            ids=_texts([each.id for each in records]),
            identities=_texts([each.identity for each in records]),
            cameras=_texts([each.camera for each in records]),
            times=np.array([each.time for each in records], dtype=np.float64),
            notes=_texts([each.note for each in records]),
            vectors=vectors,
        )
    return len(records)


def read(path: Path) -> tuple[Facts, list[Record]]:
    """What `write` wrote. Raises DeployError when the file is missing, damaged, or something else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = Facts.from_mapping(json.loads(str(arrays["facts"])), str(path))
            columns = [arrays[name].tolist() for name in ("ids", "identities", "cameras", "times", "notes")]
            vectors = checked_vectors(arrays["vectors"], facts.dimension)
        for names, what in zip((columns[1], columns[2], columns[4]), ("identity", "camera", "note"), strict=True):
            for name in set(names):
                checked_name(what, name, empty=what == "note")
        return facts, [Record(*row) for row in zip(*columns, vectors, strict=True)]
    except FileNotFoundError as error:
        raise DeployError(f"there is no snapshot {path}") from error
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        DeployError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise DeployError(f"{path} is no snapshot of a gallery, or damaged: {reason}") from error


def restore(file: Path, place: str | Path) -> int:
    """See `Gallery.restore`. In a folder the gallery appears whole or not at all."""
    facts, records = read(file)
    if is_url(place):
        store = open_store(place, facts)
        try:
            return _fill(store, records)
        finally:
            store.close()
    path = Path(place)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DeployError(f"{path} exists; restore into a new folder")
    draft: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        store = open_store(draft, facts)
        try:
            count = _fill(store, records)
        finally:
            store.close()
        draft.rename(path)
        sync(path.parent)
        return count
    except OSError as error:
        raise DeployFailure(f"cannot make the gallery {path}: {error.strerror or error}") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _fill(store: Store, records: Sequence[Record]) -> int:
    if store.count(Where()):
        raise DeployError(f"the gallery {store.name} holds entries; restore into a new one")
    for begin in range(0, len(records), WRITE_AT_ONCE):
        store.write(records[begin : begin + WRITE_AT_ONCE])
    return len(records)


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(values, dtype=np.str_)
