"""The gallery's file: SQLite in WAL mode, the one truth, shared by threads and processes of one machine.

A change is on disk when its transaction ends (`synchronous=full`). Readers never wait for writers. What is deleted
is overwritten with zeros (`secure_delete`), leaves the write-ahead log with `truncate_log`, and the unused parts
of the file, where SQLite may have left a copy, with `rewrite`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deploy.closing import Closing
from deploy.gallery.facts import Facts
from pat.base.errors import Failure, UserError

FILE = "gallery.sqlite"
WRITTEN_ANEW = 1
"""As `user_version`: nobody was forgotten since. 0 is a gallery of before it was noted."""
LARGEST_REWRITTEN = 1 << 30
"""Bytes."""
OLD_FACTS = "gallery.json"
"""Stands in the folder of a gallery that an earlier version made."""
PATIENCE = 10.0
"""Seconds that a change waits for another process to finish its own."""
MANY = "(SELECT value FROM json_each(?))"
"""In a statement stands for any number of values, given as `many` of them."""

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value);
CREATE TABLE identities (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,  -- random: says nothing about the person, and outlives a change of name
    name TEXT NOT NULL UNIQUE,
    retention REAL,            -- seconds, infinity to keep; NULL: the gallery's
    merged_into INTEGER REFERENCES identities
);
CREATE INDEX identities_merged ON identities (merged_into);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    identity INTEGER NOT NULL REFERENCES identities,
    camera TEXT NOT NULL,
    time REAL NOT NULL,
    note TEXT NOT NULL,
    vector BLOB NOT NULL,      -- little-endian float32
    checksum INTEGER NOT NULL
);
CREATE INDEX entries_identity ON entries (identity);
CREATE TABLE sightings (
    identity INTEGER NOT NULL REFERENCES identities,
    camera TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL, score REAL
);
CREATE INDEX sightings_identity ON sightings (identity);
CREATE INDEX sightings_last ON sightings (last);
CREATE TABLE aliases (         -- merges and splits; undone: a merge that was taken back, at that time
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, time REAL NOT NULL,
    source INTEGER NOT NULL REFERENCES identities, target INTEGER NOT NULL REFERENCES identities
);
CREATE TABLE moved (           -- the entries of a split
    alias INTEGER NOT NULL REFERENCES aliases, entry INTEGER NOT NULL, identity INTEGER NOT NULL
);
CREATE TABLE tombstones (      -- of the forgotten: keys and uuids, no names
    key TEXT PRIMARY KEY, time REAL NOT NULL
);
CREATE TABLE outbox (          -- what changed, in order, for other processes and for mirrors
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, entry INTEGER, uuid TEXT
);
CREATE TABLE mirrors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL);
"""


class Database(Closing):
    """Two connections to the file: one for changes, one at a time, and one for reading, which waits for nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        self._writing, self._reading = threading.RLock(), threading.RLock()
        self.closed = False
        self._write = self.connect()
        try:
            self._read = self.connect()
        except BaseException:
            self._write.close()
            raise

    @classmethod
    def open(cls, folder: Path, facts: Facts) -> tuple[Database, Facts]:
        """The database in a folder, made where there is none, and its own facts.

        Raises UserError for another model, a damaged file and a folder of other things.
        """
        _make_folder(folder)
        with translated(folder, opening=True):
            database = cls(folder)
            try:
                stored = database._set_up(facts)
                facts.check(stored, f"the gallery {folder}")
            except BaseException:
                database.close()
                raise
        return database, stored

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on disk when it ends, undone when it fails.

        Raises Failure when the disk refuses.
        """
        with self._writing, translated(self.folder):
            self._check_open()
            self._write.execute("BEGIN IMMEDIATE")
            try:
                yield self._write
                self._write.execute("COMMIT")
            except BaseException:
                if self._write.in_transaction:  # a full disk has ended it already
                    self._write.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection for reading, for this thread alone."""
        with self._reading, translated(self.folder):
            self._check_open()
            yield self._read

    def rows(self, statement: str, *values: object) -> list[tuple]:
        """All that a statement finds, read as `reading` does."""
        with self.reading() as connection:
            return connection.execute(statement, values).fetchall()

    def row(self, statement: str, *values: object) -> tuple | None:
        """The first that a statement finds; None where there is nothing."""
        return next(iter(self.rows(statement, *values)), None)

    def value(self, statement: str, *values: object) -> Any:
        """The first column of that; None where there is nothing."""
        return (self.row(statement, *values) or (None,))[0]

    def change(self, statement: str, *values: object) -> int:
        """A transaction of one statement; how many rows it changed."""
        with self.changing() as connection:
            return connection.execute(statement, values).rowcount

    def truncate_log(self) -> None:
        """Bring all changes into the file and empty the log, so that what was deleted is gone from both.

        Raises Failure when another process goes on reading what was deleted.
        """
        until = time.monotonic() + PATIENCE
        with self._writing, translated(self.folder):
            while self._write.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > until:
                    raise Failure(f"another process is reading the gallery {self.folder}; try again")
                time.sleep(0.01)

    def must_be_rewritten(self) -> bool:
        """Whether somebody was forgotten since the file was last written anew."""
        anew = self.value("PRAGMA user_version") == WRITTEN_ANEW
        return not anew and self.row("SELECT 1 FROM tombstones LIMIT 1") is not None

    def rewrite(self) -> None:
        """Write the file anew, so that its unused parts hold nothing of the forgotten.

        `secure_delete` overwrites the place where a row was last; a row that SQLite had moved to make room may
        have left a copy in the unused part of a page. Writers wait meanwhile, a second or two for 200 MB, and
        it takes that much memory: not for each deletion. Raises Failure when the disk refuses or the file is
        too large.
        """
        if (size := self.path.stat().st_size) > LARGEST_REWRITTEN:
            raise Failure(f"the gallery {self.folder} has {size >> 20} MiB, too many to write it anew in memory")
        with self._writing, translated(self.folder):
            self._check_open()
            (version,) = self._write.execute("PRAGMA user_version").fetchone()
            self._write.execute("VACUUM")
        with self.changing() as connection:
            if connection.execute("PRAGMA user_version").fetchone() == (version,):  # else somebody was forgotten
                connection.execute(f"PRAGMA user_version = {WRITTEN_ANEW}")

    def connect(self) -> sqlite3.Connection:
        """One more connection. Raises sqlite3.Error."""
        connection = sqlite3.connect(
            self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            _in_wal_mode(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA temp_store=MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Let go of the file. Can be called again."""
        with self._writing, self._reading:
            self.closed = True
            self._read.close()
            self._write.close()

    def _check_open(self) -> None:
        if self.closed:
            raise UserError(f"the gallery {self.folder} is closed")

    def _set_up(self, facts: Facts) -> Facts:
        with self.changing() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
                for statement in SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {WRITTEN_ANEW}")
                write_facts(connection, facts)
            return read_facts(connection, self.folder)


def many(values: Iterable[int | str]) -> str:
    """What is given to a statement for MANY.

    Text with a NUL is left out: SQLite would end it there, and nothing that is kept has one.
    """
    return json.dumps([each for each in values if not (isinstance(each, str) and "\0" in each)])


def write_facts(connection: sqlite3.Connection, facts: Facts) -> None:
    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.to_mapping().items())


def read_facts(connection: sqlite3.Connection, where: Path) -> Facts:
    """What a gallery says about itself. Raises UserError when it is none."""
    return Facts.from_mapping(dict(connection.execute("SELECT name, value FROM facts")), str(where))


def made_once(connection: sqlite3.Connection, fact: str) -> str:
    """A fact that is random, made when it is asked for first."""
    connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (fact, uuid.uuid4().hex))
    return str(connection.execute("SELECT value FROM facts WHERE name = ?", (fact,)).fetchone()[0])


def read_mapped(database: Database) -> frozenset[int]:
    """Entries whose vectors a change of model has mapped (deploy.gallery.remodel)."""
    if database.row("SELECT 1 FROM sqlite_master WHERE name = 'mapped'") is None:
        return frozenset()
    return frozenset(each[0] for each in database.rows("SELECT entry FROM mapped"))


@contextlib.contextmanager
def translated(where: Path, *, opening: bool = False) -> Iterator[None]:
    """SQLite's errors as one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        kind = UserError if opening else Failure
        raise kind(f"the gallery {where} cannot be {'opened' if opening else 'used'}: {error}") from error
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a defect of this code
    except sqlite3.DatabaseError as error:
        raise UserError(f"the gallery {where} is damaged ({error}); restore a backup of it") from error


def _in_wal_mode(connection: sqlite3.Connection) -> None:
    """Two processes that open a new file at once get in each other's way here, whatever their patience."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until or not _busy(connection):
                raise
            time.sleep(0.01)


def _busy(connection: sqlite3.Connection) -> bool:
    """Whether the file is locked, rather than out of reach."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    return True


def _make_folder(folder: Path) -> None:
    """The folder, for its owner's eyes. Raises UserError when it holds other things, or cannot be made."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, not a gallery; name a folder")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).exists():
            raise UserError(f"{folder} is not a gallery: it has no {FILE}; name a new folder for one")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / FILE).exists():
            folder.chmod(0o700)
            os.close(os.open(folder / FILE, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise UserError(f"cannot open the gallery {folder} for writing: {error.strerror or error}") from error
