"""Galleries of the first version, kept by Qdrant Edge, become galleries of this one: read once, then deleted."""

from __future__ import annotations

import json
import logging
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from deploy.gallery import changes
from deploy.gallery.database import FILE, OLD_FACTS, Database
from deploy.gallery.entries import Record
from deploy.gallery.facts import FORMAT, Facts
from pat.base.errors import Failure, UserError, one_line
from pat.base.files import sync

log = logging.getLogger(__name__)

STORE, JOURNAL, LOCK = "store", "journal", "lock"
HEAD = struct.Struct("<III")
"""Of a line of the journal: bytes of the JSON part, bytes of the vector, CRC-32 of both."""


def if_old(folder: Path, facts: Facts) -> None:
    """Migrate the gallery in a folder if it is of the first version.

    Everything is in the new file before the old ones are deleted; a process that is killed in between begins
    again.
    Raises UserError for another model's gallery, one in use, and where Qdrant Edge is not installed.
    """
    if not (folder / OLD_FACTS).exists():
        return
    try:
        values = json.loads((folder / OLD_FACTS).read_text())
        stored = Facts.from_mapping({**values, "format": FORMAT}, str(folder))
        facts.check(stored, f"the gallery {folder}")
        with FileLock(folder / LOCK, timeout=0):
            (folder / FILE).unlink(missing_ok=True)  # of an attempt that was cut short
            draft = folder / ".migrating"
            shutil.rmtree(draft, ignore_errors=True)
            count = _copy(folder, draft, stored)
            (draft / FILE).rename(folder / FILE)
            (folder / OLD_FACTS).unlink()
            sync(folder)
            for each in (draft, folder / STORE):
                shutil.rmtree(each, ignore_errors=True)
            for name in (JOURNAL, "closed.json"):
                (folder / name).unlink(missing_ok=True)
            folder.chmod(0o700)
        (folder / LOCK).unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(f"the gallery {folder} is in use by an older version; stop that first") from error
    except (OSError, ValueError) as error:
        raise Failure(f"the gallery {folder} could not be migrated: {error}; it is as it was") from error
    log.warning("%s: migrated from the first version's format, %d entries", folder, count)


def _copy(folder: Path, draft: Path, facts: Facts) -> int:
    records = {each.id: each for each in _stored(folder / STORE)}
    records.update({each.id: each for each in _journalled(folder / JOURNAL)})
    with Database.open(draft, facts)[0] as database:
        with database.changing() as connection:
            names = dict.fromkeys(each.identity for each in records.values())
            known = {name: changes.identity_of(connection, name) for name in names}
            changes.insert(connection, list(records.values()), [known[each.identity] for each in records.values()])
        database.truncate_log()
    return len(records)


def _stored(store: Path) -> Iterator[Record]:
    try:
        import qdrant_edge
    except ModuleNotFoundError as error:
        raise UserError(
            f"{store.parent} is a gallery of the first version; to migrate it once: pip install qdrant-edge-py"
        ) from error
    try:
        shard = qdrant_edge.EdgeShard.load(str(store))
        offset = None
        while True:
            request = qdrant_edge.ScrollRequest(offset=offset, limit=1000, with_payload=True, with_vector=True)
            found, offset = shard.scroll(request)
            for each in found:
                yield _record(str(each.id), each.payload or {}, np.array(each.vector, dtype=np.float32))
            if offset is None:
                break
        shard.close()
    except Exception as error:  # Qdrant Edge's errors have no class of their own
        raise UserError(f"the gallery {store.parent} cannot be read: {one_line(error)}") from error


def _journalled(path: Path) -> Iterator[Record]:
    """What a killed process had acknowledged, up to the line that it was writing."""
    content = path.read_bytes() if path.exists() else b""
    at = 0
    while at + HEAD.size <= len(content):
        text, vector, checksum = HEAD.unpack_from(content, at)
        at += HEAD.size
        body = content[at : at + text + vector]
        if len(body) < text + vector or zlib.crc32(body) != checksum:
            return
        values = json.loads(body[:text])
        yield _record(values.pop("id"), values, np.frombuffer(body[text:], dtype="<f4").astype(np.float32))
        at += text + vector


def _record(id: str, values: dict, vector: np.ndarray) -> Record:
    return Record(id, values["identity"], values["camera"], float(values["time"]), values.get("note", ""), vector)
