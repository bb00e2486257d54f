"""The gallery: what it keeps, finds and refuses."""

from __future__ import annotations

import math
import threading
from collections import Counter

import numpy as np
import pytest

from deploy.gallery import Gallery
from galleries import DIMENSION, HOUR, NOW, Clock
from pat.base.errors import UserError
from vectors import unit, units


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


def test_many_views_of_one_person_do_not_hide_the_second(gallery):
    query = unit(0)
    gallery.add([unit(1, query, 0.95)] * 300, identity="anna", camera="desk", time=NOW)
    gallery.add([unit(2, query, 0.94)], identity="bob", camera="gate", time=NOW)
    assert [each.identity for each in gallery.people(query, 4)] == ["anna", "bob"]
    assert [each.identity for each in gallery.people(query, 1, camera="gate")] == ["bob"]
    assert gallery.people(query, 2, until=NOW - 1) == gallery.people(query, 2, since=NOW + 1) == []


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


@pytest.mark.parametrize("retention", [24 * HOUR, None])
def test_of_who_is_kept_each_camera_has_few_views_and_what_was_enrolled_stays(reopen, retention):
    with reopen(retention=retention) as gallery:
        gallery.add(units(5), identity="anna", camera="enrolled", time=NOW, keep_for=math.inf)
        key = gallery.key_of("anna")
        for camera in ("gate", "hall"):
            for seed in range(1, 6):
                gallery.add_view(key, unit(seed), camera=camera, time=NOW, most=3)
        assert Counter(each.camera for each in gallery.export()) == {"enrolled": 5, "gate": 3, "hall": 3}


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


def test_an_entry_that_the_retention_has_passed_is_refused(empty):
    with pytest.raises(UserError, match="is 25 h old, and the gallery keeps 24 h"):
        empty.add(units(1), identity="a", camera="gate", time=NOW - 25 * HOUR)


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


@pytest.mark.parametrize("values", [{"dimension": 0}, {"retention": 0.0}, {"retention": math.nan}, {"model": ""}])
def test_facts_that_cannot_be_are_refused(tmp_path, values):
    with pytest.raises(UserError):
        Gallery.open(tmp_path / "gallery", **{"dimension": DIMENSION, "model": "model-a", **values})
    assert not (tmp_path / "gallery").exists()
