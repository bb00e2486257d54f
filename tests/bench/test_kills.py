"""bench.kills finds what was lost, and finds nothing where nothing was."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from bench.kills import Options, main, run
from bench.losses import Events, audited, copied, stored, whole
from bench.writers import GONE, Client, InGallery
from deploy.gallery import Gallery
from deploy.service.store import Store

NOW = time.time()


@pytest.fixture
def gallery(tmp_path):
    with Gallery.open(tmp_path / "gallery", dimension=8, model="model") as opened:
        names = ["anna", "bob", "carla"]
        opened.add(np.eye(3, 8, dtype=np.float32), identity=names, camera="gate", time=NOW)
        yield opened


def keys(gallery):
    return {gallery.key_of(name): name for name in ("anna", "bob", "carla")}


def test_a_client_notices_what_is_not_as_it_was_told(gallery, tmp_path):
    client = Client(keys(gallery), 0)
    desk, (anna, bob, carla) = InGallery(gallery), keys(gallery)
    with client._told([anna], "bob", "merge_people"):
        change = desk.merge(anna, bob)
    with client._told([carla], GONE, "forget_person"):
        desk.forget(carla)
    with pytest.raises(ValueError, match="killed"), client._told([bob], "bert", "rename_person"):
        raise ValueError("killed")

    def problems(content=b""):
        with copied(tmp_path / "gallery") as (connection, on_disk):
            return list(client.check(connection, on_disk + content))

    assert problems() == []
    assert client.allowed == {anna: {"bob"}, bob: {"bob"}, carla: {GONE}}  # the name that bob did not get is out
    assert client.acknowledged == {"merge_people": 1, "forget_person": 1}
    (left,) = problems(b"..carla..")
    assert "its names are on the disk: ['carla']" in left
    gallery.undo(change)
    (lost,) = problems()
    assert f"{anna} is anna, which should be one of {{'bob'}}" in lost


def test_what_is_damaged_or_came_back_is_found(gallery, tmp_path):
    gallery.forget("anna")
    buried: set[str] = set()

    def problems():
        with copied(tmp_path / "gallery") as (connection, _):
            return [problem.split(":")[0] for problem in whole(connection, buried)]

    assert problems() == []
    assert len(buried) == 2  # a person and an entry
    with gallery._database.changing() as connection:
        connection.execute("DELETE FROM tombstones WHERE key IN (SELECT key FROM tombstones LIMIT 1)")
    assert problems() == ["tombstones were undone"]
    with gallery._database.changing() as connection:
        connection.execute("UPDATE entries SET note = 'other' WHERE identity = 2")
        connection.execute("INSERT INTO moved VALUES (99, 1, 2)")
    damaged, *rest = sorted(problems())
    assert damaged == "foreign_key_check"
    assert rest[0].startswith("the checksum of the entry")


def test_a_track_that_was_told_as_stored_is_missed(gallery, tmp_path):
    anna, bob, carla = keys(gallery)
    gallery.forget("bob")
    tracks = (
        (anna, NOW, "gate"), (bob, NOW, "gate"), (carla, NOW, "hall"), (carla, NOW + 9, "gate"), ("0", NOW, "gate")
    )  # fmt: skip
    told = [
        {"track": track, "key": key, "time": when, "camera": camera, "stored": True}
        for track, (key, when, camera) in enumerate(tracks)
    ]
    with copied(tmp_path / "gallery") as (connection, _):
        missed = [problem.split()[1] for problem in stored(connection, told)]
    assert missed == ["2", "3", "4"]


def test_a_change_without_a_line_of_the_audit_log_is_missed(gallery, tmp_path):
    with Store(tmp_path / "gallery") as store, store.changing() as connection:
        connection.execute(
            "INSERT INTO service_audit (time, who, role, address, action, subject, status) "
            "VALUES (0, '', '', '', 'rename_person', '', 200)"
        )
        assert list(audited(connection, {"rename_person": 1})) == []
        assert len(list(audited(connection, {"rename_person": 2, "merge_people": 1}))) == 2


def test_events_that_are_gone_or_cut_off(tmp_path):
    events = Events(tmp_path / "events.jsonl")
    one, two, three = (json.dumps({"schema": 1, "id": each}) for each in "123")
    (tmp_path / "events.jsonl.1").write_text(f"{one}\n")
    events.path.write_text(f"{two}\n")
    events.expect()
    assert [each["id"] for each in events.read()] == ["1", "2"]
    assert (events.torn, events.problems) == (0, [])
    events.path.write_text(f"{two[:9]}{three}\n")
    assert [each["id"] for each in events.read()] == ["1"]
    assert events.torn == 1
    glued, gone = events.problems
    assert glued.startswith("a line that was cut off took another with it")
    assert gone == "the event 2 was in the file, and is gone"


@pytest.mark.parametrize(
    ("change", "status"), [({"times": 0}, 2), ({"flags": ["--detect.detector", "nobody"]}, 1)]
)
def test_what_does_not_start_is_told(change, status, colour_bundle, street, tmp_path, capsys):
    options = {"streets": [street], "bundle": colour_bundle, "threshold": "0.8", "out": tmp_path, "times": 1}
    assert main(Options("camera", **{**options, **change})) == status
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["service", "camera"])
def test_kills_under_load_lose_nothing(colour_bundle, street, tmp_path, kind):
    flags = ("--detect.detector", "hog:720", "--camera.rate", "4")
    options = Options(
        kind, times=3, streets=[street], bundle=colour_bundle, threshold="0.8", out=tmp_path, flags=flags
    )
    outcome = run(options)
    print(*outcome.lines(), sep="\n")
    assert outcome.problems == []
    assert outcome.kills == 3
    assert sum(outcome.acknowledged.values()) > 10
    assert outcome.torn == 0
