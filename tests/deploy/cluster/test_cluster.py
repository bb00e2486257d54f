"""Sites on one cluster: what is sent, what is found, what is forgotten; in local mode and over a socket."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from cluster_sites import MODEL, unit
from deploy.cluster.cluster import CONTROL, ENTRIES
from deploy.cluster.records import PersonRecord, newest_of, resolved
from deploy.cluster.sync import alone, no_mirror
from deploy.gallery import restore
from pat.base.errors import Failure, UserError


def held(site, collection=ENTRIES + MODEL) -> dict:
    """Everything in a collection, by id."""
    points, _ = site.cluster._client.scroll(collection, limit=10_000, with_vectors=True)
    return {str(each.id): each for each in points}


def test_a_person_of_one_site_is_found_by_another_and_by_name(sites):
    harbour, station = sites("harbour"), sites("station")
    entry = harbour.meet("anna", 1, camera="pier", keep_for=math.inf)
    harbour.meet("gate-1", 2)
    harbour.sync.round()
    station.sync.round()
    (found,) = station.asks(1)
    assert (found.site, found.name, found.camera) == ("harbour", "anna", "pier")
    assert found.key == harbour.gallery.key_of("anna")
    assert found.score == pytest.approx(1, abs=1e-5)
    assert harbour.asks(1) == []  # its own people are no news
    assert station.asks(3) == []
    points = held(harbour)
    assert "expires" not in points[entry].payload
    assert {each.payload["expires"] - each.payload["time"] for key, each in points.items() if key != entry} == {
        86400
    }
    assert not {"name", "identity", "note"} & set(points[entry].payload)


def test_many_entries_of_one_person_hide_nobody(sites):
    harbour, station = sites("harbour"), sites("station")
    for _ in range(60):
        harbour.meet("anna", 1)
    harbour.meet("bert", 2)
    harbour.sync.round()
    asked = unit(1) + 0.5 * unit(2)
    found = station.cluster.search(asked / np.linalg.norm(asked), 5, 0.1, time.time())
    assert [each.name for each in found] == ["anna", "bert"]


def test_each_round_sends_what_changed_and_a_repeated_one_changes_nothing(sites):
    site = sites("harbour")
    entries = [site.meet(f"p{n}", n) for n in range(140)]
    site.sync.round()
    before = {id: each.payload for id, each in held(site).items()}
    assert set(before) == set(entries)
    assert site.sync.waiting() == 0
    with site.database.changing() as connection:  # as if killed before the place was noted
        connection.execute("UPDATE mirrors SET seq = 0")
    site.sync.round()
    assert {id: each.payload for id, each in held(site).items()} == before
    site.gallery.remove(entries[:10])
    site.meet("p139", 1000)
    site.sync.round()
    assert len(held(site)) == 131
    assert set(held(site)) >= set(entries[10:])


def test_a_name_and_a_merge_are_told_and_change_how_long_entries_live(sites):
    harbour, station = sites("harbour"), sites("station")
    entry = harbour.meet("gate-1", 1)
    harbour.sync.round()
    station.sync.round()
    assert "expires" in held(harbour)[entry].payload
    harbour.gallery.merge("gate-1", "anna")
    harbour.sync.round()
    assert [each.name for each in station.asks(1)] == ["anna"]
    assert "expires" not in held(harbour)[entry].payload
    harbour.gallery.undo(harbour.gallery.aliases()[0][0])
    harbour.sync.round()
    assert [each.name for each in station.asks(1)] == ["gate-1"]
    assert "expires" in held(harbour)[entry].payload


def test_what_has_expired_is_not_found_and_is_deleted_whoever_brought_it(sites):
    clock = [time.time()]
    harbour, station = sites("harbour", retention=100.0, clock=lambda: clock[0]), sites("station")
    depot = sites("depot")
    harbour.meet("gate-1", 1, ago=50)
    harbour.sync.round()
    now = time.time()
    assert station.cluster.search(unit(1), 5, 0.9, now)
    assert not station.cluster.search(unit(1), 5, 0.9, now + 60)
    depot.cluster.keep_house(0, now + 60)
    assert len(held(station)) == 1  # one clock may be ahead
    station.cluster.keep_house(0, now + 60)  # the site that brought it never comes back
    assert held(station) == {}
    clock[0] += 200
    harbour.gallery.sweep()
    harbour.sync.round()
    assert [each.payload["kind"] for each in held(harbour, CONTROL).values()] == ["site"] * 3


def test_whoever_is_forgotten_anywhere_is_forgotten_everywhere_and_each_site_says_so(sites, tmp_path):
    harbour, station, depot = sites("harbour"), sites("station"), sites("depot")
    harbour.meet("anna", 1, keep_for=math.inf)
    harbour.meet("anna", 2, keep_for=math.inf)
    harbour.gallery.backup(tmp_path / "copy.sqlite")
    restore(tmp_path / "copy.sqlite", tmp_path / "late")
    late = sites("late")  # has the same people, and is away
    assert late.node != harbour.node
    for site in (harbour, station, depot):
        site.sync.round()
    assert station.asks(1)
    harbour.gallery.forget("anna")
    assert harbour.sync.waiting() > 0
    harbour.sync.round()
    assert held(harbour) == {}
    assert station.asks(1) == []
    assert not [each for each in held(harbour, CONTROL).values() if "anna" in str(each.payload)]
    told = {each.site: each.unacknowledged for each in harbour.cluster.keep_house(0, time.time())}
    assert told == {"harbour": 0, "station": 3, "depot": 3}  # a person and two entries
    station.sync.round()
    late.meet("anna", 3)  # days later: another entry of a person whom all others have forgotten
    late.sync.round()
    assert late.gallery.count() == 0
    assert held(late) == {}
    told = {each.site: each.unacknowledged for each in harbour.cluster.keep_house(0, time.time())}
    assert told == {"harbour": 0, "station": 0, "depot": 3, "late": 0}


def test_whoever_is_forgotten_in_the_middle_of_a_round_gets_a_tombstone_too(sites, monkeypatch):
    harbour, station = sites("harbour"), sites("station")
    entry = harbour.meet("anna", 1)
    harbour.sync.round()
    key, obey = harbour.gallery.key_of("anna"), harbour.sync._obey

    def forget_after() -> None:
        obey()
        harbour.gallery.forget("anna")

    monkeypatch.setattr(harbour.sync, "_obey", forget_after)
    harbour.sync.round()
    assert harbour.sync.waiting() == 0
    assert sorted(station.cluster.orders()) == sorted([key, entry])


def test_a_tombstone_wins_over_what_is_written_later_by_mistake(sites):
    harbour, station = sites("harbour"), sites("station")
    entry = harbour.meet("anna", 1)
    key = harbour.gallery.key_of("anna")
    harbour.sync.round()
    point = held(harbour)[entry]
    harbour.gallery.forget("anna")
    harbour.sync.round()
    # A write that was on its way all the while.
    harbour.cluster._client.upsert(ENTRIES + MODEL, [_struct(harbour, entry, point)], wait=True)
    harbour.cluster.put_people([PersonRecord(key, "anna", None, 0.0)])
    assert station.asks(1) == []
    station.sync.round()
    assert held(station) == {}
    assert not [each for each in held(harbour, CONTROL).values() if "anna" in str(each.payload)]


def _struct(site, entry, point):
    return site.cluster._q.PointStruct(id=entry, vector=point.vector, payload=point.payload)


def test_a_restored_gallery_does_not_bring_back_the_forgotten(sites, tmp_path):
    harbour = sites("harbour")
    harbour.meet("anna", 1)
    harbour.meet("bert", 2)
    harbour.sync.round()
    harbour.gallery.backup(tmp_path / "copy.sqlite")
    harbour.gallery.forget("anna")
    harbour.sync.round()
    restore(tmp_path / "copy.sqlite", tmp_path / "again")
    again = sites("again")
    assert again.gallery.count("anna") == 1
    again.sync.round()
    assert again.gallery.count("anna") == 0
    assert [each.payload["node"] for each in held(again).values()] == [again.node]  # bert alone


def test_a_cluster_that_lost_everything_or_kept_too_much_is_set_right(sites):
    site = sites("harbour")
    kept, gone = site.meet("anna", 1), site.meet("bert", 2)
    site.sync.round()
    with site.database.changing() as connection:  # away for so long that the outbox was dropped
        connection.execute("DELETE FROM mirrors")
        connection.execute("DELETE FROM outbox")
    site.gallery.remove([gone])
    with site.database.changing() as connection:
        connection.execute("DELETE FROM outbox")
    site.sync.round()
    assert set(held(site)) == {kept}
    site.cluster._client.delete_collection(ENTRIES + MODEL)
    site.meet("carl", 3)
    with pytest.raises(Failure):
        site.sync.round()
    site.sync.round()
    assert len(held(site)) == 2


def test_records_of_people_who_are_gone_leave_with_the_next_full_round(sites):
    site, other = sites("harbour"), sites("station")
    site.meet("anna", 1)
    site.meet("bob", 2)
    other.meet("carl", 3)
    for each in (site, other):
        each.sync.round()
    no_mirror(site.database)  # away for so long that the outbox was dropped
    site.gallery.expire(time.time())
    site.meet("dora", 4)
    site.sync.round()
    people = [each.payload for each in held(site, CONTROL).values() if each.payload["kind"] == "person"]
    assert sorted(each["name"] for each in people) == ["carl", "dora"]


def test_a_merge_that_was_taken_back_holds_for_all_though_a_copy_still_has_it(sites, tmp_path):
    first, asking = sites("first"), sites("asking")
    first.meet("x", 5)
    first.meet("y", 6)
    merge = first.gallery.merge("x", "y")
    first.gallery.backup(tmp_path / "copy.sqlite")
    restore(tmp_path / "copy.sqlite", tmp_path / "second")
    second = sites("second")
    for each in (first, second):
        each.sync.round()
    first.gallery.undo(merge.number)
    for each in (first, second):
        each.sync.round()
    assert {each.name for each in asking.asks(5)} == {"x"}
    first.gallery.merge("x", "y")
    first.sync.round()
    assert {each.name for each in asking.asks(5)} == {"y"}
    assert not first.gallery.undo(merge.number)  # of then


def test_a_node_that_will_not_come_back_is_dismissed(sites):
    harbour, station = sites("harbour"), sites("station")
    harbour.meet("anna", 1, keep_for=math.inf)
    harbour.sync.round()
    station.sync.round()
    station.cluster.dismiss(harbour.node)
    assert held(station) == {}
    assert [each.site for each in station.cluster.keep_house(0, time.time())] == ["station"]


def test_models_never_meet(sites):
    harbour, station = sites("harbour"), sites("station", model="model-2")
    harbour.meet("anna", 1)
    harbour.sync.round()
    station.sync.round()
    assert station.asks(1) == []
    harbour.gallery.forget("anna")
    harbour.sync.round()
    assert held(harbour) == {}


def test_a_collection_of_another_dimension_is_refused(sites):
    site = sites("harbour")
    q = site.cluster._q
    site.cluster._client.create_collection(
        ENTRIES + MODEL, vectors_config=q.VectorParams(size=3, distance=q.Distance.DOT)
    )
    with pytest.raises(UserError, match="no collection of 16 numbers"):
        site.sync.round()


def test_one_process_sends_a_gallery(sites):
    site = sites("harbour")
    with alone(site.database), pytest.raises(UserError, match="another process sends"), alone(site.database):
        pass


def record(key, node, time, into=None):
    return {"key": key, "node": node, "time": time, **({"into": into} if into else {})}


def test_of_two_sites_that_merged_one_person_differently_the_newest_holds_for_all():
    said = [record("k", "a", 5.0, "l"), record("k", "b", 6.0, "m"), record("l", "a", 0.0), record("m", "b", 0.0)]
    for order in itertools.permutations(said):
        assert resolved("k", newest_of(order)) == "m"
    tied = [record("k", "a", 5.0, "l"), record("k", "b", 5.0, "m")]
    assert {resolved("k", newest_of(order)) for order in itertools.permutations(tied)} == {"m"}


def test_merges_in_a_circle_end_at_one_person_whoever_asks():
    said = newest_of([record("x", "a", 1.0, "y"), record("y", "b", 1.0, "z"), record("z", "c", 1.0, "x")])
    assert {resolved(each, said) for each in "xyz"} == {"x"}
    said = newest_of([record("w", "a", 1.0, "y"), record("x", "a", 1.0, "y"), record("y", "b", 1.0, "x")])
    assert {resolved(each, said) for each in "wxy"} == {"x"}
