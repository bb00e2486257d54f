"""The whole process on a filmed street: real detector, tracker, model, gallery; only the people are drawn."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from types import SimpleNamespace

import av
import pytest

from deploy import assembly
from deploy.assembly import named_sources, open_embedder, open_gallery
from deploy.detect.boxes import nobody
from deploy.detect.hog import HogDetector
from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from deploy.metrics import Metrics
from deploy.pipeline import run
from deploy.runtime.choice import Choice
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
from pat.base.errors import Failure, UserError
from pat.base.mapping import overlay


def settings(tmp_path, **more):
    """Settings with `more` in their sections: `camera={"loop": True}`."""
    usual = ProcessSettings(
        camera=CameraSettings(rate=5.0),
        detect=DetectSettings("hog:540"),
        runtime=RuntimeSettings(threads=1),
        track=TrackSettings(every=1.0, decide_after=1.0),
        gallery=GallerySettings(path=str(tmp_path / "gallery")),
        output=OutputSettings(events=str(tmp_path / "events.jsonl"), metrics_port=0),
    )
    return overlay(usual, more, "the test")


def process(bundle, sources, chosen, threshold=0.8, **more):
    return run(bundle, named_sources(sources), chosen, threshold=threshold, stopping=threading.Event(), **more)


def events(tmp_path):
    return [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def walked(tmp_path_factory, colour_bundle, street):
    """One run over both videos, and a source that is not there."""
    folder = tmp_path_factory.mktemp("walked")
    looks = []
    chosen = settings(folder, output={"video": folder / "video"})
    sources = [f"north={street / 'camera-1.mp4'}", f"south={street / 'camera-2.mp4'}"]
    sources.append(f"gone={folder / 'none.mp4'}")
    summary = process(colour_bundle, sources, chosen, look=looks.append, look_every=0.2)
    return folder, summary, looks


def test_every_frame_is_processed(walked, street):
    _, summary, _ = walked
    with av.open(str(street / "camera-1.mp4")) as video:
        frames = video.streams.video[0].frames
    assert summary.frames == 2 * ((frames + 1) // 2)  # 5 a second of 10
    assert summary.stages["detect"][1] == summary.frames


def test_one_source_that_never_comes_up_does_not_stop_the_others(walked):
    folder, summary, _ = walked
    assert summary.failed == ["gone"]
    failed = [each for each in events(folder) if each.get("state") == "failed"]
    assert "none.mp4" in failed[0]["error"]


def test_people_are_followed_and_named(walked):
    folder, _, _ = walked
    told = events(folder)
    kinds = {each["event"] for each in told}
    assert {"camera", "new", "left"} <= kinds
    people = {each["identity"] for each in told if each["event"] == "new"}
    assert 3 <= len(people) <= 8  # three walk past; a track may break, an identity need not be found again
    left = [each for each in told if each["event"] == "left"]
    assert all(each["views"] >= 1 for each in left if "identity" in each)
    assert {each["camera"] for each in left} == {"north", "south"}


def test_states_are_told_in_order(walked):
    folder, _, _ = walked
    states = [each["state"] for each in events(folder) if each["event"] == "camera" and each["camera"] == "north"]
    assert states[-1] == "ended"
    assert set(states) <= {"connecting", "live", "ended"}


def test_what_was_told_as_stored_is_in_the_gallery(walked, colour_bundle):
    folder, _, _ = walked
    told = events(folder)
    corrected = {each["before"] for each in told if each["event"] == "revised"}  # somebody known after all
    stored = {each["identity"] for each in told if each.get("stored")} - corrected
    manifest = Manifest.load(colour_bundle)
    # The street is filmed in the past of no clock: recorded frames carry the time at which they were read.
    with Gallery.open(folder / "gallery", dimension=manifest.output.size, model=fingerprint(manifest)) as gallery:
        assert stored
        assert stored <= {each.identity for each in gallery.identities()}


def test_the_annotated_video_shows_every_frame(walked, street):
    folder, summary, _ = walked
    with av.open(str(folder / "video" / "north.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == summary.frames // 2


def test_rates_are_shown_on_the_way(walked):
    _, _, looks = walked
    assert any(each.cameras[0].frames_per_second > 0 for each in looks)
    assert all("frames/s" in each.line() for each in looks)


def test_a_second_run_knows_the_people_of_the_first(walked, colour_bundle, street, tmp_path):
    folder, _, _ = walked
    chosen = settings(
        folder, gallery={"remember": "nothing"}, output={"events": str(tmp_path / "events.jsonl")}
    )
    process(colour_bundle, [f"north={street / 'camera-1.mp4'}"], chosen)
    told = events(tmp_path)
    assert [each for each in told if each["event"] == "recognised"]
    assert not [each for each in told if each["event"] == "new"]


def test_an_engine_that_stays_broken_ends_the_process(colour_bundle, street, tmp_path, monkeypatch):
    from deploy.runtime.onnxruntime import Session

    whole, calls = Session.embed_boxes, []

    def broken(self, *arguments):
        calls.append(1)
        if len(calls) > 1:  # the first one is the self test
            raise RuntimeError("device lost")
        return whole(self, *arguments)

    monkeypatch.setattr(Session, "embed_boxes", broken)
    chosen = settings(tmp_path, runtime={"give_up_after": 0.2}, camera={"loop": True})
    with pytest.raises(Failure, match="broken for"):
        process(colour_bundle, [str(street / "camera-1.mp4")], chosen)


def test_an_engine_that_fails_once_costs_a_few_views(colour_bundle, street, tmp_path, monkeypatch):
    from deploy.runtime.onnxruntime import Session

    calls, stopping = [], threading.Event()
    whole = Session.embed_boxes

    def once(self, *arguments):
        calls.append(1)
        if len(calls) == 2:  # the first is the self test
            raise RuntimeError("device lost")
        vectors = whole(self, *arguments)
        if len(calls) == 4:  # it went on: views were embedded by the engine that was opened again
            stopping.set()
        return vectors

    monkeypatch.setattr(Session, "embed_boxes", once)
    chosen = settings(tmp_path, camera={"loop": True})  # until it has
    sources = named_sources([str(street / "camera-1.mp4")])
    summary = run(colour_bundle, sources, chosen, threshold=0.8, stopping=stopping)
    assert len(calls) >= 4
    assert {"unknown", "new", "recognised"} & {each["event"] for each in events(tmp_path)}
    assert summary.failed == []


def test_a_worker_survives_an_unexpected_error(colour_bundle, street, tmp_path, monkeypatch, caplog):
    calls, stopping = [], threading.Event()
    whole = HogDetector.detect

    def odd(self, pixels, regions=None):
        calls.append(1)
        if len(calls) == 5:
            raise ValueError("an odd frame")
        if len(calls) == 10:
            stopping.set()
        return whole(self, pixels, regions)

    monkeypatch.setattr(HogDetector, "detect", odd)
    sources = named_sources([str(street / "camera-1.mp4")])
    summary = run(colour_bundle, sources, settings(tmp_path), threshold=0.8, stopping=stopping)
    assert summary.frames == len(calls) - 1 >= 9
    assert "an odd frame" in caplog.text


def test_stopping_finishes_the_tracks_in_view(colour_bundle, street, tmp_path):
    stopping = threading.Event()

    def look(rates):
        if any(each.people for each in rates.cameras) and rates.gallery:
            stopping.set()

    sources, chosen = named_sources([str(street / "camera-1.mp4")]), settings(tmp_path, camera={"loop": True})
    run(colour_bundle, sources, chosen, threshold=0.8, stopping=stopping, look=look, look_every=0.05)
    told = events(tmp_path)
    named = {each["track"] for each in told if each["event"] in ("new", "recognised")}
    assert named <= {each["track"] for each in told if each["event"] == "left"}


def test_sources_have_names():
    named = named_sources(["gate=rtsp://h/a?b=c", "street.mp4", "/dev/video0"])
    assert [(each.name, each.url) for each in named] == [
        ("gate", "rtsp://h/a?b=c"),
        ("camera-2", "street.mp4"),
        ("camera-3", "/dev/video0"),
    ]


def test_a_password_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("GATE", "s3cret")
    assert named_sources(["gate=rtsp://u:$GATE@h/"])[0].url == "rtsp://u:s3cret@h/"


def test_a_password_on_the_command_line_is_pointed_out(caplog):
    named_sources(["gate=rtsp://u:s3cret@h/", "hall=rtsp://u:$HALL@h/", "yard=rtsp://u@h/a:b@c", "street.mp4"])
    (record,) = caplog.records
    assert "the password of gate stands on the command line" in record.message
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(("sources", "words"), [([], "no source"), (["a=1.mp4", "a=2.mp4"], "two sources")])
def test_sources_that_make_no_sense(sources, words):
    with pytest.raises(UserError, match=words):
        named_sources(sources)


def test_names_of_new_people_sort_by_time():
    from deploy.recognise import new_name

    names = [new_name("gate", when, 1) for when in (time.time(), time.time() + 1.5)]
    assert names == sorted(names)


def test_entries_older_than_the_retention_go_though_nobody_comes_by(colour_bundle, street, tmp_path, monkeypatch):
    swept, stopping = [], threading.Event()

    def sweep(gallery):
        swept.append(gallery.facts.retention)
        if len(swept) == 2:  # on opening, and by the process
            stopping.set()
        return 0

    monkeypatch.setattr(Gallery, "sweep", sweep)
    monkeypatch.setattr(HogDetector, "detect", lambda self, pixels, regions=None: nobody())
    chosen = settings(tmp_path, gallery={"retention_hours": 2.0})
    sources = named_sources([str(street / "camera-1.mp4")])
    run(colour_bundle, sources, chosen, threshold=0.8, stopping=stopping)
    assert len(swept) >= 2
    assert set(swept) == {7200.0}


def test_the_gallery_has_the_retention_of_the_settings(colour_bundle, tmp_path):
    manifest = Manifest.load(colour_bundle)
    with open_gallery(settings(tmp_path, gallery={"retention_hours": 2.0}), manifest) as gallery:
        assert gallery.facts.retention == 7200


@pytest.mark.parametrize(("cameras", "wait"), [(1, 0.0), (2, 0.01)])
def test_a_single_camera_waits_for_no_other(colour_bundle, tmp_path, cameras, wait):
    chosen = settings(tmp_path, runtime={"backend": "onnxruntime"})
    assert open_embedder(colour_bundle, chosen, Metrics(), cameras=cameras).max_wait == wait


def test_what_runs_beside_the_cameras_is_told_the_bundle_that_was_chosen(colour_bundle, tmp_path, monkeypatch):
    chosen = Choice(tmp_path / "int8", "onnxruntime", {}, "it is fast", "here", "")
    shutil.copytree(colour_bundle, chosen.bundle)
    monkeypatch.setattr(assembly, "read_choice", lambda bundle: chosen)
    stopping, told = threading.Event(), []

    @contextlib.contextmanager
    def running(parts):
        told.append((parts.bundle, parts.manifest.folder, parts.settings.runtime.backend))
        stopping.set()
        yield

    nothing = dict.fromkeys(("tell", "see", "look"), lambda *told: None)
    beside = SimpleNamespace(**nothing, running=running)
    run(colour_bundle, [], settings(tmp_path), threshold=0.8, stopping=stopping, companion=beside)
    assert told == [(chosen.bundle, chosen.bundle, "onnxruntime")]
