"""How long the gallery keeps what, by whichever clock."""

from __future__ import annotations

import logging
import math

import pytest

from galleries import HOUR, NOW, on_disk, rows
from pat.base.errors import UserError
from vectors import units


def test_enrolled_people_keep_their_own_retention(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(1), identity="enrolled", camera="desk", time=NOW, keep_for=math.inf)
        gallery.add(units(1, 1), identity="seen", camera="gate", time=NOW)
    clock.now += 25 * HOUR
    with reopen(retention=HOUR) as gallery:
        assert [each.identity for each in gallery.identities()] == ["enrolled"]
        assert gallery.expire(math.inf) == 0
        assert gallery.forget("enrolled") == 1


def test_expire_deletes_what_is_older(gallery):
    gallery.add(units(3), identity=["a", "b", "c"], camera="gate", time=[NOW - 30, NOW - 20, NOW - 10])
    assert gallery.expire(NOW - 20) == 1  # the entry of that very moment stays
    assert sorted(each.identity for each in gallery.identities()) == ["b", "c"]
    assert gallery.expire(math.inf) == 2
    with pytest.raises(UserError, match="NaN"):
        gallery.expire(math.nan)


def test_expire_spares_who_was_merged_with_somebody_who_is_kept(gallery):
    gallery.add(units(2), identity=["a", "b"], camera="gate", time=NOW)
    gallery.merge("a", "b")
    gallery.merge("b", "anna")
    assert gallery.expire(NOW + 1) == 0
    assert gallery.count("anna") == 2


def test_who_is_enrolled_is_kept_whichever_of_two_is_merged_into_the_other(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(1), identity="anna", camera="desk", time=NOW, keep_for=math.inf)
        gallery.add(units(1, 1), identity="gate-1", camera="gate", time=NOW)
        made = gallery.merge("anna", "gate-1").number
        clock.now += 25 * HOUR
        gallery.sweep()
        assert gallery.kept() == ["gate-1"]
        assert gallery.count("gate-1") == 2
    with reopen() as gallery:
        assert gallery.expire(math.inf) == 0
        gallery.undo(made)
        assert gallery.kept() == ["anna"]
        gallery.sweep()
        assert [each.identity for each in gallery.identities()] == ["anna"]  # of gate-1 nobody had said it


def test_sightings_live_as_long_as_their_person(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(3), identity=["gate-1", "gate-2", "hall-1"], camera="gate", time=NOW)
        gallery.add(units(1, 1), identity="bob", camera="enrolled", time=NOW, keep_for=HOUR)
        for name in ("gate-1", "gate-2", "hall-1", "bob"):
            gallery.saw(gallery.key_of(name), "gate", first=NOW, last=NOW + 5, score=None)
        gallery.merge("gate-1", "anna")
        gallery.merge("hall-1", "gate-2")
        clock.now += 2 * HOUR
        gallery.sweep()
        assert rows(gallery, "sightings") == 3  # bob's is gone, and bob
        assert gallery.key_of("bob") is None
        clock.now += 48 * HOUR
        gallery.sweep()
        assert rows(gallery, "sightings") == 1
        assert [each.identity for each in gallery.identities()] == ["anna"]
        assert rows(gallery, "identities") == 2  # gate-1, who is anna; and neither gate-2 nor hall-1
        assert len(gallery.aliases()) == 1
    with reopen() as gallery:
        assert gallery.kept() == ["anna"]


def test_a_split_can_be_taken_back_as_long_as_there_is_something_to_give_back(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(1), identity="A", camera="gate", time=NOW - 20 * HOUR)
        ids = gallery.add(units(1, 1), identity="A", camera="gate", time=NOW)
        split = gallery.split(ids, "B")
        clock.now += 5 * HOUR  # nothing is left of A but what would come back
        assert gallery.sweep() == 1
        gallery.undo(split.number)
        assert gallery.count("A") == 1
        gallery.split(ids, "B")
        clock.now += 48 * HOUR
        assert gallery.sweep() == 1
        assert rows(gallery, "identities") == rows(gallery, "aliases") == rows(gallery, "moved") == 0


def test_no_reader_sees_an_entry_older_than_the_retention(reopen, clock):
    vectors = units(2)
    with reopen(retention=HOUR) as gallery:
        gallery.add(vectors, identity=["early", "late"], camera="gate", time=[NOW - HOUR + 30, NOW])
        clock.now += 31  # sooner than the next deletion: it is hidden, not yet deleted
        assert [match.identity for match in gallery.search(vectors[0], 1)] == ["late"]
        assert gallery.search(vectors[0], camera="gate", since=0.0)[0].identity == "late"
        assert gallery.count() == 1
        assert [record.identity for record in gallery.export()] == ["late"]
        assert [each.identity for each in gallery.identities()] == ["late"]
        assert on_disk(gallery) == 2
        clock.now += 60
        gallery.add(vectors[:0], identity="a", camera="gate", time=NOW)
        assert on_disk(gallery) == 1


def test_expired_entries_are_deleted_on_opening(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(1), identity="a", camera="gate", time=NOW)
    clock.now += 25 * HOUR
    with reopen() as gallery:
        assert on_disk(gallery) == 0


def test_without_a_retention_nothing_expires(reopen, clock):
    with reopen(retention=None) as gallery:
        gallery.add(units(1), identity="a", camera="gate", time=1.0)
        clock.now += 1e9
        assert gallery.count() == 1
    with reopen(retention=None) as gallery:
        assert gallery.count() == 1


def test_an_entry_ahead_of_the_clock_gets_the_clocks_time(gallery, caplog):
    with caplog.at_level(logging.WARNING):
        gallery.add(units(1), identity="ahead", camera="gate", time=NOW + 10 * HOUR)
    assert "36000 s ahead of the clock" in caplog.text
    gallery.add(units(1), identity="a little", camera="gate", time=NOW + 59)
    assert {record.identity: record.time for record in gallery.export()} == {"ahead": NOW, "a little": NOW + 59}


def test_a_clock_that_was_set_back_hides_and_keeps(reopen, clock, monkeypatch):
    vector = units(1)
    with reopen() as gallery:
        gallery.add(vector, identity="tomorrow's", camera="gate", time=NOW)
    clock.now -= 30 * HOUR
    with reopen() as gallery:
        assert (gallery.count(), gallery.search(vector[0])) == (0, [])
        clock.now += 30 * HOUR
        assert gallery.count() == 1
        clock.now -= 30 * HOUR
        # After a day in this process the entry is a day old at least, whatever the clocks say.
        up = gallery._known[0] + 25 * HOUR
        monkeypatch.setattr("deploy.gallery.gallery.clocks.monotonic", lambda: up)
        clock.now += 61
        gallery.sweep()
        assert on_disk(gallery) == 0


def test_a_clock_that_is_set_back_takes_nothing_that_is_young_or_kept(gallery, clock, monkeypatch):
    up = gallery._known[0]
    monkeypatch.setattr("deploy.gallery.gallery.clocks.monotonic", lambda: up)
    gallery.add(units(1), identity="enrolled", camera="desk", time=NOW, keep_for=math.inf)
    for _ in range(2):  # a day and a day more in one process, the clock an hour behind each time
        up += 25 * HOUR
        clock.now += 25 * HOUR
        gallery.add(units(1, 1), identity="just seen", camera="gate", time=clock.now)
        clock.now -= HOUR
        gallery.sweep()
        assert on_disk(gallery) == 2
        clock.now += HOUR
        assert gallery.count("just seen") == 1
        gallery.forget("just seen")
    gallery.add(units(1, 1), identity="tomorrow's", camera="gate", time=clock.now)
    clock.now -= 100 * HOUR
    for days, left in ((25, 2), (50, 1)):  # after two retentions at the latest, while the clock says it is to come
        up += days * HOUR
        gallery.sweep()
        assert on_disk(gallery) == left


def test_a_retention_that_was_changed_is_kept(reopen, caplog):
    with reopen(retention=24 * HOUR):
        pass
    with reopen(retention=HOUR):
        assert "are now kept for 60 minutes, no longer for 24 h" in caplog.text
    caplog.clear()
    with reopen(retention=HOUR):
        assert not caplog.text
