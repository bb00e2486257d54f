"""Entries that are acknowledged but not yet in the store's own files: one file, appended to and synced.

The store spreads an entry over a dozen files; syncing those takes ten times as long as this one file, and no other
Python thread runs meanwhile. Unlike a store's own log this one is emptied whenever something is deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from deploy.errors import DeployFailure
from deploy.gallery.entries import Record
from deploy.gallery.files import sync

HEAD = struct.Struct("<III")
"""Bytes of the JSON part, bytes of the vector, CRC-32 of both."""


class Journal:
    """The journal in a file, made where there is none. Raises OSError when it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0
        """Entries appended since it was last emptied."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        sync(path.parent)

    @contextlib.contextmanager
    def holding(self, records: Sequence[Record]) -> Iterator[None]:
        """Write entries and sync them to disk; they stay when what happens inside succeeds.

        Raises DeployFailure, with none written, when the disk refuses.
        """
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            self._append(b"".join(map(_packed, records)))
            yield
        except BaseException:
            os.ftruncate(self._file, end)
            raise
        self.records += len(records)

    def read(self) -> Iterator[Record]:
        """The entries, up to one that was being written when the process was killed."""
        content = self.path.read_bytes()
        at = 0
        while at + HEAD.size <= len(content):
            text, vector, checksum = HEAD.unpack_from(content, at)
            at += HEAD.size
            body = content[at : at + text + vector]
            if len(body) < text + vector or zlib.crc32(body) != checksum:
                return
            values = json.loads(body[:text])
            yield Record(**values, vector=np.frombuffer(body[text:], dtype="<f4").astype(np.float32))
            at += text + vector

    def empty(self) -> None:
        """Forget all entries: the store has them, on disk. Raises OSError when the disk refuses."""
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self.records = 0

    def close(self, *, remove: bool) -> None:
        """Let go of the file, and remove it when the store has everything."""
        os.close(self._file)
        if remove:
            self.path.unlink(missing_ok=True)

    def _append(self, content: bytes) -> None:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)  # other Python threads run meanwhile
        except OSError as error:
            reason = error.strerror or error
            raise DeployFailure(f"cannot write {self.path}: {reason}; nothing was stored") from error


def _packed(record: Record) -> bytes:
    assert record.vector is not None
    values = {name: getattr(record, name) for name in ("id", "identity", "camera", "time", "note")}
    text, vector = json.dumps(values).encode(), record.vector.astype("<f4").tobytes()
    return HEAD.pack(len(text), len(vector), zlib.crc32(text + vector)) + text + vector
