"""One camera's worker, frame by frame: what it asks, when it decides, and what it tells."""

from __future__ import annotations

import io
import json
import logging
import time
from concurrent.futures import Future

import numpy as np
import pytest

from deploy.gallery import Gallery
from deploy.worker import PENDING
from galleries import rows
from pat.base.errors import Failure
from scripted_worker import OTHER, PERSON, Answers, Script, Twins, answering, run


@pytest.fixture
def gallery(tmp_path):
    with Gallery.open(tmp_path / "gallery", dimension=8, model="test") as opened:
        yield opened


def test_a_track_is_decided_after_so_many_views(tmp_path, gallery):
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 12), Answers(), decide_after=0.6)
    new = next(each for each in told if each["event"] == "new")
    assert new["views"] == 4
    assert [each["event"] for each in told] == ["new", "left"]


def test_two_who_were_seen_at_once_are_two_people_even_when_one_has_left(tmp_path, gallery):
    frames = [[PERSON, OTHER]] * 6 + [[OTHER]] * 12
    told, _, _ = run(tmp_path, gallery, Script(frames), Twins(), decide_after=50)  # each decided at its end
    assert [each["event"] for each in told] == ["new", "left", "new", "left"]
    assert len({each["identity"] for each in told}) == 2


@pytest.mark.parametrize(
    ("embedder", "second", "pairs", "alike"),
    [(Answers, OTHER, 1, 0), (Twins, OTHER, 1, 1), (Twins, PERSON + 30, 0, 0)],
    ids=["two people", "two who look the same", "perhaps a second box of one"],
)
def test_who_was_seen_at_once_is_compared_once(tmp_path, gallery, embedder, second, pairs, alike):
    frames = [[PERSON, second]] * 9 + [[second]] * 12
    _, metrics, _ = run(tmp_path, gallery, Script(frames), embedder())
    assert metrics.value("pat_strangers_total") == pairs
    assert metrics.value("pat_strangers_alike_total") == alike


@pytest.mark.parametrize("first", [PERSON, OTHER], ids=["the one who leaves", "the one who stays"])
def test_who_was_seen_in_one_view_is_compared_with_nobody(tmp_path, gallery, first):
    """A view every 0.9 s; `first` was there for 1.2 s before the other came, who has one view in the end."""
    frames = [[first]] * 12 + [[PERSON, OTHER]] * 3 + [[OTHER]] * 6
    _, metrics, _ = run(tmp_path, gallery, Script(frames), Twins(), every=0.9)
    assert metrics.value("pat_strangers_total") == 0


def test_a_track_that_is_only_expected_hides_nobody(tmp_path, gallery):
    """One person whose track breaks: the old one is still waited for when the new one is looked up."""
    frames = [[PERSON]] * 8 + [[OTHER]] * 12
    told, _, _ = run(tmp_path, gallery, Script(frames), Twins(), decide_after=0.1)
    decided = [(each["event"], each["identity"]) for each in told if each["event"] != "left"]
    assert [event for event, _ in decided] == ["new", "recognised"]
    assert len({identity for _, identity in decided}) == 1
    recognised = next(at for at, each in enumerate(told) if each["event"] == "recognised")
    assert all(each["event"] != "left" for each in told[:recognised])  # it was still waited for


def test_a_short_track_is_decided_when_it_leaves(tmp_path, gallery):
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 4 + [[]] * 12), Answers(), decide_after=50)
    assert [each["event"] for each in told] == ["new", "left"]
    assert gallery.count() == 1


def test_a_track_that_leaves_waits_for_its_last_views(tmp_path, gallery):
    embedder = Answers(at_once=False)
    with answering(embedder):
        told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 5 + [[]] * 12), embedder)
    assert [(each["event"], each["views"]) for each in told] == [("new", 2), ("left", 2)]


def test_a_slow_model_holds_up_the_frames_and_not_the_memory(tmp_path, gallery):
    embedder = Answers(at_once=False)
    with answering(embedder):
        run(tmp_path, gallery, Script([[PERSON]] * 30), embedder, every=0.1)
    assert len(embedder.asked) == 29  # a person has a number from the second frame on
    assert embedder.most <= PENDING + 1


def test_a_known_person_leaves_one_more_view(tmp_path, gallery):
    for _ in range(2):
        told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 10), Answers())
    assert [each["event"] for each in told[-2:]] == ["recognised", "left"]
    assert told[-1]["stored"]
    assert len({each["identity"] for each in told}) == 1
    assert gallery.count() == 2


def test_everybody_in_view_is_kept_when_the_reader_of_the_events_is_gone_by_the_end(
    tmp_path, gallery, monkeypatch
):
    class Gone(io.StringIO):
        def write(self, text):
            if '"left"' in text:
                raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    run(tmp_path, gallery, Script([[PERSON, OTHER]] * 12), Answers(), file="-")
    assert rows(gallery, "sightings") == 2


def test_who_is_forgotten_while_in_view_is_not_brought_back(tmp_path, gallery):
    gallery.add(np.eye(1, 8, dtype=np.float32), identity="anna", camera="desk", time=time.time())

    class Forgetting(Answers):
        def see(self, boxes):
            if len(self.asked) == 7:
                gallery.forget("anna")
            return super().see(boxes)

    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 30), Forgetting())
    assert [each["event"] for each in told] == ["recognised", "left"]
    assert "identity" not in told[-1]
    assert gallery.count() == 0


def test_an_identity_is_revised_when_more_views_say_so(tmp_path, gallery):
    gallery.add(np.eye(8, dtype=np.float32)[:1], identity="anna", camera="desk", time=time.time())
    ben = np.zeros((1, 8), dtype=np.float32)
    ben[0, :2] = 0.6, 0.8
    gallery.add(ben, identity="ben", camera="desk", time=time.time())

    class Better(Answers):
        def see(self, boxes):
            angle = min(0.18 * len(self.asked), 1.0)  # a bad first view, then better and better
            vectors = np.zeros((len(boxes), 8), dtype=np.float32)
            vectors[:, 0], vectors[:, 1] = np.cos(angle), np.sin(angle)
            return vectors

    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 60), Better())
    assert [(each["event"], each["identity"]) for each in told] == [
        ("recognised", "anna"),
        ("revised", "ben"),
        ("left", "ben"),
    ]
    assert told[1]["before"] == "anna"


def test_two_in_one_image_are_two_people(tmp_path, gallery):
    told, metrics, _ = run(tmp_path, gallery, Script([[PERSON, OTHER]] * 10), Answers(), threshold=-1.0)
    assert len({each["identity"] for each in told}) == 2
    assert metrics.value("pat_frames_total", camera="gate") == 10


def test_a_box_outside_the_frame_is_not_embedded(tmp_path, gallery):
    outside = np.array([600, 10, 700, 90], dtype=np.float32)
    embedder = Answers()
    run(tmp_path, gallery, Script([[PERSON, outside, [np.nan, 0, 1, 1]]] * 6), embedder, every=0.1)
    assert set(embedder.asked) == {1}


def test_vectors_that_are_no_numbers_are_never_stored(tmp_path, gallery):
    class Nothing(Answers):
        def see(self, boxes):
            return np.full((len(boxes), 8), np.nan, dtype=np.float32)

    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 10), Nothing())
    assert [(each["event"], each["views"]) for each in told] == [("left", 0)]
    assert gallery.count() == 0


def test_views_that_failed_are_missed_and_no_more(tmp_path, gallery):
    class Odd(Answers):
        def submit(self, pixels, boxes):
            if len(self.asked) % 2:
                self.asked.append(0)
                future: Future = Future()
                future.set_exception(Failure("the model is not available"))
                return future
            return super().submit(pixels, boxes)

    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 20), Odd(), every=0.1)
    assert told[-1]["views"] == 10


def test_what_left_is_forgotten(tmp_path, gallery):
    walk = [[PERSON]] * 4 + [[]] * 10
    _, metrics, policies = run(tmp_path, gallery, Script(walk * 3), Answers())
    assert [len(each) for each in policies] == [0]
    assert metrics.value("pat_people", camera="gate") == 0


def test_the_age_of_a_live_frame_is_measured(tmp_path, gallery):
    _, metrics, _ = run(tmp_path, gallery, Script([[]] * 5), Answers())
    assert metrics.value("pat_frame_age_seconds_count", camera="gate") == 5


def test_why_a_camera_does_not_connect_is_said_when_it_is_known(tmp_path, gallery, caplog):
    caplog.set_level(logging.INFO, "deploy")
    states = [
        ("connecting", ""),
        ("connecting", "no route to host"),
        ("connecting", "no route to host"),
        ("live", ""),
    ]
    _, metrics, _ = run(tmp_path, gallery, Script([], states), Answers())
    assert [record.getMessage() for record in caplog.records if "camera gate" in record.getMessage()] == [
        "camera gate is connecting",
        "camera gate is connecting: no route to host",
        "camera gate is live",
    ]
    told = [json.loads(line)["state"] for line in (tmp_path / "events").read_text().splitlines()]
    assert told == ["connecting", "live"]
    assert [metrics.value(f"pat_{name}", camera="gate") for name in ("frames_dropped", "frames_broken")] == [4, 3]
