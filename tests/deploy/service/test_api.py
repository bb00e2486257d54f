"""The API on a running service: people, changes, questions, events, search, errors."""

from __future__ import annotations

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx
import numpy as np
import pytest
from PIL import Image

from deploy import assembly
from deploy.annotate import Label
from deploy.frames import Frame
from deploy.service.api import cameras
from pat.base.errors import Failure

from .conftest import running

JSON = {"Content-Type": "application/json"}


def photo(pixels=None, kind="JPEG", size=(80, 200)) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels) if pixels is not None else Image.new("RGB", size, (90, 40, 160))
    image.save(out, kind)
    return out.getvalue()


def search(service, content, kind="image/jpeg", query=""):
    return service.api("POST", f"/search{query}", content=content, headers={"Content-Type": kind})


def problem(answer, status, name):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["type"] == f"urn:pat-reid:problem:{name}"
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    return told


def test_health_readiness_metrics_and_description(service):
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json() == {"ready": True, "broken": []}
    assert "pat_gallery_entries 0.0" in service.client.get("/metrics").text
    described = service.client.get("/api/v1/openapi.json").json()
    assert {"/api/v1/people", "/api/v1/search", "/healthz"} <= set(described["paths"])


def test_readiness_says_what_is_broken(service, monkeypatch):
    monkeypatch.setattr(type(service.site.parts.embedder), "broken_for", property(lambda self: 3.0))
    answer = service.client.get("/readyz")
    assert (answer.status_code, answer.json()["broken"]) == (503, ["model"])


def test_people_are_listed_last_seen_first(service, people):
    names = [each["name"] for each in service.get("/people")["items"]]
    assert names == ["hall-3", "gate-2", "gate-1", "anna"]
    assert people["anna"]["kept"]
    assert people["gate-1"]["cameras"] == ["gate"]
    assert people["gate-1"]["sightings"] == 1


def test_lists_come_in_parts(service, people):
    seen, cursor = [], ""
    while cursor is not None:
        part = service.get("/people", limit=1, cursor=cursor)
        seen += [each["name"] for each in part["items"]]
        cursor = part["next"]
    assert seen == ["hall-3", "gate-2", "gate-1", "anna"]
    problem(service.api("GET", "/people", params={"cursor": "nan:1"}), 422, "invalid")
    problem(service.api("GET", "/people", params={"limit": 0}), 422, "invalid")


def test_every_list_comes_in_parts(service, people):
    for name in ("gate-1", "gate-2"):
        service.api("PATCH", f"/people/{people[name]['key']}", json={"name": name.upper()})
    event = service.met("anna", "gate", np.eye(48, dtype=np.float32)[5], track=7, score=0.82)
    service.settled(lambda: [e for e in service.get("/events")["items"] if e["id"] == event.id])

    def check(path, least, **more):
        whole, parts, cursor = service.get(path, limit=200, **more), [], ""
        assert whole["next"] is None
        while cursor is not None:
            part = service.get(path, limit=1, cursor=cursor, **more)
            assert len(part["items"]) == 1  # none that is empty after the last
            parts += part["items"]
            cursor = part["next"]
            assert len(parts) <= len(whole["items"])
        assert parts == whole["items"]
        assert len(parts) >= least

    check("/events", 7)
    check("/changes", 2)
    check("/audit", 2)
    check("/reviews", 2)
    for each in service.get("/reviews")["items"]:
        service.api("PUT", f"/reviews/{each['id']}", json={"answer": "different"})
    check("/reviews", 2, answered=True)


def test_people_are_found_by_name_and_camera(service, people):
    assert [each["name"] for each in service.get("/people", q="GATE")["items"]] == ["gate-2", "gate-1"]
    assert [each["name"] for each in service.get("/people", camera="hall")["items"]] == ["hall-3"]
    assert [each["name"] for each in service.get("/people", kept=True)["items"]] == ["anna"]


def test_a_timeline_goes_over_cameras(service, people):
    gallery, key = service.site.gallery, people["gate-1"]["key"]
    now = time.time()
    for number, camera in enumerate(("hall", "yard", "gate")):
        gallery.saw(key, camera, first=now - 20 + number, last=now - 19 + number, score=0.9)
    seen = service.get(f"/people/{key}/timeline")["items"]
    assert [each["camera"] for each in seen] == ["gate", "yard", "hall", "gate"]
    assert seen[0]["score"] == 0.9
    first = service.get(f"/people/{key}/timeline", limit=3)
    assert len(service.get(f"/people/{key}/timeline", limit=3, cursor=first["next"])["items"]) == 1


def test_a_name_is_given_and_taken_back(service, people):
    key = people["gate-1"]["key"]
    done = service.api("PATCH", f"/people/{key}", json={"name": "bob"}).json()
    assert done["person"]["name"] == "bob"
    assert done["person"]["kept"]
    assert service.get(f"/people/{key}")["name"] == "bob"
    assert service.api("POST", f"/changes/{done['change']}/undo").status_code == 204
    assert service.get(f"/people/{key}")["name"] == "gate-1"
    problem(service.api("POST", f"/changes/{done['change']}/undo"), 404, "not-found")


def test_a_key_from_before_a_new_name_leads_to_who_that_is(service, people):
    first = people["gate-1"]["key"]
    keys = [first]
    for name in ("bob", "carl"):
        keys.append(service.api("PATCH", f"/people/{keys[-1]}", json={"name": name}).json()["person"]["key"])
    assert len(set(keys)) == 3
    assert {service.get(f"/people/{key}")["key"] for key in keys} == {keys[-1]}
    assert set(service.api("DELETE", f"/people/{first}").json()["keys"]) >= set(keys)


def test_a_name_that_somebody_has_is_a_conflict(service, people):
    key = people["gate-1"]["key"]
    problem(service.api("PATCH", f"/people/{key}", json={"name": "anna"}), 409, "conflict")
    problem(service.api("PATCH", f"/people/{key}", json={"name": "a\nb"}), 422, "invalid")
    problem(service.api("PATCH", f"/people/{key}", json={"name": ""}), 422, "invalid")
    problem(service.api("PATCH", "/people/0123", json={"name": "x"}), 404, "not-found")


def test_two_become_one_and_two_again(service, people):
    one, two = people["gate-1"]["key"], people["gate-2"]["key"]
    done = service.api("POST", f"/people/{one}/merge", json={"into": two}).json()
    assert done["person"]["key"] == two
    assert done["person"]["entries"] == 2
    assert service.get(f"/people/{one}")["key"] == two
    assert len(service.get(f"/people/{two}/timeline")["items"]) == 2
    service.api("POST", f"/changes/{service.get('/changes')['items'][0]['id']}/undo")
    assert service.get(f"/people/{one}")["entries"] == 1
    problem(service.api("POST", f"/people/{one}/merge", json={"into": one}), 422, "invalid")


def test_entries_go_to_somebody_else(service, people):
    one, two = people["gate-1"]["key"], people["gate-2"]["key"]
    (entry,) = service.get(f"/people/{one}/entries")
    split = {"entries": [entry["id"]], "name": "new"}
    problem(service.api("POST", f"/people/{two}/split", json=split), 404, "not-found")
    done = service.api("POST", f"/people/{one}/split", json=split).json()
    assert done["person"]["name"] == "new"
    assert service.get(f"/people/{one}/entries") == []


def test_forgetting_leaves_a_receipt_and_nothing_else(service, people, colour_bundle):
    key = people["gate-2"]["key"]
    receipt = service.api("DELETE", f"/people/{key}").json()
    assert (receipt["entries"], receipt["sightings"], receipt["events"], receipt["keys"]) == (1, 1, 2, [key])
    assert service.get(f"/receipts/{receipt['id']}") == receipt
    problem(service.api("GET", f"/people/{key}"), 404, "not-found")
    told = service.get("/events", limit=200)["items"]
    assert not [each for each in told if each.get("identity") == "gate-2"]
    assert told[0]["event"] == "forgotten"
    assert told[0]["key"] == key
    content = b"".join(each.read_bytes() for each in (service.folder / "gallery").iterdir() if each.is_file())
    assert b"gate-2" not in content
    assert b"gate-1" in content


def test_whoever_another_process_forgets_leaves_the_service_too(service, people, colour_bundle, in_gallery):
    with in_gallery(colour_bundle, service.folder / "gallery") as other:
        other.forget("hall-3")
    service.settled(lambda: not service.get("/people", q="hall-3")["items"])
    assert service.get("/reviews")["items"] == []
    assert not [each for each in service.get("/events", limit=200)["items"] if each.get("identity") == "hall-3"]
    assert service.get("/events")["items"][0]["event"] == "forgotten"


def test_an_event_that_waited_does_not_bring_a_name_back(service, people):
    event = service.met("gate-2", "gate", np.eye(48, dtype=np.float32)[0], track=9)
    service.settled(lambda: [e for e in service.get("/events")["items"] if e["id"] == event.id])
    service.api("DELETE", f"/people/{people['gate-2']['key']}")
    service.service.tell(event)
    late = service.settled(
        lambda: [e for e in service.get("/events")["items"] if e["id"] == event.id and "identity" not in e]
    )[0]
    assert late["event"] == "left"
    assert "key" not in late


def test_a_person_nearly_like_another_is_asked_about(service, people):
    (review,) = service.get("/reviews")["items"]
    assert (review["kind"], review["subject"]["name"], review["candidate"]["name"]) == ("new", "hall-3", "anna")
    assert service.get("/status")["reviews"] == 1
    assert service.api("PUT", f"/reviews/{review['id']}", json={"answer": "same"}).status_code == 204
    assert service.get(f"/people/{people['hall-3']['key']}")["name"] == "anna"
    problem(service.api("PUT", f"/reviews/{review['id']}", json={"answer": "same"}), 422, "invalid")
    assert service.get("/reviews")["items"] == []
    (answered,) = service.get("/reviews", answered=True)["items"]
    assert answered["answer"] == "same"
    assert service.api("DELETE", f"/reviews/{review['id']}/answer").status_code == 204
    assert service.get(f"/people/{people['hall-3']['key']}")["name"] == "hall-3"
    assert len(service.get("/reviews")["items"]) == 1


def test_a_weak_recognition_is_asked_about_and_rejected(service, people):
    service.met("anna", "gate", np.eye(48, dtype=np.float32)[5], track=7, score=0.82)
    review = service.settled(lambda: [e for e in service.get("/reviews")["items"] if e["kind"] == "recognised"])[0]
    assert review["subject"]["name"] == "anna"
    service.api("PUT", f"/reviews/{review['id']}", json={"answer": "different"})
    assert service.get(f"/people/{people['anna']['key']}")["entries"] == 1
    assert [each for each in service.get("/people")["items"] if each["name"].startswith("anna (not)")]
    service.api("DELETE", f"/reviews/{review['id']}/answer")
    assert service.get(f"/people/{people['anna']['key']}")["entries"] == 2


def test_a_sure_recognition_is_not_asked_about(service, people):
    before = len(service.get("/reviews")["items"])
    event = service.met("anna", "gate", np.eye(48, dtype=np.float32)[5], track=7, score=0.95)
    service.settled(lambda: [e for e in service.get("/events")["items"] if e["id"] == event.id])
    assert len(service.get("/reviews")["items"]) == before


def test_events_are_streamed_and_caught_up_with(service, people):
    last = service.get("/events")["items"][0]
    with service.client.stream("GET", "/api/v1/events/stream", headers={"Last-Event-ID": "2"}) as stream:
        lines = stream.iter_lines()
        seen = []
        for line in lines:
            if line.startswith("data: "):
                seen.append(json.loads(line[6:]))
                if seen[-1]["id"] == last["id"]:
                    break
        assert len(seen) == 4
        event = service.met("gate-1", "gate", np.eye(48, dtype=np.float32)[7], track=11)
        fresh = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
        assert fresh["id"] == event.id
        assert fresh["schema"] == 1


def test_a_photo_finds_who_it_shows(service, colour_bundle):
    from deploy import runtime

    crop = np.random.default_rng(0).integers(0, 256, (256, 128, 3), dtype=np.uint8)
    with runtime.open(colour_bundle) as session:
        vector = session.embed(crop[None])
    service.site.gallery.add(vector, identity="carla", camera="hall", time=time.time())
    body = photo(crop, "PNG")
    (person,) = search(service, body, "image/png", "?whole=true").json()["people"]
    assert person["seen_before"] == "yes"
    assert person["matches"][0]["person"]["name"] == "carla"
    assert person["matches"][0]["score"] > 0.99
    elsewhere = search(service, body, "image/png", "?whole=true&camera=gate").json()
    assert elsewhere["people"][0] == {**person, "seen_before": "no", "matches": []}
    assert search(service, photo()).json()["people"] == []


def test_frames_are_drawn_only_when_somebody_looks_and_once(service):
    service.service.see(Frame("gate", 7, time.time(), np.zeros((120, 160, 3), dtype=np.uint8)), [])
    seen = service.site.live.newest("gate")
    assert not seen._jpeg
    jpeg = seen.jpeg()
    assert jpeg.startswith(b"\xff\xd8")
    assert seen.jpeg() is jpeg


def test_a_cameras_images_one_by_one_and_as_they_come(colour_bundle, tmp_path):
    for number in range(3):
        Image.new("RGB", (160, 120), (40 * number, 90, 160)).save(tmp_path / f"{number}.png")
    with running(colour_bundle, tmp_path, sources=[f"gate={tmp_path}"]) as service:
        until = time.monotonic() + 30
        while (answer := service.api("GET", "/cameras/gate/frame.jpg")).status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert answer.headers["X-Frame"] in ("0", "1", "2")
        assert Image.open(io.BytesIO(answer.content)).size == (160, 120)
        address = f"{service.service.address}api/v1/cameras/gate/stream.mjpeg"
        with httpx.stream("GET", address, timeout=20) as stream:
            head, _, rest = next(stream.iter_raw()).partition(b"\r\n\r\n")
        assert head.startswith(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: ")
        jpeg = rest[: int(head.rsplit(b" ", 1)[1])]
        assert Image.open(io.BytesIO(jpeg)).size == (160, 120)


def test_photos_that_wait_for_one_another_keep_nobody_else_waiting(service, people, monkeypatch):
    going, searched = threading.Event(), threading.Semaphore(0)
    people_in = service.site.photos._people

    def slowly(pixels):
        searched.release()
        assert going.wait(30)
        return people_in(pixels)

    monkeypatch.setattr(service.site.photos, "_people", slowly)
    with ThreadPoolExecutor(20) as pool:
        photos = [pool.submit(search, service, photo()) for _ in range(20)]
        try:
            assert searched.acquire(timeout=30)
            answers = [
                httpx.get(f"{service.service.address}{path}", timeout=10) for path in ("healthz", "api/v1/people")
            ]
        finally:
            going.set()
        assert [each.status_code for each in answers] == [200, 200]
        assert [each.result().status_code for each in photos] == [200] * 20


def test_a_photo_waits_for_others_for_so_long_alone(service, people, monkeypatch):
    going = threading.Event()
    monkeypatch.setattr(cameras, "ANSWER_WITHIN", 0.2)
    monkeypatch.setattr(service.site.photos, "_people", lambda pixels: going.wait(30) and (np.empty((0, 4)), []))
    with ThreadPoolExecutor(2) as pool:
        photos = [pool.submit(search, service, photo()) for _ in range(2)]
        refused = next(as_completed(photos)).result()
        going.set()
    problem(refused, 503, "unavailable")
    assert sorted(each.result().status_code for each in photos) == [200, 503]


def test_photos_are_searched_with_the_detector_of_the_cameras_settings(colour_bundle, tmp_path, monkeypatch):
    asked, opened = [], assembly.open_detector
    monkeypatch.setattr(assembly, "open_detector", lambda what, **more: asked.append(more) or opened(what, **more))
    with running(colour_bundle, tmp_path):
        assert asked == [{"threshold": None, "providers": ("CPUExecutionProvider",), "threads": 1}]


@pytest.mark.parametrize(
    ("content", "kind", "status", "name"),
    [
        (b"no image", "image/jpeg", 422, "invalid"),
        (b"", "image/jpeg", 422, "invalid"),
        (photo()[:200], "image/jpeg", 422, "invalid"),
        (photo(kind="GIF"), "image/png", 422, "invalid"),
        (photo(size=(3000, 3000), kind="PNG"), "image/png", 413, "too-large"),
        (b"x" * 13_000_000, "image/jpeg", 413, "too-large"),
        (photo(), "text/html", 415, "wrong-media-type"),
    ],
    ids=["text", "empty", "truncated", "gif", "pixels", "bytes", "type"],
)
def test_photos_that_are_refused(service, content, kind, status, name):
    problem(search(service, content, kind), status, name)


def test_a_body_without_a_length_is_bounded_too(service):
    def endless():
        for _ in range(200):
            yield b"x" * 100_000

    problem(search(service, endless()), 413, "too-large")


def test_the_threshold_is_set_and_survives_a_restart(service, colour_bundle, tmp_path):
    assert service.get("/threshold")["threshold"] == 0.8
    problem(service.api("PUT", "/threshold", json={"threshold": 2}), 422, "invalid")
    problem(service.api("PUT", "/threshold", content=b'{"threshold": NaN}', headers=JSON), 422, "invalid")
    assert service.api("PUT", "/threshold", json={"threshold": 0.7}).json()["configured"] == 0.8
    service.stopping.set()
    service.process.join(timeout=30)
    with running(colour_bundle, tmp_path) as again:
        assert again.get("/threshold")["threshold"] == 0.7
    with running(colour_bundle, tmp_path, threshold=0.75) as other:
        assert other.get("/threshold")["threshold"] == 0.75


def test_views_of_people_live_as_long_as_their_entries(service):
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    box = np.array([10, 10, 60, 160], dtype=np.float32)
    service.service.see(Frame("gate", 0, time.time(), pixels), [Label(box, 5, None, None)])
    service.met("dora", "gate", np.eye(48, dtype=np.float32)[3], track=5, new=True)
    event = service.settled(lambda: [e for e in service.get("/events", kind="left")["items"]])[0]
    assert event["view"] == f"/api/v1/entries/{event['entry']}/view.jpg"
    image = service.client.get(event["view"])
    assert image.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(image.content)).height == 150
    key = service.get("/people")["items"][0]["key"]
    assert service.client.get(f"/api/v1/people/{key}/view.jpg").content == image.content
    assert service.api("DELETE", f"/people/{key}").json()["views"] == 1
    problem(service.client.get(event["view"]), 404, "not-found")


def test_a_defect_is_a_problem_and_a_failure_can_be_retried(service, monkeypatch):
    def broken(limit):
        raise RuntimeError("a secret path")

    def busy(*arguments, **more):
        raise Failure("the disk is full")

    monkeypatch.setattr(service.site.gallery, "aliases", broken, raising=False)
    # The server ends a connection on which it failed.
    told = problem(service.api("GET", "/changes", headers={"Connection": "close"}), 500, "defect")
    assert "secret" not in json.dumps(told)
    monkeypatch.setattr(service.site.gallery, "aliases", busy, raising=False)
    assert problem(service.api("GET", "/changes"), 503, "unavailable")["detail"] == "the disk is full"


def test_what_is_not_there_is_a_problem_too(service):
    problem(service.api("GET", "/nothing"), 404, "not-found")
    problem(service.api("POST", "/people"), 405, "method-not-allowed")
    problem(service.api("GET", "/cameras/none/frame.jpg"), 404, "not-found")
    problem(service.api("PATCH", "/people/ab", content=b"{", headers=JSON), 422, "invalid")
