"""A camera's worker on frames and vectors that a test writes down."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections import deque
from concurrent.futures import Future

import numpy as np

from deploy.annotate import View
from deploy.appearance import EmbeddingPolicy
from deploy.events import EventLog
from deploy.frames import Detections, Frame
from deploy.metrics import Metrics
from deploy.recognise import Recogniser
from deploy.status import CameraStatus
from deploy.track import Tracker
from deploy.worker import Worker

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


class Twins(Answers):
    """An embedder to which everyone looks the same."""

    def see(self, boxes):
        return super().see(np.zeros_like(boxes))


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
