"""What changes in a gallery, inside a transaction of `deploy.gallery.database`.

Every change leaves its line in the outbox, which other processes and mirrors read.
"""

from __future__ import annotations

import math
import sqlite3
import uuid
import zlib
from collections.abc import Iterable, Sequence

from deploy.gallery.database import MANY, WRITTEN_ANEW, many
from deploy.gallery.entries import Record
from deploy.gallery.vectors import to_bytes

KEPT_LINES = 10_000
"""Of the outbox, for processes that look into it seldom; one that is farther behind reads everything again."""
MOST_LINES = 1_000_000
"""Of the outbox, kept for a mirror that is away (about 60 MB); after these the mirror is filled anew."""

GROUP = """WITH RECURSIVE members(id) AS (
    SELECT ? UNION SELECT identities.id FROM identities JOIN members ON identities.merged_into = members.id
) SELECT id FROM members"""
"""An identity and all that were merged into it."""
OWNERS = """WITH RECURSIVE owners(id, owner) AS (
    SELECT id, id FROM identities WHERE merged_into IS NULL
    UNION ALL SELECT identities.id, owner FROM identities JOIN owners ON identities.merged_into = owners.id
)"""
"""Begins a statement that asks whom each identity was merged into, after merges of merges; many are themselves."""
PEOPLE = f"""{OWNERS}, people(id, retention) AS (
    SELECT owner, max(retention) FROM owners JOIN identities ON identities.id = owners.id GROUP BY owner
)"""
"""The same with the people that are left, and how long each is kept: the longest that was said of any of their
identities, NULL where nothing was. So whoever was enrolled stays, whichever of two is merged into the other."""


def checksum(uuid: str, camera: str, time: float, note: str, vector: bytes) -> int:
    """CRC-32 of an entry: against damage, not against people."""
    return zlib.crc32(vector, zlib.crc32(repr((uuid, camera, float(time), note)).encode()))


def find(connection: sqlite3.Connection, name: str) -> int | None:
    """The identity of that name, unless it was merged into another."""
    return _identity(connection, "name = ? AND merged_into IS NULL", name)


def number_of(connection: sqlite3.Connection, key: str) -> int | None:
    """The identity of this key."""
    return _identity(connection, "key = ?", key)


def _identity(connection: sqlite3.Connection, which: str, value: str | int) -> int | None:
    row = connection.execute(f"SELECT id FROM identities WHERE {which}", (value,)).fetchone()
    return None if row is None else int(row[0])


def entries_of(connection: sqlite3.Connection, uuids: Iterable[str]) -> list[int]:
    """The entries of these uuids, as far as there are any."""
    return [row[0] for row in connection.execute(f"SELECT id FROM entries WHERE uuid IN {MANY}", (many(uuids),))]


def owner_of(connection: sqlite3.Connection, identity: int) -> int:
    """Whom this identity was merged into, after merges of merges; or itself."""
    row = connection.execute(
        """WITH RECURSIVE path(id, following) AS (
            SELECT id, merged_into FROM identities WHERE id = ?
            UNION ALL SELECT identities.id, merged_into FROM identities JOIN path ON identities.id = following
        ) SELECT id FROM path WHERE following IS NULL""",
        (identity,),
    ).fetchone()
    return identity if row is None else int(row[0])


def identity_of(connection: sqlite3.Connection, name: str, retention: float | None = None) -> int:
    """The identity that entries under this name go to, made where there is none; `retention` becomes its own."""
    row = connection.execute("SELECT id FROM identities WHERE name = ?", (name,)).fetchone()
    if row is None:
        made = connection.execute(
            "INSERT INTO identities (key, name, retention) VALUES (?, ?, ?)", (uuid.uuid4().hex, name, retention)
        ).lastrowid
        assert made is not None
        connection.execute("INSERT INTO outbox (kind, entry) VALUES ('person', ?)", (made,))
        return made
    if retention is not None:
        connection.execute("UPDATE identities SET retention = ? WHERE id = ?", (retention, row[0]))
        tell_people(connection, row[0])
    return int(row[0])


def retention_of(connection: sqlite3.Connection, person: int) -> float | None:
    """How long this person is kept, in seconds, with all that was merged into it; None where nobody said so."""
    row = connection.execute(f"SELECT max(retention) FROM identities WHERE id IN ({GROUP})", (person,)).fetchone()
    return None if row[0] is None else float(row[0])


def insert(connection: sqlite3.Connection, records: Sequence[Record], identities: Sequence[int]) -> None:
    """Store entries under these identities."""
    blobs = [to_bytes(each.vector[None])[0] for each in records]
    rows = [
        (each.id, identity, each.camera, each.time, each.note, blob,
         checksum(each.id, each.camera, each.time, each.note, blob))
        for each, identity, blob in zip(records, identities, blobs, strict=True)
    ]  # fmt: skip
    connection.executemany(
        "INSERT INTO entries (uuid, identity, camera, time, note, vector, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.executemany(
        "INSERT INTO outbox (kind, entry, uuid) SELECT 'add', id, uuid FROM entries WHERE uuid = ?",
        [(each.id,) for each in records],
    )


def delete(connection: sqlite3.Connection, entries: Sequence[int]) -> int:
    """Delete entries, and people of whom nothing is left and whom nobody asked to keep for good."""
    some = (many(entries),)
    owners = connection.execute(f"SELECT DISTINCT identity FROM entries WHERE id IN {MANY}", some).fetchall()
    connection.execute(
        f"INSERT INTO outbox (kind, entry, uuid) SELECT 'delete', id, uuid FROM entries WHERE id IN {MANY}", some
    )
    count = connection.execute(f"DELETE FROM entries WHERE id IN {MANY}", some).rowcount
    drop_empty(connection, [row[0] for row in owners])
    return count


def expire(connection: sqlite3.Connection, before: float) -> int:
    """Delete the entries older than `before` of people who have no retention of their own."""
    return delete(connection, _of_the_unkept(connection, "time < ?", before))


def ahead(connection: sqlite3.Connection, latest: float, newest: int) -> list[int]:
    """The entries up to number `newest` of people who have no retention of their own, of a time after `latest`."""
    return _of_the_unkept(connection, "time > ? AND entries.id <= ?", latest, newest)


def _of_the_unkept(connection: sqlite3.Connection, which: str, *values: float) -> list[int]:
    rows = connection.execute(
        f"""{PEOPLE} SELECT entries.id FROM entries JOIN owners ON owners.id = entries.identity
        JOIN people ON people.id = owner WHERE people.retention IS NULL AND {which}""",
        values,
    )
    return [row[0] for row in rows]


def expire_sightings(connection: sqlite3.Connection, now: float, retention: float) -> None:
    """Delete the sightings that have outlived their person's retention; `retention` is that of who has none."""
    rows = connection.execute(
        f"""{PEOPLE} DELETE FROM sightings WHERE rowid IN (
            SELECT sightings.rowid FROM sightings JOIN owners ON owners.id = sightings.identity
            JOIN people ON people.id = owner
            WHERE last < ? - (SELECT min(coalesce(retention, ?)) FROM people)
            AND last < ? - coalesce(people.retention, ?)
        ) RETURNING identity""",
        (now, retention, now, retention),
    ).fetchall()
    drop_empty(connection, {row[0] for row in rows})


def drop_empty(connection: sqlite3.Connection, identities: Iterable[int]) -> None:
    """Delete those of these people of whom nothing is left and whom nobody asked to keep for good.

    Entries that were split off count as long as that can be taken back.
    """
    waiting = set(identities)
    while waiting:
        person = owner_of(connection, waiting.pop())
        group = _group(connection, person)
        if retention_of(connection, person) == math.inf:
            continue
        left = connection.execute(
            f"""SELECT 1 FROM entries WHERE identity IN {MANY}
            UNION ALL SELECT 1 FROM sightings WHERE identity IN {MANY}
            UNION ALL SELECT 1 FROM moved JOIN entries ON entries.id = entry JOIN aliases ON aliases.id = alias
            WHERE moved.identity IN {MANY} OR source IN {MANY} OR target IN {MANY} LIMIT 1""",
            [many(group)] * 5,
        ).fetchone()
        if left is None:
            waiting |= _split_from(connection, group)
            _delete_people(connection, group)


def ids_of(connection: sqlite3.Connection, person: int) -> list[str]:
    """The keys of a person and of all that were merged into it, and the uuids of their entries."""
    ids = f"""SELECT key FROM identities WHERE id IN ({GROUP})
        UNION ALL SELECT uuid FROM entries WHERE identity IN ({GROUP})"""
    return [row[0] for row in connection.execute(ids, (person, person))]


def ids_with(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """These keys of people and uuids of entries, and what else belongs to these people."""
    people = connection.execute(f"SELECT id FROM identities WHERE key IN {MANY}", (many(ids),)).fetchall()
    more = [id for (person,) in people for id in ids_of(connection, person)]
    return list(dict.fromkeys((*ids, *more)))


def forget(connection: sqlite3.Connection, person: int, now: float) -> int:
    """Delete a person, all names included; what stays says that somebody was forgotten, and not who."""
    connection.executemany(
        "INSERT OR REPLACE INTO tombstones VALUES (?, ?)", [(id, now) for id in ids_of(connection, person)]
    )
    group = _group(connection, person)
    entries = connection.execute(f"SELECT id FROM entries WHERE identity IN {MANY}", (many(group),))
    count = delete(connection, [row[0] for row in entries])
    _delete_people(connection, group)
    leave_no_copy(connection)
    return count


def leave_no_copy(connection: sqlite3.Connection) -> None:
    """Note in the file that it is to be written anew, for SQLite may have copied what was just deleted."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {max(version, WRITTEN_ANEW) + 1}")


def _group(connection: sqlite3.Connection, person: int) -> list[int]:
    return [int(row[0]) for row in connection.execute(GROUP, (person,))]


def _split_from(connection: sqlite3.Connection, group: Sequence[int]) -> set[int]:
    """Whom splits have taken entries from or given some to, beside these identities."""
    rows = connection.execute(
        f"""SELECT source FROM aliases WHERE target IN {MANY}
        UNION SELECT target FROM aliases WHERE source IN {MANY}
        UNION SELECT identity FROM moved JOIN aliases ON aliases.id = alias WHERE target IN {MANY}""",
        [many(group)] * 3,
    )
    return {row[0] for row in rows} - {*group}


def _delete_people(connection: sqlite3.Connection, group: Sequence[int]) -> None:
    """Delete identities that have no entries any more, with sightings, merges and splits."""
    they = many(group)
    involved = f"aliases WHERE source IN {MANY} OR target IN {MANY}"
    of_them = f"identity IN {MANY} OR alias IN (SELECT id FROM {involved})"
    connection.execute(f"DELETE FROM moved WHERE {of_them}", [they] * 3)
    connection.execute(f"DELETE FROM {involved}", [they] * 2)
    for statement in (
        "DELETE FROM sightings WHERE identity IN",
        "INSERT INTO outbox (kind, entry, uuid) SELECT 'gone', id, key FROM identities WHERE id IN",
        "UPDATE identities SET merged_into = NULL WHERE id IN",
        "DELETE FROM identities WHERE id IN",
    ):
        connection.execute(f"{statement} {MANY}", (they,))


def obey(connection: sqlite3.Connection, ids: Sequence[str], now: float) -> int:
    """Forget whom another site has forgotten: keys of people and uuids of entries, known here or not."""
    count = 0
    for each in ids:
        number = number_of(connection, each)
        count += 0 if number is None else forget(connection, number, now)
    connection.executemany("INSERT OR IGNORE INTO tombstones VALUES (?, ?)", [(each, now) for each in ids])
    count += delete(connection, entries_of(connection, ids))
    if count:
        leave_no_copy(connection)
    return count


def tell_people(connection: sqlite3.Connection, *identities: int) -> None:
    """Note that these identities changed, and so perhaps whom entries show."""
    connection.executemany("INSERT INTO outbox (kind, entry) VALUES ('people', ?)", [(i,) for i in identities])


def prune_outbox(connection: sqlite3.Connection) -> None:
    """Drop the lines that every mirror has acknowledged and that are not among the last."""
    connection.execute("DELETE FROM mirrors WHERE seq < (SELECT max(seq) FROM outbox) - ?", (MOST_LINES,))
    connection.execute(
        """DELETE FROM outbox WHERE seq <= min((SELECT coalesce(max(seq), 0) - ? FROM outbox),
        (SELECT coalesce(min(seq), 9223372036854775807) FROM mirrors))""",
        (KEPT_LINES,),
    )
