"""Known, new or unknown: what the gallery says of a track, and what it takes up."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from deploy.gallery import Gallery
from deploy.metrics import Metrics
from deploy.recognise import Recogniser, new_name
from pat.base.errors import Failure

NOW = time.time()


def unit(*values):
    vector = np.zeros(8, dtype=np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


ANNA, BEN = unit(1.0), unit(0.0, 1.0)


@pytest.fixture
def gallery(tmp_path):
    with Gallery.open(tmp_path / "gallery", dimension=8, model="test") as opened:
        opened.add(ANNA[None], identity="anna", camera="desk", time=NOW)
        yield opened


def make(gallery, remember="all", threshold=0.7):
    return Recogniser(gallery, Metrics(), threshold=threshold, remember=remember)


def ask(recogniser, vector, track=1, **values):
    return recogniser.recognise(vector, camera="gate", time=NOW, track=track, **values)


def test_a_known_person_is_recognised(gallery):
    found = ask(make(gallery), unit(1.0, 0.2))
    assert (found.identity, found.new) == ("anna", False)
    assert found.score == pytest.approx(1 / np.hypot(1, 0.2), abs=1e-4)
    assert gallery.count() == 1


def test_a_new_person_is_taken_up_and_known_from_then_on(gallery):
    recogniser = make(gallery)
    first = ask(recogniser, BEN, track=7)
    assert first.new
    assert first.stored
    assert first.identity == new_name("gate", NOW, 7)
    again = ask(recogniser, unit(0.1, 1.0))
    assert (again.identity, again.new) == (first.identity, False)


@pytest.mark.parametrize("remember", ["known", "nothing"])
def test_who_is_not_to_be_remembered_stays_unknown(gallery, remember):
    found = ask(make(gallery, remember), BEN)
    assert found.identity is None
    assert not found.stored
    assert gallery.count() == 1


@pytest.mark.parametrize(("remember", "entries"), [("all", 2), ("known", 2), ("nothing", 1)])
def test_another_view_of_a_known_person(gallery, remember, entries):
    recogniser = make(gallery, remember)
    known = ask(recogniser, ANNA)
    assert recogniser.add_view(unit(1.0, 0.3), known, camera="gate", time=NOW) == (entries == 2)
    assert gallery.count() == entries


def test_nobody_is_in_an_image_twice(gallery):
    recogniser = make(gallery, "known")
    anna = ask(recogniser, ANNA)
    assert ask(recogniser, unit(1.0, 0.05), others={anna.key}).identity is None


def test_many_views_of_somebody_in_view_hide_nobody(gallery):
    """Twelve entries of one person fill the first ten answers, and the second is known all the same."""
    gallery.add(np.stack([unit(1.0, 0.001 * i) for i in range(12)]), identity="anna", camera="gate", time=NOW)
    gallery.add(unit(0.71, 0.0, 0.704)[None], identity="ben", camera="gate", time=NOW)
    recogniser = make(gallery)
    anna = ask(recogniser, ANNA)
    assert ask(recogniser, ANNA, others={anna.key}).identity == "ben"


def test_who_is_not_ahead_of_the_second_is_not_told_and_never_learned(gallery):
    gallery.add(unit(1.0, 0.02)[None], identity="ben", camera="gate", time=NOW)
    recogniser = Recogniser(gallery, Metrics(), threshold=0.7, remember="all", margin=0.05)
    undecided = ask(recogniser, ANNA)
    assert (undecided.identity, undecided.sure) == (None, False)
    assert not recogniser.add_view(ANNA, undecided, camera="gate", time=NOW)
    assert gallery.count() == 2


def test_a_new_identity_stays_when_two_others_are_as_likely(gallery):
    recogniser = Recogniser(gallery, Metrics(), threshold=0.7, remember="all", margin=0.05)
    new = ask(recogniser, unit(0.6, 0.0, 0.8))
    gallery.add(unit(1.0, 0.02)[None], identity="ben", camera="gate", time=NOW)
    assert ask(recogniser, unit(1.0, 0.0, 0.2), known=new) == new


def test_an_identity_is_checked_again_and_corrected(gallery):
    gallery.add(BEN[None], identity="ben", camera="gate", time=NOW)
    recogniser = make(gallery)
    anna = ask(recogniser, ANNA)
    assert ask(recogniser, unit(1.0, 0.9), known=anna) == anna  # still nearer to her
    assert ask(recogniser, BEN, known=anna).identity == "ben"


def test_a_new_identity_that_turns_out_to_be_known_leaves_nothing(gallery):
    recogniser = make(gallery)
    new = ask(recogniser, unit(0.6, 0.0, 0.8))
    assert new.new
    assert ask(recogniser, unit(1.0, 0.0, 0.2), known=new).identity == "anna"
    assert [each.identity for each in gallery.identities()] == ["anna"]


def test_the_final_view_takes_the_place_of_the_first(gallery):
    recogniser = make(gallery)
    new = ask(recogniser, BEN)
    assert recogniser.add_view(unit(0.0, 1.0, 0.1), new, camera="gate", time=NOW)
    (kept,) = [each.vector for each in gallery.export() if each.identity == new.identity]
    np.testing.assert_allclose(kept, unit(0.0, 1.0, 0.1), atol=1e-6)


def test_who_is_forgotten_in_view_is_not_made_again(gallery):
    recogniser = make(gallery)
    anna = ask(recogniser, ANNA)
    gallery.forget("anna")
    gone = ask(recogniser, ANNA, known=anna)
    assert gone.forgotten
    assert not recogniser.add_view(ANNA, anna, camera="gate", time=NOW)
    assert ask(recogniser, ANNA, known=gone) == gone
    assert gallery.count() == 0


def test_who_was_merged_in_view_has_the_new_name(gallery):
    recogniser = make(gallery)
    new = ask(recogniser, BEN)
    gallery.merge(new.identity, "ben")
    now = ask(recogniser, BEN, known=new)
    assert now.identity == "ben"
    assert recogniser.add_view(unit(0.0, 1.0, 0.1), now, camera="gate", time=NOW)
    assert gallery.count("ben") == 1


@pytest.mark.parametrize("name", ["anna", "zoe"])
def test_who_was_named_in_view_stays_that_and_keeps_what_was_stored(gallery, name):
    """Somebody else is like the later view, but no more than the person it was named as."""
    gallery.add(unit(0.0, 0.3, 0.95)[None], identity="ben", camera="gate", time=NOW)
    recogniser = Recogniser(gallery, Metrics(), threshold=0.7, remember="all", margin=0.02)
    new = ask(recogniser, BEN)
    gallery.merge(new.identity, name)
    later = ask(recogniser, unit(0.0, 0.8, 0.6), known=new)
    assert (later.identity, later.new) == (name, False)
    assert gallery.count(name) == (2 if name == "anna" else 1)
    clearly = ask(recogniser, unit(0.0, 0.0, 1.0), known=later)
    assert clearly.identity == "ben"
    assert gallery.count(name) == (2 if name == "anna" else 1)


def test_views_that_do_not_agree_make_nobody(gallery):
    assert ask(make(gallery), BEN, agrees=False).identity is None
    assert gallery.count() == 1


def test_the_threshold_is_the_least_cosine(gallery):
    edge = unit(0.7, np.sqrt(1 - 0.49))
    assert ask(make(gallery, "known", 0.69), edge).identity == "anna"
    assert ask(make(gallery, "known", 0.71), edge).identity is None


def test_a_threshold_that_takes_people_seen_at_once_for_one_is_told(gallery, caplog):
    metrics = Metrics()
    recogniser = Recogniser(gallery, metrics, threshold=0.6, remember="all")
    for _ in range(400):
        recogniser.saw_apart(0.59)
    for _ in range(4):
        recogniser.saw_apart(0.6)
    assert caplog.messages == []  # 1 in 100, and few
    recogniser.saw_apart(0.9)
    assert "threshold 0.600 is too low for this site: of 405 pairs of people seen at once 5 reach" in caplog.text
    for _ in range(5):
        recogniser.saw_apart(0.9)
    assert len(caplog.messages) == 2  # and again when there are twice as many
    assert metrics.value("pat_strangers_total") == 410
    assert metrics.value("pat_strangers_alike_total") == 10


def test_an_empty_gallery_knows_nobody(tmp_path):
    with Gallery.open(tmp_path / "empty", dimension=8, model="test") as gallery:
        found = ask(make(gallery, "known"), ANNA)
    assert (found.identity, found.score) == (None, None)


def test_cameras_that_see_a_new_person_at_once_make_one_identity(gallery):
    recogniser = make(gallery)
    search = gallery.people

    def slow(*arguments, **values):
        matches = search(*arguments, **values)
        time.sleep(0.02)  # time enough for the others to find nobody either
        return matches

    gallery.people = slow
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(ask(recogniser, BEN, track=n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.identity for each in found}) == 1
    assert sum(each.new for each in found) == 1


def test_a_failing_gallery_leaves_people_unknown(gallery, monkeypatch, caplog):
    def full(*arguments, **values):
        raise Failure("no space left on device")

    monkeypatch.setattr(gallery, "add", full)
    monkeypatch.setattr(gallery, "add_view", full)
    recogniser = make(gallery)
    found = ask(recogniser, BEN)
    assert (found.identity, found.stored) == (None, False)
    assert not recogniser.add_view(ANNA, ask(recogniser, ANNA), camera="gate", time=NOW)
    assert "no space left" in caplog.text


def test_a_gallery_that_fails_again_and_again_is_logged_now_and_then(gallery, monkeypatch, caplog):
    def full(*arguments, **values):
        raise Failure("no space left on device")

    monkeypatch.setattr(gallery, "add", full)
    recogniser = make(gallery)
    for track in range(20):
        ask(recogniser, BEN, track=track)
    assert len(caplog.records) == 1
