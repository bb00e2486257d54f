"""The gallery: what it keeps, finds, hides and refuses."""

from __future__ import annotations

import logging
import math
import threading

import numpy as np
import pytest

from deploy.gallery import Gallery
from pat.base.errors import UserError
from vectors import units

DIMENSION = 16
NOW = 1_700_000_000.0
HOUR = 3600.0


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reopen(tmp_path, clock):
    """Opens one and the same gallery again and again; the values given replace the usual ones."""

    def again(**values):
        chosen = {"dimension": DIMENSION, "model": "model-a", "retention": 24 * HOUR, **values}
        return Gallery.open(tmp_path / "gallery", clock=clock, **chosen)

    return again


def rows(gallery: Gallery, table: str) -> int:
    with gallery._database.reading() as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def on_disk(gallery: Gallery) -> int:
    """Entries, also those that are hidden because they have expired."""
    return rows(gallery, "entries")


@pytest.fixture
def gallery(reopen):
    with reopen() as opened:
        yield opened


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A gallery that stays empty, for what is refused."""
    with Gallery.open(
        tmp_path_factory.mktemp("refusals") / "gallery", dimension=DIMENSION, model="model-a", clock=Clock()
    ) as opened:
        yield opened


def test_search_gives_cosines_best_first(gallery):
    vectors = units(40)
    names = [f"person {i}" for i in range(40)]
    ids = gallery.add(vectors, identity=names, camera="gate", time=NOW, note="first visit")
    query = units(1, seed=1)[0]
    found = gallery.search(query, 5)
    cosines = vectors @ query
    best = np.argsort(-cosines)[:5]
    assert [match.identity for match in found] == [names[i] for i in best]
    assert [match.id for match in found] == [ids[i] for i in best]
    np.testing.assert_allclose([match.score for match in found], cosines[best], atol=1e-6)
    assert (found[0].camera, found[0].time, found[0].note) == ("gate", NOW, "first visit")
    assert len(gallery.search(query, 100)) == 40


def test_cameras_and_times_limit_a_search(gallery):
    vector = units(1)
    for place, age in (("gate", 3), ("gate", 1), ("hall", 2)):
        gallery.add(vector, identity=f"{place}-{age}", camera=place, time=NOW - age * HOUR)

    def names(**limits):
        return sorted(match.identity for match in gallery.search(vector[0], **limits))

    assert names() == ["gate-1", "gate-3", "hall-2"]
    assert names(camera="gate") == ["gate-1", "gate-3"]
    assert names(exclude_camera="gate") == ["hall-2"]
    assert names(since=NOW - 2 * HOUR) == ["gate-1", "hall-2"]  # both ends belong to the window
    assert names(until=NOW - 2 * HOUR) == ["gate-3", "hall-2"]
    assert names(since=NOW - 2 * HOUR, until=NOW - 2 * HOUR) == ["hall-2"]
    assert names(camera="gate", since=NOW - 2 * HOUR) == ["gate-1"]
    assert names(camera="attic") == []


def test_what_was_added_is_there_after_reopening(reopen):
    vectors = units(3)
    with reopen() as gallery:
        ids = gallery.add(vectors, identity=["a", "b", "b"], camera=["x", "x", "y"], time=[NOW, NOW - 5, NOW - 9])
    with reopen() as gallery:
        records = {record.id: record for record in gallery.export()}
        people = list(gallery.identities())
    assert set(records) == set(ids)
    for one, vector, name in zip(ids, vectors, "abb", strict=True):
        np.testing.assert_allclose(records[one].vector, vector, atol=1e-6)
        assert records[one].identity == name
    assert [(each.identity, each.vectors, each.cameras) for each in people] == [
        ("a", 1, ("x",)),
        ("b", 2, ("x", "y")),
    ]
    assert (people[1].first, people[1].last) == (NOW - 9, NOW - 5)


def test_merge_gives_entries_to_another_identity(gallery):
    gallery.add(units(3), identity=["old", "old", "new"], camera="gate", time=NOW)
    assert gallery.merge("old", "new").entries == 2
    assert (gallery.count("old"), gallery.count("new")) == (0, 3)
    assert gallery.merge("old", "new") is None
    gallery.add(units(1), identity="old", camera="gate", time=NOW)  # of a track that was in view meanwhile
    assert (gallery.count("old"), gallery.count("new")) == (0, 4)
    with pytest.raises(UserError, match="cannot be merged with itself"):
        gallery.merge("new", "new")


def test_a_merge_is_undone(reopen):
    with reopen() as gallery:
        gallery.add(units(3), identity=["old", "old", "new"], camera="gate", time=NOW)
        made = gallery.merge("old", "new")
    with reopen() as gallery:
        ((number, kind, _, source, target),) = gallery.aliases()
        assert number == made.number
        assert (kind, source, target) == ("merge", "old", "new")
        assert gallery.undo(number)
        assert not gallery.undo(number)
        assert (gallery.count("old"), gallery.count("new"), gallery.aliases()) == (2, 1, [])


def test_a_split_is_undone(reopen):
    with reopen() as gallery:
        ids = gallery.add(units(3), identity="both", camera="gate", time=NOW)
        assert gallery.split(ids[:2], "bob").entries == 2
        assert gallery.split(["no such entry"], "bob") is None
        assert (gallery.count("both"), gallery.count("bob")) == (1, 2)
        assert gallery.search(units(3)[0], 1)[0].identity == "bob"
    with reopen() as gallery:
        assert gallery.count("bob") == 2
        gallery.undo(gallery.aliases()[0][0])
        assert (gallery.count("both"), gallery.count("bob")) == (3, 0)


def test_a_split_is_from_whose_entry_is_named_first(gallery):
    (one,), (other,) = (gallery.add(units(1), identity=name, camera="gate", time=NOW) for name in "AB")
    assert gallery.split([other, one], "C").entries == 2
    assert gallery.aliases()[0][3:] == ("B", "C")
    assert gallery.undo(gallery.aliases()[0][0])
    assert (gallery.count("A"), gallery.count("B")) == (1, 1)


def test_thousands_of_entries_change_at_once(reopen, clock, monkeypatch):
    """Also in the memory of somebody else who has the gallery open."""
    monkeypatch.setattr("deploy.gallery.index.LOOK_EVERY", -1.0)
    with reopen() as gallery, reopen() as other:
        ids = gallery.add(units(2500), identity="crowd", camera="gate", time=NOW)
        assert other.count("crowd") == 2500
        alias = gallery.split(ids[:2000], "half")
        assert alias.entries == 2000
        assert (other.count("crowd"), other.count("half")) == (500, 2000)
        assert gallery.undo(alias.number)
        assert (other.count("crowd"), other.count("half")) == (2500, 0)
        assert gallery.remove(ids[:700]) == 700
        assert (other.count(), on_disk(gallery)) == (1800, 1800)
        assert gallery.obey(ids[700:1300]) == 600
        assert (other.count(), on_disk(gallery)) == (1200, 1200)
        assert gallery.forget("crowd") == 1200
        assert (other.count(), on_disk(gallery)) == (0, 0)
        gallery.add(units(1200), identity="crowd", camera="gate", time=NOW)
        clock.now += 25 * HOUR
        assert gallery.sweep() == 1200
        assert (other.count(), on_disk(gallery)) == (0, 0)


@pytest.mark.parametrize("more", ['"', "'", "\\", "\0", "\0more", "\ud800", "é", " ", "]", '","'])
def test_nearly_the_id_of_an_entry_is_none(gallery, more):
    (entry,) = gallery.add(units(1), identity="A", camera="gate", time=NOW)
    assert gallery.remove([entry + more, more]) == 0
    assert gallery.split([entry + more], "B") is None
    assert gallery.count("A") == 1


def test_splits_of_one_entry_are_taken_back_newest_first(gallery):
    (entry,) = gallery.add(units(1), identity="A", camera="gate", time=NOW)
    first, second = gallery.split([entry], "B").number, gallery.split([entry], "C").number
    with pytest.raises(UserError, match=f"change {second} has moved"):
        gallery.undo(first)
    assert gallery.count("C") == 1
    assert gallery.undo(second)
    assert gallery.undo(first)
    assert gallery.count("A") == 1


def test_a_name_that_nobody_has_is_given_by_merging_and_kept(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(1), identity="gate-1", camera="gate", time=NOW)
        assert gallery.merge("gate-1", "anna").entries == 1
        clock.now += 100 * 24 * HOUR
        assert gallery.sweep() == 0
        assert gallery.count("anna") == 1


def test_enrolled_people_keep_their_own_retention(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(1), identity="enrolled", camera="desk", time=NOW, keep_for=math.inf)
        gallery.add(units(1, 1), identity="seen", camera="gate", time=NOW)
    clock.now += 25 * HOUR
    with reopen(retention=HOUR) as gallery:
        assert [each.identity for each in gallery.identities()] == ["enrolled"]
        assert gallery.expire(math.inf) == 0
        assert gallery.forget("enrolled") == 1


def test_people_are_ranked_by_their_best_view(gallery):
    """Twelve entries of somebody in view must not hide who comes second."""
    vectors = units(3)
    near = vectors[0] + 0.05 * units(12, seed=1)
    gallery.add(near / np.linalg.norm(near, axis=1, keepdims=True), identity="A", camera="gate", time=NOW)
    gallery.add(vectors[1:2], identity="B", camera="gate", time=NOW)
    first, second = gallery.people(vectors[0], 2)
    assert (first.identity, second.identity) == ("A", "B")
    assert [each.identity for each in gallery.people(vectors[0], 2, exclude={first.key})] == ["B"]
    assert gallery.search(vectors[0], 1, exclude_identities=["A"])[0].identity == "B"


def test_views_of_one_person_are_few_and_diverse(gallery):
    (seed,) = gallery.add(units(1), identity="A", camera="gate", time=NOW)
    key = gallery.people(units(1)[0], 1)[0].key
    copies = [gallery.add_view(key, units(1)[0], camera="gate", time=NOW, most=3) for _ in range(4)]
    other = gallery.add_view(key, units(1, seed=5)[0], camera="hall", time=NOW, most=3)
    kept = {record.id for record in gallery.export()}
    assert len(kept) == 3
    assert other in kept  # the one that says something new
    assert copies[-1] in kept
    assert seed not in kept  # the older of two that are alike goes
    gallery.add_view(key, units(1, seed=6)[0], camera="hall", time=NOW, instead_of=[copies[-1]])
    assert copies[-1] not in {record.id for record in gallery.export()}


def test_who_is_forgotten_is_not_brought_back_by_a_track_in_view(reopen):
    with reopen() as gallery:
        gallery.add(units(1), identity="anna", camera="gate", time=NOW)
        gallery.merge("anna", "Anna")
        key = gallery.people(units(1)[0], 1)[0].key
        assert not gallery.forgotten(key)
        gallery.forget("Anna")
        assert gallery.person(key) is None
        assert gallery.forgotten(key)
        assert gallery.add_view(key, units(1)[0], camera="gate", time=NOW) is None
        assert (gallery.count(), gallery.aliases()) == (0, [])
    with reopen() as gallery:
        assert gallery.forgotten(key)
        gallery.add(units(1), identity="Anna", camera="desk", time=NOW)  # whoever enrols her again may
        assert gallery.count("Anna") == 1


def test_who_is_forgotten_leaves_nothing_but_that(gallery):
    """Where and when somebody was, merged and split or not, is forgotten with them; of others all stays."""
    ids = gallery.add(units(4), identity=["A", "A", "B", "other"], camera="gate", time=NOW)
    for name in ("A", "B", "other"):
        gallery.saw(gallery.key_of(name), "gate", first=NOW, last=NOW + 5, score=None)
    gallery.split(ids[1:2], "C")
    gallery.merge("B", "A")
    gallery.merge("C", "A")
    assert gallery.forget("A") == 3
    assert {name: rows(gallery, name) for name in ("entries", "identities", "sightings", "aliases", "moved")} == {
        "entries": 1, "identities": 1, "sightings": 1, "aliases": 0, "moved": 0
    }  # fmt: skip
    assert gallery.count("other") == 1


def test_who_is_forgotten_is_gone(reopen):
    vectors = units(4)
    with reopen() as gallery:
        gallery.add(vectors, identity=["a", "b", "a", "c"], camera="gate", time=NOW)
        assert gallery.forget("a") == 2
        assert gallery.forget("a") is None
        assert "a" not in [match.identity for match in gallery.search(vectors[0])]
    with reopen() as gallery:
        assert sorted(record.identity for record in gallery.export()) == ["b", "c"]
        assert gallery.count("a") == 0


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


def test_an_entry_that_the_retention_has_passed_is_refused(empty):
    with pytest.raises(UserError, match="is 25 h old, and the gallery keeps 24 h"):
        empty.add(units(1), identity="a", camera="gate", time=NOW - 25 * HOUR)


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
        up = gallery._opened + 25 * HOUR
        monkeypatch.setattr("deploy.gallery.gallery.clocks.monotonic", lambda: up)
        clock.now += 61
        gallery.sweep()
        assert on_disk(gallery) == 0


def test_vectors_of_another_model_or_dimension_are_refused(reopen):
    with reopen():
        pass
    with pytest.raises(UserError, match=r"of the model model-a \(16 numbers\), not of model-b \(16\)"):
        reopen(model="model-b")
    with pytest.raises(UserError, match=r"of the model model-a \(16 numbers\), not of model-a \(8\)"):
        reopen(dimension=8)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (np.full((1, DIMENSION), np.nan), "vector 0 of 1 has the length nan"),
        (np.full((1, DIMENSION), np.inf), "vector 0 of 1 has the length"),
        (np.full((1, DIMENSION), 3e38, np.float32), "vector 0 of 1 has the length 1.2e"),
        (np.zeros((1, DIMENSION)), "has the length 0, not 1"),
        (2 * units(1), "has the length 2, not 1"),
        (np.vstack([units(2), np.full((1, DIMENSION), np.nan)]), "vector 2 of 3"),
        (units(1, dimension=8), r"must be floats \[n, 16\], not float32 \[1, 8\]"),
        (units(1)[0], r"must be floats \[n, 16\], not float32 \[16\]"),
        (np.eye(1, DIMENSION, dtype=np.int64), "must be floats"),
    ],
)
def test_broken_vectors_are_never_stored(empty, broken, complaint):
    with pytest.raises(UserError, match=complaint):
        empty.add(broken, identity="a", camera="gate", time=NOW)
    assert empty.count() == 0
    with pytest.raises(UserError):
        empty.search(broken[-1])


def test_no_vectors_are_no_work(empty):
    assert empty.add(np.empty((0, DIMENSION), np.float32), identity="a", camera="gate", time=NOW) == []


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "is empty"),
        ("x" * 201, "has 201 characters"),
        ("two\nlines", r"control character U\+000A"),
        ("\x1b[31mred", r"control character U\+001B"),
        ("nul\0", r"control character U\+0000"),
        ("turn\u202eed", r"control character U\+202E"),
        ("half \ud800", r"control character U\+D800"),
        (" padded", "begins or ends with a space"),
    ],
)
def test_names_that_could_deceive_are_refused(empty, name, complaint):
    for field in ("identity", "camera"):
        with pytest.raises(UserError, match=complaint):
            empty.add(units(1), **{"identity": "a", "camera": "b", "time": NOW, field: name})
    if name:
        with pytest.raises(UserError, match=complaint):
            empty.add(units(1), identity="a", camera="b", time=NOW, note=name)
    with pytest.raises(UserError):
        empty.forget(name)
    assert empty.count() == 0


def test_names_of_all_languages_are_one_name_each(gallery):
    composed, decomposed = "Zo\u00eb \u5f20\u4f1f", "Zoe\u0308 \u5f20\u4f1f"
    gallery.add(units(2), identity=[composed, decomposed], camera="T\u00fcr", time=NOW)
    assert gallery.count(decomposed) == 2
    assert [each.identity for each in gallery.identities()] == [composed]
    joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # Persian needs its joiner
    gallery.add(units(1), identity=joined, camera="gate", time=NOW)
    assert gallery.count(joined) == 1


@pytest.mark.parametrize("time", [math.nan, math.inf, "noon", None])
def test_times_that_are_none_are_refused(empty, time):
    with pytest.raises(UserError, match="no number of seconds"):
        empty.add(units(1), identity="a", camera="gate", time=time)
    assert empty.count() == 0


def test_other_wrong_arguments_are_refused(empty):
    with pytest.raises(UserError, match="2 values of identity for 3 vectors"):
        empty.add(units(3), identity=["a", "b"], camera="gate", time=NOW)
    for k in (0, -1, 1.5, True):
        with pytest.raises(UserError, match="ask for 1 answer at least"):
            empty.search(units(1)[0], k)


def test_a_closed_gallery_says_so(reopen):
    gallery = reopen()
    gallery.close()
    gallery.close()
    for use in (gallery.count, lambda: gallery.search(units(1)[0]), lambda: list(gallery.export())):
        with pytest.raises(UserError, match="is closed"):
            use()


def test_threads_share_a_gallery(gallery):
    errors = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                vectors = units(2, seed=100 * number + step)
                gallery.add(vectors, identity=f"thread {number}", camera="gate", time=NOW)
                assert gallery.search(vectors[0], 1)[0].score == pytest.approx(1, abs=1e-5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert gallery.count() == 80
    assert [each.vectors for each in gallery.identities()] == [20] * 4


def test_a_retention_that_was_changed_is_kept(reopen, caplog):
    with reopen(retention=24 * HOUR):
        pass
    with reopen(retention=HOUR):
        assert "are now kept for 60 minutes, no longer for 24 h" in caplog.text
    caplog.clear()
    with reopen(retention=HOUR):
        assert not caplog.text


@pytest.mark.parametrize("values", [{"dimension": 0}, {"retention": 0.0}, {"retention": math.nan}, {"model": ""}])
def test_facts_that_cannot_be_are_refused(tmp_path, values):
    with pytest.raises(UserError):
        Gallery.open(tmp_path / "gallery", **{"dimension": DIMENSION, "model": "model-a", **values})
    assert not (tmp_path / "gallery").exists()
