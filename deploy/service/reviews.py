"""Matches that a person should look at, and what follows from the answer."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from dataclasses import dataclass

import numpy as np

from deploy.gallery import Gallery, aliases, changes
from deploy.gallery.changes import GROUP
from deploy.gallery.entries import LONGEST_NAME
from deploy.service.models import Answer, Kind
from deploy.service.people import NotThere, People, Person, number_of
from deploy.service.store import Store
from pat.base.errors import UserError

log = logging.getLogger(__name__)

BAND = 0.06
"""Cosines this near to the threshold are asked about."""
MOST_OPEN = 500
"""Questions that wait for an answer; the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class Question:
    """Are these two the same person?

    recognised: a track was taken for `candidate` by a small margin; `subject` is the same person until somebody
    says "different", which gives what was stored of the track to a new identity. new: a track became the person
    `subject` though `candidate` is nearly like it; "same" merges them.
    """

    id: int
    time: float
    kind: Kind
    camera: str
    subject: Person
    candidate: Person
    entry: str | None
    """What was stored of the track, as long as it is there."""
    score: float
    answer: Answer | None


class Reviews:
    """The queue of a gallery; safe to use from several threads."""

    def __init__(self, store: Store, gallery: Gallery, people: People) -> None:
        self._store, self._gallery, self._people = store, gallery, people

    def consider(
        self, key: str, camera: str, when: float, score: float | None, *, new: bool, least: float
    ) -> None:
        """A track has ended as this person: ask, if that is uncertain. `least` is the threshold."""
        entry = self.entry_at(key, camera, when)
        if new:
            self._consider_new(key, camera, when, entry, least)
        elif score is not None and score < least + BAND and entry is not None:
            self._ask("recognised", camera, when, key, key, entry[1], score)

    def open(self, limit: int, after: int = 0, *, answered: bool = False) -> list[Question]:
        """Questions that wait, oldest first, or those that were answered, newest first."""
        order = (
            "answer IS NOT NULL AND (? = 0 OR id < ?) ORDER BY id DESC"
            if answered
            else ("answer IS NULL AND (? = 0 OR id > ?) ORDER BY id")
        )
        rows = self._store.rows(
            f"""SELECT id, time, kind, camera, subject, candidate, entry, score, answer FROM service_reviews
            WHERE {order} LIMIT ?""",
            after, after, limit,
        )  # fmt: skip
        people = self._people.by_number()
        return [
            Question(id, when, kind, camera, people[subject], people[candidate], entry, score, answer)
            for id, when, kind, camera, subject, candidate, entry, score, answer in rows
            if subject in people and candidate in people
        ]

    def count(self) -> int:
        """Questions that wait for an answer."""
        return int(self._store.value("SELECT count(*) FROM service_reviews WHERE answer IS NULL"))

    def answer(self, review: int, answer: Answer) -> None:
        """Do what the answer asks for, once. Raises NotThere, or UserError when it was answered before."""
        with self._store.changing() as connection:
            row = connection.execute(
                "SELECT kind, entry, subject, candidate, answer FROM service_reviews WHERE id = ?", (review,)
            ).fetchone()
            if row is None:
                raise NotThere(f"there is no question {review}")
            kind, entry, subject, candidate, before = row
            if before is not None:
                raise UserError(f"question {review} was answered already; take the answer back first")
            alias = None
            if kind == "new":
                alias = _joined(connection, subject, candidate, answer)
            elif answer == "different":
                alias = _split_off(connection, entry, subject)
            connection.execute(
                "UPDATE service_reviews SET answer = ?, answered = ?, alias = ? WHERE id = ?",
                (answer, time.time(), alias, review),
            )
        self._changed()

    def take_back(self, review: int) -> None:
        """Undo an answer and what it did. Raises NotThere when there is none."""
        with self._store.changing() as connection:
            row = connection.execute(
                "SELECT alias FROM service_reviews WHERE id = ? AND answer IS NOT NULL", (review,)
            ).fetchone()
            if row is None:
                raise NotThere(f"question {review} has no answer to take back")
            if row[0] is not None:
                aliases.undo(connection, row[0], time.time())
            connection.execute(
                "UPDATE service_reviews SET answer = NULL, answered = NULL, alias = NULL WHERE id = ?", (review,)
            )
        self._changed()

    def entry_at(self, key: str, camera: str, when: float) -> tuple[int, str, np.ndarray] | None:
        """Number, id and vector of what was stored of a person by a camera at this moment (to a millisecond)."""
        with self._store.reading() as connection:
            if (number := number_of(connection, key)) is None:
                return None
            row = connection.execute(
                f"""SELECT id, uuid, vector FROM entries
                WHERE identity IN ({GROUP}) AND camera = ? AND abs(time - ?) < 0.001""",
                (number, camera, when),
            ).fetchone()
        return None if row is None else (row[0], row[1], np.frombuffer(row[2], dtype="<f4"))

    def _changed(self) -> None:
        self._gallery.refresh()
        self._people.forget_what_was_read()

    def _consider_new(
        self, key: str, camera: str, when: float, entry: tuple[int, str, np.ndarray] | None, least: float
    ) -> None:
        if entry is None:
            return
        others = self._gallery.people(entry[2], 1, exclude=[key])
        if others and others[0].score >= least - BAND:
            self._ask("new", camera, when, key, others[0].key, entry[1], others[0].score)

    def _ask(
        self, kind: Kind, camera: str, when: float, subject: str, candidate: str, entry: str, score: float
    ) -> None:
        with self._store.changing() as connection:
            connection.execute(
                """INSERT INTO service_reviews (time, kind, camera, subject, candidate, entry, score)
                SELECT ?, ?, ?, s.id, c.id, ?, ? FROM identities s, identities c WHERE s.key = ? AND c.key = ?""",
                (when, kind, camera, entry, score, subject, candidate),
            )
            connection.execute(
                """DELETE FROM service_reviews WHERE answer IS NULL AND id <= (SELECT max(id) FROM service_reviews
                WHERE answer IS NULL) - ?""",
                (MOST_OPEN,),
            )


def _joined(connection: sqlite3.Connection, subject: int, candidate: int, answer: Answer) -> int | None:
    """What an answer about a new person changes; who the two are is looked up now, long after the question."""
    subject, candidate = changes.owner_of(connection, subject), changes.owner_of(connection, candidate)
    if answer == "same" and subject != candidate:
        own, other = (changes.retention_of(connection, each) for each in (subject, candidate))
        if own is not None and other is None:  # who has a name is kept, by that name
            subject, candidate = candidate, subject
        return aliases.join(connection, subject, candidate, time.time())
    if answer == "different" and subject == candidate:
        raise UserError("the two were made one person since; take that change back instead")
    return None


def _split_off(connection: sqlite3.Connection, entry: str, subject: int) -> int | None:
    """Give what was stored of a track to somebody new, unless it is somebody else's by now."""
    row = connection.execute("SELECT identity FROM entries WHERE uuid = ?", (entry,)).fetchone()
    if row is None:
        raise NotThere("what was stored of this track is gone")
    subject = changes.owner_of(connection, subject)
    if changes.owner_of(connection, row[0]) != subject:
        return None
    name = connection.execute("SELECT name FROM identities WHERE id = ?", (subject,)).fetchone()[0]
    marked = f" (not) {secrets.token_hex(2)}"
    return aliases.split(connection, [entry], name[: LONGEST_NAME - len(marked)] + marked, time.time())
