"""`pat gallery` as a user types it, with a real bundle."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundles import COLOURS
from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from deploy.gallery.threshold import read_threshold
from export.manifest import Manifest
from fresh import python, without
from pat.base.errors import UserError
from pat.commands.gallery.recording import Views, recording_scores
from pat.commands.gallery.tools import print_table
from pat.data.images import load_rgb


@pytest.fixture(scope="module")
def bundle(colour_bundle) -> Path:
    return colour_bundle


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """Folders of four people, three images each, with cameras in the names."""
    root = tmp_path_factory.mktemp("crops")
    for person in range(4):
        colours = np.random.default_rng(person).integers(0, 256, (2, 1, 3))
        for number in range(3):
            noise = np.random.default_rng([person, number]).normal(0, 25, (2, 1, 3))
            pixels = np.repeat(colours + noise, [20, 20], axis=0) * np.ones((1, 20, 1))
            folder = root / f"person {person}"
            folder.mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"c{1 + number % 2}_{number}.png")
    return root


@pytest.fixture
def gallery(tmp_path, bundle, crops, succeeds) -> Path:
    path = tmp_path / "gallery"
    said = succeeds("gallery", "enrol", path, bundle, crops)[1]
    assert "enrolled 4 identities, 12 entries, kept for ever" in said
    return path


def test_who_was_enrolled_is_found(gallery, bundle, crops, succeeds):
    image = crops / "person 2" / "c1_0.png"
    out, _ = succeeds("gallery", "search", gallery, bundle, image, "--json", "--k", "3")
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == 3
    assert found[0]["identity"] == "person 2"
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    assert found[0]["camera"] == "enrolled"
    assert time.time() - found[0]["time"] < 60
    out, _ = succeeds("gallery", "search", gallery, bundle, image, "--exclude-camera", "enrolled", "--json")
    assert out == ""
    out, _ = succeeds("gallery", "search", gallery, bundle, image, "--until", "2020-01-01T00:00", "--json")
    assert out == ""
    out, _ = succeeds("gallery", "search", gallery, bundle, image)
    assert "person 2" in out


def test_the_vectors_are_those_of_the_bundle(gallery, bundle, crops):
    from deploy import runtime

    manifest = Manifest.load(bundle)
    with (
        Gallery.open(gallery, dimension=COLOURS, model=fingerprint(manifest)) as opened,
        runtime.open(bundle) as session,
    ):
        expected = session.embed(np.asarray(load_rgb(crops / "person 1" / "c1_0.png").resize((128, 256), 3))[None])
        scores = [record.vector @ expected[0] for record in opened.export() if record.identity == "person 1"]
    assert max(scores) == pytest.approx(1, abs=1e-5)


def test_list_count_merge_forget_expire(gallery, succeeds, fails):
    out, _ = succeeds("gallery", "list", gallery, "--json")
    people = [json.loads(line) for line in out.splitlines()]
    assert [(each["identity"], each["entries"]) for each in people] == [(f"person {i}", 3) for i in range(4)]
    out, said = succeeds("gallery", "list", gallery)
    assert "person 3" in out
    assert "4 identities; vectors of 48 numbers" in said
    assert succeeds("gallery", "count", gallery)[0] == "12\n"
    said = succeeds("gallery", "merge", gallery, "person 0", "person 1")[1]
    assert "3 entries of person 0 are now person 1's" in said
    assert succeeds("gallery", "count", gallery, "--identity", "person 1")[0] == "6\n"
    succeeds("gallery", "forget", gallery, "person 1", "person 2")
    assert succeeds("gallery", "count", gallery)[0] == "3\n"
    assert "nobody in the gallery" in fails(2, "gallery", "forget", gallery, "person 1")
    assert "nobody in the gallery" in fails(2, "gallery", "merge", gallery, "person 1", "person 3")
    assert "deleted 0 entries" in succeeds("gallery", "expire", gallery, "--older-than-hours", "1")[1]
    assert "deleted 0 entries" in succeeds("gallery", "expire", gallery, "--older-than-hours", "0")[1]  # enrolled


def test_a_merge_and_a_split_are_taken_back(gallery, tmp_path, succeeds, fails):
    succeeds("gallery", "merge", gallery, "person 0", "person 1")
    assert "person 0" in succeeds("gallery", "aliases", gallery)[0]
    assert "took back 1" in succeeds("gallery", "undo", gallery, "1")[1]
    assert "there is no merge or split 1" in fails(2, "gallery", "undo", gallery, "1")
    succeeds("gallery", "export", gallery, tmp_path / "all.jsonl")
    first = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0])
    assert "1 entries are now Bob's" in succeeds("gallery", "split", gallery, "Bob", first["id"])[1]
    assert succeeds("gallery", "count", gallery, "--identity", "Bob")[0] == "1\n"
    assert "none of these entries" in fails(2, "gallery", "split", gallery, "Bob", "nothing")


def test_export_backup_restore(gallery, tmp_path, succeeds, fails):
    lines, arrays, snapshot = (tmp_path / name for name in ("out.jsonl", "out.npz", "backup.sqlite"))
    succeeds("gallery", "export", gallery, lines)
    succeeds("gallery", "export", gallery, arrays)
    succeeds("gallery", "backup", gallery, snapshot)
    entries = {values["id"]: values for values in map(json.loads, lines.read_text().splitlines())}
    assert len(entries) == 12
    found = np.load(arrays)
    for one, name, vector in zip(found["ids"], found["identities"], found["vectors"], strict=True):
        assert entries[one]["identity"] == name
        np.testing.assert_allclose(entries[one]["vector"], vector, atol=1e-7)
    assert "12 entries, kept for 24 h" in succeeds("gallery", "restore", snapshot, tmp_path / "again")[1]
    assert succeeds("gallery", "count", tmp_path / "again")[0] == "12\n"
    assert "exists" in fails(2, "gallery", "restore", snapshot, gallery)
    assert "must end in .jsonl or .npz" in fails(2, "gallery", "export", gallery, tmp_path / "out.csv")
    assert "cannot write" in fails(1, "gallery", "backup", gallery, lines / "x.sqlite")


def test_who_is_enrolled_is_kept_whatever_the_gallery_keeps(tmp_path, bundle, crops, succeeds):
    path = tmp_path / "gallery"
    person = crops / "person 0"
    said = succeeds("gallery", "enrol", path, bundle, person, "--identity", "Zo\u00eb")[1]
    assert "1 identities, 3 entries, kept for ever" in said
    said = succeeds("gallery", "enrol", path, bundle, person, "--identity", "Anna", "--retention-hours", "48")[1]
    assert "kept for 2 days" in said
    assert "kept for 24 h" in succeeds("gallery", "list", path)[1]
    model = fingerprint(Manifest.load(bundle))
    with Gallery.open(path, dimension=COLOURS, model=model, clock=lambda: time.time() + 47 * 3600) as gallery:
        assert [each.identity for each in gallery.identities()] == ["Anna", "Zo\u00eb"]
    with Gallery.open(path, dimension=COLOURS, model=model, clock=lambda: time.time() + 49 * 3600) as gallery:
        assert [each.identity for each in gallery.identities()] == ["Zo\u00eb"]


def test_unreadable_images(tmp_path, bundle, crops, succeeds, fails):
    (tmp_path / "in" / "anna").mkdir(parents=True)
    (tmp_path / "in" / "anna" / "1.jpg").write_bytes(b"no image")
    command = ["enrol", tmp_path / "gallery", bundle, tmp_path / "in"]
    assert "1.jpg" in fails(2, "gallery", *command)
    assert "nothing was enrolled" in fails(2, "gallery", *command, "--skip-unreadable")
    assert not (tmp_path / "gallery").exists()
    (tmp_path / "in" / "anna" / "2.png").write_bytes((crops / "person 0" / "c1_0.png").read_bytes())
    assert "1 entries" in succeeds("gallery", *command, "--skip-unreadable")[1]


def test_wrong_input_is_one_line(tmp_path, gallery, bundle, crops, fails):
    nowhere = tmp_path / "nowhere"
    for command in (
        ["list", nowhere],
        ["count", nowhere],
        ["forget", nowhere, "a"],
        ["backup", nowhere, "x.sqlite"],
    ):
        assert f"{nowhere} does not exist" in fails(2, "gallery", *command)
    assert not nowhere.exists()
    assert "does not exist" in fails(2, "gallery", "enrol", nowhere, nowhere, crops)
    lone = crops / "person 0"
    assert "lies in no identity's sub-folder" in fails(2, "gallery", "enrol", nowhere, bundle, lone)
    for parts in (("query", "bounding_box_test"), ("train", "test")):
        for part in parts:
            shutil.copytree(lone, tmp_path / parts[0] / part / "person 0")
        assert "is a data set" in fails(2, "gallery", "enrol", nowhere, bundle, tmp_path / parts[0])
    for camera in ("cam_a", "cam_b"):
        shutil.copytree(lone, tmp_path / "cameras" / camera / "person 0")
    assert "holds cameras (cam_a, cam_b)" in fails(2, "gallery", "enrol", nowhere, bundle, tmp_path / "cameras")
    assert not nowhere.exists()
    assert "name the folders" in fails(2, "gallery", "enrol", nowhere, bundle)
    assert "no such image" in fails(2, "gallery", "enrol", nowhere, bundle, nowhere, "--identity", "a")
    assert "control character" in fails(2, "gallery", "enrol", nowhere, bundle, lone, "--identity", "a\x07b")
    image = lone / "c1_0.png"
    assert "is no time" in fails(2, "gallery", "search", gallery, bundle, image, "--since", "yesterday")
    assert "ask for 1 answer" in fails(2, "gallery", "search", gallery, bundle, image, "--k", "0")
    assert "a gallery is a folder" in fails(2, "gallery", "list", "http://127.0.0.1:9/people")
    with closing(sqlite3.connect(gallery / "gallery.sqlite")) as connection, connection:
        connection.execute("UPDATE facts SET value = 'another' WHERE name = 'model'")
    assert "holds vectors of the model another" in fails(2, "gallery", "enrol", gallery, bundle, crops)


def test_calibrate_chooses_a_threshold(tmp_path, bundle, crops, succeeds, fails):
    out = tmp_path / "calibration.json"
    rest = ["--cache", tmp_path / "cache", "--out", out]
    table, said = succeeds("gallery", "calibrate", bundle, crops, "--false-match-rate", "0.1", *rest)
    assert "asked" in table
    assert "only 4 identities" in said
    facts = json.loads(out.read_text())
    pairs = all_pairs(bundle, crops)
    genuine = [cosine for cosine, same, apart in pairs if same and apart]
    impostor = [cosine for cosine, same, _ in pairs if not same]
    assert (facts["genuine_pairs"], facts["impostor_pairs"]) == (len(genuine), len(impostor)) == (8, 54)
    threshold = facts["threshold"]
    assert sum(cosine >= threshold for cosine in impostor) <= 0.1 * 54
    assert sum(cosine >= threshold - 2e-5 for cosine in impostor) > 0.1 * 54  # the lowest that will do
    row = next(each for each in facts["table"] if each["asked_false_match_rate"] == 0.1)
    assert row["false_non_match_rate"] == pytest.approx(sum(cosine < threshold for cosine in genuine) / 8)
    assert read_threshold(str(out), bundle)[0] == threshold
    assert "cannot show a rate of 0.001" in succeeds("gallery", "calibrate", bundle, crops, *rest)[1]
    assert "lies between 0 and 1" in fails(2, "gallery", "calibrate", bundle, crops, "--false-match-rate", "0")


def test_calibrate_refuses_a_model_that_tells_nobody_apart(tmp_path, bundle, crops, fails):
    mixed = tmp_path / "mixed"  # names that say nothing of who is shown
    for number, file in enumerate(sorted(crops.rglob("*.png"))):
        folder = mixed / f"person {number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"c{1 + number // 4 % 2}_{number}.png").write_bytes(file.read_bytes())
    out = tmp_path / "calibration.json"
    said = fails(2, "gallery", "calibrate", bundle, mixed, "--cache", tmp_path / "cache", "--out", out)
    assert "cannot tell these people apart" in said
    assert not out.exists()


def all_pairs(bundle: Path, crops: Path) -> list[tuple[float, bool, bool]]:
    """Cosine, same person, another camera: of every two images, worked out one by one."""
    from deploy import runtime

    files = sorted(crops.rglob("*.png"))
    pixels = np.stack([np.asarray(load_rgb(file).resize((128, 256), 3)) for file in files])
    with runtime.open(bundle) as session:
        vectors = session.embed(pixels).astype(np.float64)
    return [
        (float(vectors[i] @ vectors[j]), a.parent == b.parent, a.name[:2] != b.name[:2])
        for i, a in enumerate(files)
        for j, b in enumerate(files[:i])
    ]


def recorded(tracks, met, spread, seed=0) -> Views:
    """Four views of each track, 3 s from each other, that differ from a direction of its own by `spread`."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(tracks), 4)
    vectors = rng.standard_normal((tracks, 32))[numbers] + spread * rng.standard_normal((4 * tracks, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    times = np.tile(np.arange(4) * 3.0, tracks)
    return Views(vectors.astype(np.float32), numbers, times, frozenset(met))


def test_tracks_of_a_recording_are_pairs():
    views = recorded(12, [(i, i + 1) for i in range(11)], spread=0.2)
    scores = recording_scores(views, 2)
    assert (scores.genuine_pairs, scores.impostor_pairs) == (12 * 6, 11 * 16)
    cosines = views.vectors @ views.vectors.T
    impostor = np.concatenate([cosines[4 * i : 4 * i + 4, 4 * i + 4 : 4 * i + 8].ravel() for i in range(11)])
    assert np.quantile(impostor, 0.99) == pytest.approx(scores.threshold(0.01), abs=0.05)
    assert not scores.across_cameras
    assert scores.equal_error_rate < 0.01


def test_a_recording_that_says_too_little_is_refused():
    with pytest.raises(UserError, match="9 pairs of people were seen at once"):
        recording_scores(recorded(12, [(i, i + 1) for i in range(9)], spread=0.2), 1)
    views = recorded(12, [(i, i + 1) for i in range(11)], spread=0.2)
    with pytest.raises(UserError, match="nobody was followed"):
        recording_scores(dataclasses.replace(views, times=views.times / 10), 1)


def test_calibrate_on_a_video(colour_bundle, street, tmp_path, fails):
    """Three people on a street are too few; a video is told from labelled images, and both are not mixed."""
    out = tmp_path / "calibration.json"
    arguments = ("gallery", "calibrate", colour_bundle, street / "camera-1.mp4", "--out", out)
    said = fails(2, *arguments, "--detect.detector", "hog:540")
    assert "seen at once" in said
    said = fails(2, "gallery", "calibrate", colour_bundle, street / "camera-1.mp4", tmp_path, "--out", out)
    assert "videos alone" in said
    said = fails(2, "gallery", "calibrate", colour_bundle, tmp_path / "none.mp4", "--out", out)
    assert "none.mp4" in said
    assert not out.exists()


def test_calibrate_refuses_a_model_that_a_recording_shows_useless(colour_bundle, tmp_path, monkeypatch, fails):
    views = recorded(12, [(i, i + 1) for i in range(11)], spread=50.0)
    monkeypatch.setattr("pat.commands.gallery.calibrate.watch", lambda *arguments: views)
    said = fails(2, "gallery", "calibrate", colour_bundle, "street.mp4", "--out", tmp_path / "c.json")
    assert "cannot tell these people apart" in said
    assert not (tmp_path / "c.json").exists()


def test_it_runs_without_torch(gallery, bundle, crops, tmp_path):
    program = without("torch", "timm", "triton", "torchvision", "matplotlib") + (
        "from pat.cli import run\n"
        "gallery, bundle, crops, folder = sys.argv[1:]\n"
        "image = crops + '/person 1/c1_0.png'\n"
        "assert run('gallery', ['search', gallery, bundle, image, '--json', '--k', '1']) == 0\n"
        "rest = ['--cache', folder + '/cache', '--out', folder + '/calibration.json']\n"
        "assert run('gallery', ['calibrate', bundle, crops, *rest]) == 0\n"
    )
    done = python("-c", program, gallery, bundle, crops, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["identity"] == "person 1"


def test_a_name_is_listed_whole_to_be_copied(capsys):
    name = "a-camera-with-a-long-name-1123T115248-1017"
    print_table(["identity", "entries", "cameras", "first", "last"], [[name, "3", "c" * 60, "f" * 30, "l" * 30]])
    assert name in capsys.readouterr().out
