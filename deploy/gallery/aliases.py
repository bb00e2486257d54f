"""Merges and splits of identities, inside a transaction of `deploy.gallery.database`, and taking them back."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence

from deploy.gallery.changes import find, identity_of, tell_people
from deploy.gallery.database import many
from pat.base.errors import UserError


def merge(connection: sqlite3.Connection, source: str, target: str, now: float) -> int | None:
    """Make `target` the name of `source` too; the alias, or None where nobody is called so.

    A person who is given a name that nobody has is kept for good: somebody took the trouble.
    """
    if (found := find(connection, source)) is None:
        return None
    row = connection.execute("SELECT id, merged_into FROM identities WHERE name = ?", (target,)).fetchone()
    if row is not None and row[1] is not None:
        raise UserError(f"{target!r} was merged into another identity itself; name that one")
    return join(connection, found, identity_of(connection, target, math.inf) if row is None else int(row[0]), now)


def join(connection: sqlite3.Connection, source: int, target: int, now: float) -> int:
    """Make one person of two, neither of whom was merged into another; the alias."""
    connection.execute("UPDATE identities SET merged_into = ? WHERE id = ?", (target, source))
    return _alias(connection, "merge", now, source, target)


def split(connection: sqlite3.Connection, uuids: Sequence[str], name: str, now: float) -> int | None:
    """Give entries to another identity; the alias, or None where there is none of them."""
    rows = connection.execute(
        "SELECT entries.id, identity FROM json_each(?) JOIN entries ON uuid = value ORDER BY key", (many(uuids),)
    ).fetchall()
    if not rows:
        return None
    into = identity_of(connection, name)
    alias = _alias(connection, "split", now, rows[0][1], into)
    connection.executemany("INSERT INTO moved VALUES (?, ?, ?)", [(alias, *row) for row in rows])
    connection.executemany("UPDATE entries SET identity = ? WHERE id = ?", [(into, row[0]) for row in rows])
    _tell_moved(connection, alias)
    return alias


def undo(connection: sqlite3.Connection, alias: int, now: float) -> bool:
    """Take back a merge or a split; whether there was one.

    Of a merge stays when that was: another site may still hold that the two are one.
    """
    row = connection.execute(
        "SELECT kind, source, target FROM aliases WHERE id = ? AND kind != 'undone'", (alias,)
    ).fetchone()
    if row is None:
        return False
    newer = connection.execute(
        """SELECT max(newer.alias) FROM moved JOIN moved newer ON newer.entry = moved.entry
        WHERE moved.alias = ? AND newer.alias > moved.alias""",
        (alias,),
    ).fetchone()[0]
    if newer is not None:
        raise UserError(f"change {newer} has moved the same entries since {alias}; take that one back first")
    if row[0] == "merge":
        connection.execute("UPDATE identities SET merged_into = NULL WHERE id = ?", (row[1],))
        connection.execute("DELETE FROM aliases WHERE kind = 'undone' AND source = ?", (row[1],))
        connection.execute("UPDATE aliases SET kind = 'undone', time = ? WHERE id = ?", (now, alias))
    connection.execute(
        """UPDATE entries SET identity = (SELECT identity FROM moved WHERE alias = ? AND entry = entries.id)
        WHERE id IN (SELECT entry FROM moved WHERE alias = ?)""",
        (alias, alias),
    )
    _tell_moved(connection, alias)
    connection.execute("DELETE FROM moved WHERE alias = ?", (alias,))
    connection.execute("DELETE FROM aliases WHERE id = ? AND kind = 'split'", (alias,))
    tell_people(connection, *row[1:])
    return True


def _tell_moved(connection: sqlite3.Connection, alias: int) -> None:
    connection.execute(
        """INSERT INTO outbox (kind, entry, uuid)
        SELECT 'move', id, uuid FROM entries WHERE id IN (SELECT entry FROM moved WHERE alias = ?)""",
        (alias,),
    )


def _alias(connection: sqlite3.Connection, kind: str, now: float, source: int, target: int) -> int:
    alias = connection.execute(
        "INSERT INTO aliases (kind, time, source, target) VALUES (?, ?, ?, ?)", (kind, now, source, target)
    ).lastrowid
    assert alias is not None
    tell_people(connection, source, target)
    return alias
