"""Who is told of, for how long."""

from __future__ import annotations

import math
import threading
import time

import numpy as np

from deploy.gallery import Gallery
from deploy.service.people import People
from deploy.service.store import Store


def test_who_was_enrolled_for_an_hour_is_not_kept_and_is_gone_after_it(tmp_path):
    now = [time.time()]
    vectors = np.eye(3, 8, dtype=np.float32)
    with (
        Gallery.open(tmp_path / "gallery", dimension=8, model="test") as gallery,
        Store(tmp_path / "gallery") as store,
    ):
        gallery.add(vectors[:1], identity="anna", camera="enrolled", time=now[0], keep_for=math.inf)
        gallery.add(vectors[1:2], identity="bob", camera="enrolled", time=now[0], keep_for=3600.0)
        gallery.add(vectors[2:], identity="gate-1", camera="gate", time=now[0])
        people = People(store, 86400.0, clock=lambda: now[0])

        def shown() -> dict[str, bool]:
            people._version = -1
            people.forget_what_was_read()
            return {each.name: each.kept for each in people.everybody()}

        assert shown() == {"anna": True, "bob": False, "gate-1": False}
        (bob,) = (each for each in people.everybody() if each.name == "bob")
        now[0] += 7200
        assert shown() == {"anna": True, "gate-1": False}
        assert people.entries(bob) == []
        now[0] += 86400
        assert shown() == {"anna": True}


def test_what_was_changed_while_another_thread_read_is_seen(tmp_path, monkeypatch):
    """Fifty clients read at once: one of them is always at it."""
    with (
        Gallery.open(tmp_path / "gallery", dimension=8, model="test") as gallery,
        Store(tmp_path / "gallery") as store,
    ):
        gallery.add(np.eye(1, 8, dtype=np.float32), identity="gate-1", camera="gate", time=time.time())
        people, reading, changed = People(store, 86400.0), threading.Event(), threading.Event()
        summaries = people._summaries

        def slowly(connection):
            found = summaries(connection)
            reading.set()
            changed.wait(0.5)
            return found

        monkeypatch.setattr(people, "_summaries", slowly)
        reader = threading.Thread(target=people.everybody)
        reader.start()
        assert reading.wait(10)
        change = gallery.merge("gate-1", "anna")
        people.forget_what_was_read()
        changed.set()
        reader.join()
        (anna,) = people.everybody()
        assert anna.name == "anna"
        assert gallery.undo(change.number)
        people.forget_what_was_read()
        assert people.person(gallery.key_of("gate-1")).name == "gate-1"


def test_somebody_new_is_there_as_soon_as_an_event_may_tell_of_it(tmp_path):
    with (
        Gallery.open(tmp_path / "gallery", dimension=8, model="test") as gallery,
        Store(tmp_path / "gallery") as store,
    ):
        people = People(store, 86400.0)
        assert people.everybody() == []
        gallery.add(np.eye(1, 8, dtype=np.float32), identity="gate-1", camera="gate", time=time.time())
        assert people.person(gallery.key_of("gate-1")).name == "gate-1"
