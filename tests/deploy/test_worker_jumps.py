"""A track that may go on as somebody else: when it is split in two, and what its views may teach."""

from __future__ import annotations

import time

import numpy as np
import pytest

from deploy.gallery import Gallery
from scripted_worker import OTHER, PERSON, Answers, Script, run


@pytest.fixture
def gallery(tmp_path):
    with Gallery.open(tmp_path / "gallery", dimension=8, model="test") as opened:
        yield opened


class Jump(Answers):
    """One box that is another person from the given view on."""

    def __init__(self, at, until=10**9):
        super().__init__()
        self.at, self.until = at, until

    def see(self, boxes):
        jumped = self.at <= len(self.asked) < self.until
        return np.eye(8, dtype=np.float32)[[2] * len(boxes)] if jumped else super().see(boxes)


def test_a_track_that_jumps_to_somebody_else_is_split(tmp_path, gallery):
    """A known person's track goes on as another's: nothing of the other may be stored under the first."""
    gallery.add(np.eye(1, 8, dtype=np.float32), identity="anna", camera="desk", time=time.time())
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 24), Jump(6))
    assert [(each["event"], each["identity"] == "anna") for each in told] == [
        ("recognised", True),
        ("left", True),
        ("new", False),
        ("left", False),
    ]
    assert len({each["track"] for each in told}) == 2
    found = gallery.people(np.eye(8, dtype=np.float32)[2], 2)
    assert found[0].identity != "anna"
    assert found[1].score < 0.1  # what is stored of anna is anna


def test_a_track_that_was_lost_is_looked_at_as_soon_as_it_is_seen_again(tmp_path, gallery):
    """Who was out of sight and comes back as another is told as another, before the next view is due."""
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 12 + [[]] * 2 + [[PERSON]] * 9), Jump(3), every=1.0)
    assert [each["event"] for each in told] == ["new", "left", "unknown", "left"]


class Sequence(Answers):
    """One box that looks like this, view after view."""

    def __init__(self, *vectors):
        super().__init__()
        self.vectors = vectors

    def see(self, boxes):
        return np.array([self.vectors[min(len(self.asked), len(self.vectors)) - 1]], dtype=np.float32)


def test_half_a_jump_is_a_jump_and_its_first_view_is_left_out(tmp_path, gallery):
    """In sight all the time, but not so alike by far; the first view after may show a bit of both people."""
    anna, mixed, other = np.zeros((3, 8))
    anna[0], mixed[:2], other[:3] = 1, (0.35, 0.937), (0.35, 0.7, 0.623)
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 30), Sequence(*[anna] * 6, mixed, other))
    assert [each["event"] for each in told] == ["new", "left", "new", "left"]
    assert gallery.people(other, 1)[0].score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("step", "tracks"), [(20, 1), (62, 2)])
def test_a_track_whose_boxes_do_not_meet_may_have_jumped(tmp_path, gallery, step, tracks):
    """Views that are the same person from another side of one in sight all the time are somebody else's then."""
    anna, other = np.zeros((2, 8))
    anna[0], other[:2] = 1, (0.5, 0.866)
    frames = [[PERSON]] * 13 + [[PERSON + np.array([step, 0, step, 0], np.float32)]] * 12
    told, _, _ = run(tmp_path, gallery, Script(frames), Sequence(*[anna] * 6, other))
    assert len({each["track"] for each in told}) == tracks


def test_one_view_alone_teaches_nothing(tmp_path, gallery):
    """It is told who it seems to be; what was stored of them stays as it was."""
    gallery.add(np.eye(1, 8, dtype=np.float32), identity="anna", camera="desk", time=time.time())
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 5), Answers(), every=9.0)
    assert [(each["event"], each["identity"], each["views"]) for each in told[-2:]] == [
        ("recognised", "anna", 1),
        ("left", "anna", 1),
    ]
    assert not told[-1]["stored"]
    assert gallery.count() == 1


@pytest.mark.parametrize(("known", "said"), [(True, "recognised"), (False, "unknown")])
def test_views_that_do_not_agree_teach_nothing(tmp_path, gallery, known, said):
    """Though they are not so unlike that the track has jumped, and their mean is exactly a person's."""
    anna, one, other = np.zeros((3, 8))
    anna[0], one[:2], other[:2] = 1, (0.851, 0.525), (0.851, -0.525)
    if known:
        gallery.add(anna[None].astype(np.float32), identity="anna", camera="desk", time=time.time())
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 5), Sequence(one, other), every=0.3)
    assert [(each["event"], each["views"]) for each in told] == [(said, 2), ("left", 2)]
    assert not told[-1]["stored"]
    assert gallery.count() == int(known)


class Copies(Answers):
    """From the sixth image on the person on the left looks like the one on the right."""

    def see(self, boxes):
        return super().see(boxes + np.float32(300 if len(self.asked) > 6 else 0))


def test_who_a_split_track_shows_is_nobody_in_the_same_image(tmp_path, gallery):
    gallery.add(np.eye(2, 8, dtype=np.float32)[1:], identity="ben", camera="desk", time=time.time())
    told, _, _ = run(tmp_path, gallery, Script([[PERSON, OTHER]] * 24), Copies(), decide_after=0.0)
    assert [each["event"] for each in told if each.get("identity") == "ben"] == ["recognised", "left"]
    assert len({each["track"] for each in told}) == 3


def test_one_odd_view_is_left_out(tmp_path, gallery):
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 24), Jump(6, 7))
    assert [each["event"] for each in told] == ["new", "left"]
    assert gallery.people(np.eye(8, dtype=np.float32)[2], 1)[0].score < 0.01
