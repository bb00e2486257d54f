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


def ask(recogniser, vector, in_view=(), track=1):
    return recogniser.recognise(vector, camera="gate", time=NOW, track=track, in_view=in_view)


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
    stored = make(gallery, remember).add_view(unit(1.0, 0.3), identity="anna", camera="gate", time=NOW)
    assert stored == (entries == 2)
    assert gallery.count() == entries


def test_nobody_is_in_a_image_twice(gallery):
    found = ask(make(gallery, "known"), unit(1.0, 0.05), in_view={"anna"})
    assert found.identity is None


def test_the_threshold_is_the_least_cosine(gallery):
    edge = unit(0.7, np.sqrt(1 - 0.49))
    assert ask(make(gallery, "known", 0.69), edge).identity == "anna"
    assert ask(make(gallery, "known", 0.71), edge).identity is None


def test_an_empty_gallery_knows_nobody(tmp_path):
    with Gallery.open(tmp_path / "empty", dimension=8, model="test") as gallery:
        found = ask(make(gallery, "known"), ANNA)
    assert (found.identity, found.score) == (None, None)


def test_cameras_that_see_a_new_person_at_once_make_one_identity(gallery):
    recogniser = make(gallery)
    search = gallery.search

    def slow(*arguments, **values):
        matches = search(*arguments, **values)
        time.sleep(0.02)  # time enough for the others to find nobody either
        return matches

    gallery.search = slow
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
    recogniser = make(gallery)
    found = ask(recogniser, BEN)
    assert (found.identity, found.stored) == (None, False)
    assert not recogniser.add_view(ANNA, identity="anna", camera="gate", time=NOW)
    assert "no space left" in caplog.text
