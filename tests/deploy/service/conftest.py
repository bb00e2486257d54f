"""A running service: the real process, gallery, model and server; without cameras unless a test has some."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from pathlib import Path

import httpx
import pytest

import vectors
from deploy import assembly, pipeline
from deploy.events import Event
from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from deploy.gallery.threshold import NOT_MEASURED
from deploy.service.service import Service
from deploy.service.settings import AccessSettings, KeepSettings, ServiceSettings
from deploy.settings import (
    CameraSettings,
    DetectSettings,
    GallerySettings,
    OutputSettings,
    ProcessSettings,
    RuntimeSettings,
    TrackSettings,
)
from export.manifest import Manifest

THRESHOLD = 0.8


class Running:
    """A service in this process, with a client that asks it and ways to do what cameras do."""

    def __init__(
        self, service: Service, process: threading.Thread, stopping: threading.Event, folder: Path
    ) -> None:
        self.service, self.process, self.stopping, self.folder = service, process, stopping, folder
        self.client = httpx.Client(base_url=service.address, timeout=30)

    @property
    def site(self):
        return self.service._site

    def api(self, method: str, path: str, **more) -> httpx.Response:
        return self.client.request(method, f"/api/v1{path}", **more)

    def get(self, path: str, **params):
        answer = self.api("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def settled(self, condition, seconds: float = 10.0):
        """Wait until the condition holds: events are kept on a thread of their own."""
        until = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < until, "it did not come to pass"
            time.sleep(0.02)
        return found

    def met(self, name: str, camera: str, vector, *, track: int, score=None, new=False, ago: float = 5.0) -> Event:
        """What a camera's worker does when a track of this person has ended."""
        gallery, when = self.site.gallery, round(time.time() - ago, 3)
        gallery.add(vector[None], identity=name, camera=camera, time=when)
        key = gallery.key_of(name)
        gallery.saw(key, camera, first=when - 3, last=when, score=score)
        common = {"track": track, "identity": name, "key": key, "score": score, "box": (10, 10, 60, 160)}
        if new:
            self.service.tell(Event("new", when, camera, stored=True, **common))
        event = Event("left", when, camera, stored=True, size=(320, 240), **common)
        self.service.tell(event)
        return event


unit = functools.partial(vectors.unit, size=48)
"""A vector [48] of unit length; see tests/support/vectors.py."""


@contextlib.contextmanager
def running(
    bundle: Path, folder: Path, *, sources=(), service=None, process=None, host="127.0.0.1", threshold=THRESHOLD,
    error_rates=NOT_MEASURED,
):  # fmt: skip
    stopping, failure = threading.Event(), []
    settings = process or ProcessSettings(
        camera=CameraSettings(rate=5.0),
        detect=DetectSettings("hog:320"),
        runtime=RuntimeSettings(threads=1),
        track=TrackSettings(every=0.5, decide_after=0.5),
        gallery=GallerySettings(path=str(folder / "gallery")),
        output=OutputSettings(events="", metrics_port=0),
    )
    beside = Service(service or ServiceSettings(), host, 0, error_rates)

    def run():
        try:
            pipeline.run(
                bundle,
                assembly.named_sources(sources, none=True),
                settings,
                threshold=threshold,
                stopping=stopping,
                look_every=0.2,
                companion=beside,
            )
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not beside.address and not failure:
            assert time.monotonic() < until
            time.sleep(0.02)
        if failure:
            raise failure[0]
        yield Running(beside, thread, stopping, folder)
    finally:
        stopping.set()
        thread.join(timeout=60)
    assert not failure, failure


@pytest.fixture
def service(colour_bundle, tmp_path):
    """A service without cameras and people; views of people are kept."""
    chosen = ServiceSettings(keep=KeepSettings(views="best"), access=AccessSettings(upload_megapixels=4.0))
    with running(colour_bundle, tmp_path, service=chosen) as found:
        yield found


@pytest.fixture
def people(service):
    """Four people: anna, enrolled; two that cameras met; and one nearly like anna."""
    gallery = service.site.gallery
    anna = unit(1)
    gallery.add(anna[None], identity="anna", camera="enrolled", time=time.time() - 60, keep_for=float("inf"))
    service.met("gate-1", "gate", unit(2), track=1, new=True, ago=50)
    service.met("gate-2", "gate", unit(3), track=2, new=True, ago=40)
    service.met("hall-3", "hall", unit(4, near=anna, cosine=THRESHOLD - 0.03), track=3, new=True, ago=30)
    service.settled(lambda: len(service.get("/events")["items"]) >= 6)
    return {each["name"]: each for each in service.get("/people")["items"]}


@pytest.fixture(scope="session")
def in_gallery():
    """Opens a gallery as another process would."""

    def opened(bundle: Path, folder: Path) -> Gallery:
        manifest = Manifest.load(bundle)
        return Gallery.open(folder, dimension=manifest.output.size, model=fingerprint(manifest))

    return opened


__all__ = ["dataclasses", "running", "unit"]
