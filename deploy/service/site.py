"""One site: its gallery, its cameras, and what the API does with them."""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.events import Event
from deploy.gallery import Change
from deploy.gallery.changes import GROUP
from deploy.gallery.database import FILE
from deploy.gallery.entries import checked_name
from deploy.gallery.fingerprint import fingerprint
from deploy.gallery.threshold import ErrorRates
from deploy.pipeline import Parts
from deploy.rates import Rates
from deploy.service.access import WRONG_TOKENS, Audit, Rate, Sessions, Tokens
from deploy.service.live import Live
from deploy.service.models import Model, Receipt, Storage, view_of
from deploy.service.people import NotThere, People, Person
from deploy.service.photos import Photos
from deploy.service.reviews import Reviews
from deploy.service.settings import ServiceSettings
from deploy.service.store import Store
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

LITTLE_SPACE = 500_000_000
"""Bytes on the gallery's disk below which storage is in trouble."""
NEW_TRACKS = 10_000
"""Tracks remembered as having become new people, until they leave."""


class Taken(UserError):
    """A name that somebody else has."""


class Site:
    """Made when the cameras' parts exist; safe to use from several threads."""

    def __init__(
        self, parts: Parts, settings: ServiceSettings, store: Store, live: Live, photos: Photos,
        error_rates: ErrorRates,
    ) -> None:  # fmt: skip
        self.parts, self.settings, self.store, self.live, self.photos = parts, settings, store, live, photos
        self.gallery, self.error_rates = parts.gallery, error_rates
        self.people = People(store, parts.gallery.facts.retention)
        self.reviews = Reviews(store, parts.gallery, self.people)
        self.tokens = Tokens(store)
        self.sessions = Sessions(self.tokens, settings.access.session_hours)
        self.audit = Audit(store, settings.keep.audit_days)
        self.wrong_tokens = Rate(WRONG_TOKENS / 60, WRONG_TOKENS)
        """Wrong tokens of an address."""
        self.started = time.time()
        self.rates: Rates | None = None
        self._new: dict[int, None] = {}
        self.configured_threshold = parts.recogniser.threshold
        self._take_up_threshold()

    def enrich(self, event: Event) -> Mapping[str, Any]:
        """More fields for an event; keeps its view, asks a question where one is due. On the journal's thread."""
        if event.track is None:
            return {}
        if event.event == "new":
            self._new[event.track] = None
            while len(self._new) > NEW_TRACKS:
                del self._new[next(iter(self._new))]
        more: dict[str, Any] = {}
        last = event.event == "left"
        try:
            if event.stored and event.key is not None and event.event in ("new", "revised", "left"):
                more.update(self._keep_view(event, last))
            if last and event.key is not None:
                self.reviews.consider(
                    event.key, event.camera, event.time, event.score,
                    new=event.track in self._new, least=self.parts.recogniser.threshold,
                )  # fmt: skip
        except (UserError, Failure) as error:
            log.error("an event's view or question is lost: %s", error)
        if last:
            self._new.pop(event.track, None)
            self.live.best_crop(event.track, last=True)
        return more

    def _keep_view(self, event: Event, last: bool) -> Mapping[str, Any]:
        assert event.key is not None
        assert event.track is not None
        entry = self.reviews.entry_at(event.key, event.camera, event.time)
        if entry is None:
            return {}
        crop = self.live.best_crop(event.track, last=last)
        if crop is None:
            return {"entry": entry[1]}
        self.store.change("INSERT OR REPLACE INTO service_views VALUES (?, ?, ?)", entry[0], *crop)
        return {"entry": entry[1], "view": view_of(entry[1])}

    def rename(self, person: Person, name: str) -> int:
        """Call a person by a name that nobody has; the number to take it back with. Raises Taken, UserError."""
        name = checked_name("name", name)
        if name == person.name:
            raise UserError(f"the person is called {name} already")
        if self.gallery.key_of(name) is not None:
            raise Taken(f"somebody else is called {name}; merge the two if they are one person")
        return self._changed(self.gallery.merge(person.name, name), person)

    def merge(self, person: Person, into: Person) -> int:
        """Make one of two people; the number to take it back with."""
        if person.number == into.number:
            raise UserError(f"{person.name} cannot be merged with itself")
        return self._changed(self.gallery.merge(person.name, into.name), person)

    def split(self, person: Person, entries: Sequence[str], name: str) -> int:
        """Give entries of a person to another; the number to take it back with."""
        theirs = {each.id for each in self.people.entries(person, limit=10_000)}
        if not entries or not theirs.issuperset(entries):
            raise NotThere(f"{person.name} does not have all of these entries")
        return self._changed(self.gallery.split(list(entries), name), person)

    def undo(self, change: int) -> None:
        """Take back a merge, a split or a new name. Raises NotThere."""
        if not self.gallery.undo(change):
            raise NotThere(f"there is no change {change}")
        self.people.forget_what_was_read()

    def forget(self, person: Person) -> Receipt:
        """Delete a person for good, and say what was. Raises Failure when the disk still holds some of it."""
        with self.store.reading() as connection:

            def count(what: str) -> int:
                return int(connection.execute(f"SELECT count(*) FROM {what}", (person.number,)).fetchone()[0])

            theirs = f"WHERE identity IN ({GROUP})"
            found = connection.execute(f"SELECT key FROM identities WHERE id IN ({GROUP})", (person.number,))
            receipt = Receipt(
                id=str(uuid.uuid4()), time=time.time(), entries=count(f"entries {theirs}"),
                views=count(f"service_views WHERE entry IN (SELECT id FROM entries {theirs})"),
                sightings=count(f"sightings {theirs}"),
                events=count(f"service_events WHERE key IN (SELECT key FROM identities WHERE id IN ({GROUP}))"),
                reviews=count(f"service_reviews WHERE subject IN ({GROUP})"),
                keys=[row[0] for row in found],
            )  # fmt: skip
        self.gallery.forget(person.name)
        self.store.change(
            "INSERT INTO service_receipts VALUES (?, ?, ?)", receipt.id, receipt.time, receipt.model_dump_json()
        )
        self.people.forget_what_was_read()
        return receipt

    def receipt(self, id: str) -> Receipt:
        """A receipt given before. Raises NotThere."""
        body = self.store.value("SELECT body FROM service_receipts WHERE id = ?", id)
        if body is None:
            raise NotThere(f"there is no receipt {id}")
        return Receipt.model_validate_json(body)

    def set_threshold(self, threshold: float) -> None:
        """Decide by this cosine from now on, also after a restart, until the configuration changes."""
        self.parts.recogniser.threshold = threshold
        choice = json.dumps({"configured": self.configured_threshold, "chosen": threshold})
        self.store.change("INSERT OR REPLACE INTO service_choices VALUES ('threshold', ?)", choice)

    def _take_up_threshold(self) -> None:
        value = self.store.value("SELECT value FROM service_choices WHERE name = 'threshold'")
        choice, configured = json.loads(value or "{}"), self.configured_threshold
        if choice.get("configured") == configured and choice["chosen"] != configured:
            self.parts.recogniser.threshold = choice["chosen"]
            log.info("threshold %g, chosen on the page (configured: %g)", choice["chosen"], configured)

    def storage(self) -> Storage:
        """How the gallery's disk does."""
        folder = self.store.folder
        free = shutil.disk_usage(folder).free
        size = sum(each.stat().st_size for each in folder.glob(f"{FILE}*"))
        return Storage(
            entries=self.gallery.count(), mapped=self.gallery.count_mapped(), bytes=size,
            free_bytes=free, ok=free > LITTLE_SPACE,
        )  # fmt: skip

    def model(self) -> Model:
        """Which model, and whether it works."""
        manifest, broken = self.parts.manifest, self.parts.embedder.broken_for
        return Model(
            bundle=self.parts.bundle.name, fingerprint=fingerprint(manifest), numbers=manifest.output.size,
            precision=manifest.precision.name, broken_for=broken, ok=broken == 0,
        )  # fmt: skip

    def _changed(self, change: Change | None, person: Person) -> int:
        self.people.forget_what_was_read()
        if change is None:
            raise NotThere(f"{person.name} is not there any more")
        return change.number
