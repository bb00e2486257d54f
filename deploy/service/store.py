"""What the service keeps, in the gallery's own file.

Triggers delete what belongs to a person together with the person, whichever process forgets.
"""

from __future__ import annotations

import re
from pathlib import Path

from deploy.gallery.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS service_events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, time REAL NOT NULL, camera TEXT NOT NULL,
    kind TEXT NOT NULL, key TEXT, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS service_events_key ON service_events (key);
CREATE TABLE IF NOT EXISTS service_consumers (name TEXT PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS service_views (entry INTEGER PRIMARY KEY, quality REAL NOT NULL, jpeg BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS service_reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL, camera TEXT NOT NULL,
    subject INTEGER NOT NULL, candidate INTEGER NOT NULL, entry TEXT, score REAL NOT NULL,
    answer TEXT, answered REAL, alias INTEGER
);
CREATE INDEX IF NOT EXISTS service_reviews_people ON service_reviews (subject, candidate);
CREATE TABLE IF NOT EXISTS service_audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
    address TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, status INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS service_receipts (id TEXT PRIMARY KEY, time REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS service_tokens (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, made REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS service_choices (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS service_entries ON entries (identity, camera, time);
CREATE TRIGGER IF NOT EXISTS service_entry_gone AFTER DELETE ON entries BEGIN
    DELETE FROM service_views WHERE entry = OLD.id;
END;
CREATE TRIGGER IF NOT EXISTS service_person_gone AFTER DELETE ON identities BEGIN
    DELETE FROM service_events WHERE key = OLD.key;
    DELETE FROM service_reviews WHERE subject = OLD.id OR candidate = OLD.id;
END;
CREATE TRIGGER IF NOT EXISTS service_forgotten AFTER INSERT ON tombstones WHEN NEW.key NOT LIKE '%-%' BEGIN
    INSERT INTO service_events (id, time, camera, kind, body) VALUES (
        'forgotten-' || NEW.key, NEW.time, '', 'forgotten', json_object('schema', 1, 'id', 'forgotten-' || NEW.key,
        'event', 'forgotten', 'time', NEW.time, 'camera', '', 'key', NEW.key)
    );
END;
CREATE INDEX IF NOT EXISTS service_events_there ON service_events (json_extract(body, '$.there.key'))
    WHERE kind = 'elsewhere';
CREATE TRIGGER IF NOT EXISTS service_forgotten_there AFTER INSERT ON tombstones BEGIN
    DELETE FROM service_events WHERE kind = 'elsewhere' AND json_extract(body, '$.there.key') = NEW.key;
END;
"""
"""The tombstone of a person is a key without dashes; that of an entry is a UUID."""


class Store(Database):
    """Connections of the service's own to a gallery's file, which then holds the service's tables too.

    Raises UserError when the gallery cannot be opened.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(Path(folder))
        with self.changing() as connection:
            for statement in re.split("\n(?=CREATE)", SCHEMA.strip()):  # a trigger holds semicolons of its own
                connection.execute(statement)
