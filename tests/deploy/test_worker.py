"""One camera's worker, frame by frame: what it asks, when it decides, and what it tells."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future

import numpy as np
import pytest

from deploy.annotate import View
from deploy.appearance import EmbeddingPolicy
from deploy.events import EventLog
from deploy.frames import Detections, Frame
from deploy.gallery import Gallery
from deploy.metrics import Metrics
from deploy.recognise import Recogniser
from deploy.status import CameraStatus
from deploy.track import Tracker
from deploy.worker import PENDING, Worker
from galleries import rows
from pat.base.errors import Failure

PERSON = np.array([100, 40, 160, 200], dtype=np.float32)
OTHER = np.array([300, 40, 360, 200], dtype=np.float32)
NOISE = np.random.default_rng(0).integers(0, 256, (240, 480, 3), dtype=np.uint8)


class Script:
    """A camera and a detector that show the given boxes, frame after frame, ten a second."""

    name, live = "gate", True

    def __init__(self, frames, states=()):
        now = time.time()
        self.frames = deque(Frame("gate", i, now + i / 10, NOISE) for i in range(len(frames)))
        self.boxes = deque(frames)
        self.states = deque(states)
        self.last = ("live", "")

    def get(self, timeout):
        return self.frames.popleft() if self.frames else None

    def find(self, frame):
        boxes = np.array(self.boxes.popleft(), dtype=np.float32).reshape(-1, 4)
        return Detections(boxes, np.full(len(boxes), 0.9, dtype=np.float32))

    @property
    def ended(self):
        return not self.frames and not self.states

    @property
    def state(self):
        return self.last[0]

    def status(self):
        if self.states:
            self.last = self.states.popleft()
        return CameraStatus("gate", "x", self.last[0], 0.0, 0, 4, 3, 2, None, self.last[1])


class Answers:
    """An embedder that gives each person a direction of her own, at once or when told to.

    Others say by `see` what they make of boxes; `asked` has the number of boxes of each call, this one's too.
    """

    def __init__(self, at_once=True):
        self.at_once, self.waiting, self.asked, self.most = at_once, [], [], 0

    def see(self, boxes):
        return np.eye(8, dtype=np.float32)[(boxes[:, 0] > 200).astype(int)]

    def submit(self, pixels, boxes):
        self.asked.append(len(boxes))
        future: Future = Future()
        self.waiting.append((future, self.see(boxes)))
        self.most = max(self.most, sum(not each.done() for each, _ in self.waiting))
        if self.at_once:
            self.answer()
        return future

    def answer(self):
        for future, vectors in self.waiting:
            if not future.done():
                future.set_result(vectors)


@contextlib.contextmanager
def answering(embedder):
    """Meanwhile what was asked is answered now and then, however long the machine takes to ask."""
    over = threading.Event()

    def answer():
        while not over.wait(0.1):
            embedder.answer()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def gallery(tmp_path):
    with Gallery.open(tmp_path / "gallery", dimension=8, model="test") as opened:
        yield opened


def run(tmp_path, gallery, camera, embedder, *, decide_after=0.4, every=0.2, threshold=0.7, file=""):
    metrics = Metrics()
    policies = []

    def policy():
        policies.append(EmbeddingPolicy(every=every, least_quality=0.0))
        return policies[-1]

    with EventLog(file or str(tmp_path / "events"), metrics, rotate_bytes=10**9, keep=1) as events:
        worker = Worker(
            camera,
            camera.find,
            lambda: Tracker(rate=10.0, lost_seconds=0.5, min_hits=1),
            policy,
            embedder,
            Recogniser(gallery, metrics, threshold=threshold, remember="all"),
            events,
            metrics,
            View(),
            track_numbers=itertools.count(1),
            decide_after=decide_after,
        )
        worker.run(threading.Event())
    told = [] if file else [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    return [each for each in told if each["event"] != "camera"], metrics, policies


def test_a_track_is_decided_after_so_many_views(tmp_path, gallery):
    told, _, _ = run(tmp_path, gallery, Script([[PERSON]] * 12), Answers(), decide_after=0.6)
    new = next(each for each in told if each["event"] == "new")
    assert new["views"] == 4
    assert [each["event"] for each in told] == ["new", "left"]


class Twins(Answers):
    """An embedder to which everyone looks the same."""

    def see(self, boxes):
        return super().see(np.zeros_like(boxes))


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
