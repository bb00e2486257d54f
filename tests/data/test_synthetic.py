"""Synthetic people: the same bytes each time, the layout of Market-1501, and attributes that are true."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pat.base.errors import UserError
from pat.data.layouts import market1501
from pat.data.layouts.reading import Problems
from pat.synthetic.flat import DomainStyle, generate, style_named
from pat.synthetic.flat.body import VIEWS, Body, Pose
from pat.synthetic.flat.camera import Camera
from pat.synthetic.flat.canvas import Canvas, Light
from pat.synthetic.flat.domains import SOURCE, TARGET
from pat.synthetic.flat.fabric import PixelLabel
from pat.synthetic.flat.figure import draw_person
from pat.synthetic.flat.generate import ATTRIBUTES
from pat.synthetic.flat.wardrobe import COLOURS, NOTHING, Identity, Item, Wardrobe, identities

SMALL: dict[str, Any] = {
    "style": "source",
    "identities_train": 3,
    "identities_test": 3,
    "cameras": 2,
    "images_per_camera": 3,
    "distractors": 2,
    "junk": 2,
    "workers": 1,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of the source domain."""
    out = tmp_path_factory.mktemp("synthetic") / "source"
    generate(out, **SMALL)
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _attributes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ATTRIBUTES).read_text().splitlines()]


# -- the data set as a whole


def test_bytes_do_not_depend_on_the_number_of_workers(written: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", **{**SMALL, "workers": 2})
    assert _files(tmp_path / "again") == _files(written)


def test_another_seed_makes_other_people_and_images(written: Path, tmp_path: Path) -> None:
    generate(tmp_path / "other", **{**SMALL, "seed": 1})
    first, second = _files(written), _files(tmp_path / "other")
    assert not set(first.values()) & set(second.values())
    assert [line["top"] for line in _attributes(written)] != [
        line["top"] for line in _attributes(tmp_path / "other")
    ]


def test_layout_is_market1501(written: Path) -> None:
    read = market1501.read(written, "synthetic", Problems())
    assert len(read.train) == 3 * 2 * 3
    assert len(read.query) == 3 * 2
    assert len(read.gallery) == 3 * 2 * 2 + 2 + 2
    assert {s.identity for s in read.train} == {1, 2, 3}
    assert {s.identity for s in read.query} == {4, 5, 6}
    assert {s.identity for s in read.gallery} == {-1, 0, 4, 5, 6}
    assert len({(s.identity, s.camera) for s in read.query}) == len(read.query)
    for sample in (*read.train, *read.query, *read.gallery):
        match = re.match(r"^([-\d]+)_c(\d)s(\d)_", sample.path.name)
        assert match is not None
        assert int(match[1]) == sample.identity
        assert int(match[2]) == sample.camera + 1


def test_summary_and_progress_count_what_was_written(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    summary = generate(tmp_path / "out", **SMALL, progress=lambda done, all_: calls.append((done, all_)))
    images = len(list((tmp_path / "out").rglob("*.jpg")))
    assert (summary.images, summary.identities, summary.cameras) == (images, 6, 2)
    assert calls[-1] == (images, images)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_fractional_count_is_an_average(tmp_path: Path) -> None:
    numbers = {**SMALL, "identities_train": 30, "identities_test": 0, "distractors": 0, "junk": 0}
    generate(tmp_path / "out", **{**numbers, "images_per_camera": 1.5, "size": (16, 16)})
    counts: dict[tuple[str, str], int] = {}
    for path in (tmp_path / "out" / "bounding_box_train").iterdir():
        identity, camera = path.name[:4], path.name[5:7]
        counts[identity, camera] = counts.get((identity, camera), 0) + 1
    assert len(counts) == 60
    assert len(set(counts.values())) > 1
    assert 1.2 < sum(counts.values()) / 60 < 1.8


@pytest.mark.parametrize("size", [(128, 64), (100, 40)])
def test_images_have_the_size_asked_for(tmp_path: Path, size: tuple[int, int]) -> None:
    generate(tmp_path / "out", **{**SMALL, "junk": 10, "size": size})
    for path in (tmp_path / "out").rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.height, image.width) == size
            assert image.mode == "RGB"


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    generate(tmp_path / "empty", **SMALL)
    assert (tmp_path / "empty" / ATTRIBUTES).is_file()


# -- attributes


def test_every_image_has_its_attributes(written: Path) -> None:
    lines = _attributes(written)
    assert sorted(line["path"] for line in lines) == sorted(
        str(path.relative_to(written)) for path in written.rglob("*.jpg")
    )
    for line in lines:
        number, camera = Path(line["path"]).name.split("_")[:2]
        assert int(number) == line["identity"]
        assert int(camera[1]) == line["camera"]
        assert line["view"] in VIEWS
        assert line["top"]["colour"] in COLOURS
        assert 0 <= line["occlusion"]["share"] <= 1
        if line["occlusion"]["type"] == "none":
            assert line["occlusion"]["share"] == 0


def test_a_person_wears_the_same_in_all_images(written: Path) -> None:
    worn = ("top", "bottom", "shoes", "bag", "hat", "hair", "skin", "build")
    outfits: dict[int, set[str]] = {}
    for line in _attributes(written):
        if line["identity"] > 0:
            outfits.setdefault(line["identity"], set()).add(json.dumps([line[name] for name in worn]))
    assert all(len(outfit) == 1 for outfit in outfits.values())
    assert len({next(iter(outfit)) for outfit in outfits.values()}) == 6


def test_a_part_that_is_not_worn_is_not_visible(written: Path) -> None:
    for line in _attributes(written):
        for part in ("bag", "hat"):
            if line[part]["type"] == "none":
                assert part not in line["visible"]


def _plain_person(**parts: Item) -> Identity:
    colour = COLOURS["blue"]
    top = Item("tee", 0, "blue", colour, "plain", "blue", colour)
    worn = {"top": top, "bottom": Item("trousers"), "shoes": Item("sneakers"), "bag": NOTHING, "hat": NOTHING}
    hair = Item("short", 0, "black", COLOURS["black"])
    return Identity(**{**worn, "hair": hair, **parts}, skin_name="light", skin=(0.9, 0.7, 0.6), height=1, width=1)


def _drawn(identity: Identity, view: str) -> Canvas:
    canvas = Canvas(
        np.zeros((240, 160, 3), np.float32), np.zeros((240, 160), np.uint8), 210.0, (80.0, 15.0), Light(0, 0.5)
    )
    yaw = VIEWS[view]
    pose = Pose(yaw, yaw, elevation=0.1, phase=1.0, stride=0.4, swing=0.4, elbows=(0.3, 0.3))
    draw_person(canvas, identity, Body.of(pose, identity.height, identity.width), 0.0)
    return canvas


def test_backpack_shows_from_behind_and_from_the_sides() -> None:
    person = _plain_person(bag=Item("backpack", 0, "red", COLOURS["red"]))
    seen = {view: int((_drawn(person, view).labels == PixelLabel.BAG).sum()) for view in VIEWS}
    assert seen["back"] > 4 * seen["front"]
    assert min(seen["left"], seen["right"]) > 2 * seen["front"]
    assert seen["front"] > 0  # the straps


def test_print_shows_from_the_front_only() -> None:
    top = Item("tee", 0, "blue", COLOURS["blue"], "logo", "white", COLOURS["white"])
    seen = {view: int((_drawn(_plain_person(top=top), view).labels == PixelLabel.LOGO).sum()) for view in VIEWS}
    assert seen["front"] > 50
    assert seen["back"] == 0


def test_face_shows_from_the_front_and_hair_from_behind() -> None:
    front, back = (_drawn(_plain_person(), view).labels[:40] for view in ("front", "back"))
    assert (front == PixelLabel.SKIN).sum() > 3 * (back == PixelLabel.SKIN).sum()
    assert (back == PixelLabel.HAIR).sum() > 1.5 * (front == PixelLabel.HAIR).sum()


@pytest.mark.parametrize("view", VIEWS)
def test_labels_agree_with_the_pixels(view: str) -> None:
    canvas = _drawn(_plain_person(), view)
    trunk = canvas.pixels[canvas.labels == PixelLabel.TOP]
    assert trunk[:, 2].mean() > 1.8 * trunk[:, 0].mean()  # a blue top
    assert canvas.pixels[canvas.labels == PixelLabel.BACKGROUND].max() < 0.6  # nothing but the edge of a shape
    assert canvas.pixels.min() >= 0
    assert np.isfinite(canvas.pixels).all()


@pytest.mark.parametrize("phase", np.linspace(0, 6, 7))
def test_lower_foot_stands_on_the_ground(phase: float) -> None:
    pose = Pose(0, 0, elevation=0, phase=float(phase), stride=0.5, swing=0.3, elbows=(0.3, 0.3))
    body = Body.of(pose, height=1, width=1)
    assert max(body.left_leg[2][1], body.right_leg[2][1]) == pytest.approx(0.965)


# -- people


def test_no_two_people_agree_in_everything_and_all_share_parts() -> None:
    people = list(islice(identities(TARGET, seed=3), 1600))
    assert len({(person.parts, person.skin_name) for person in people}) == len(people)
    for part in range(6):
        assert len({person.parts[part] for person in people}) <= 20  # a limited wardrobe
    assert len({person.top for person in people}) == TARGET.wardrobe_tops


def test_first_people_do_not_depend_on_how_many_follow() -> None:
    assert list(islice(identities(SOURCE, 0), 5)) == list(islice(identities(SOURCE, 0), 50))[:5]


def test_wardrobe_that_is_used_up_is_named() -> None:
    tiny = replace(SOURCE, wardrobe_tops=1, wardrobe_bottoms=1, wardrobe_shoes=1, bags=(("none", 1.0),))
    tiny = replace(tiny, hats=(("none", 1.0),))
    with pytest.raises(UserError, match=r"dresses \d+ people differently"):
        list(islice(identities(tiny, 0), 200))


# -- domains


def _mean_colours(style: DomainStyle, tmp_path: Path) -> np.ndarray:
    """Mean RGB of the images of each camera [cameras, 3]."""
    out = tmp_path / style.name
    generate(out, **{**SMALL, "style": style, "identities_test": 8, "cameras": 4, "size": (64, 32)})
    means = []
    for camera in range(1, 5):
        paths = sorted(out.rglob(f"*_c{camera}s1_*.jpg"))
        means.append(
            np.mean([np.asarray(Image.open(path), np.float64).mean(axis=(0, 1)) for path in paths], axis=0)
        )
    return np.array(means)


def test_domains_and_cameras_differ_in_colour(tmp_path: Path) -> None:
    source, target = _mean_colours(SOURCE, tmp_path), _mean_colours(TARGET, tmp_path)
    assert source.mean() > target.mean() + 5  # summer against autumn
    for cameras in (source, target):
        warmth = cameras[:, 0] - cameras[:, 2]
        assert np.ptp(warmth) > 15


def test_variants_have_the_same_statistics_but_other_cameras_and_garments() -> None:
    variant = style_named("target:7")
    assert variant == replace(TARGET, name="target:7", seed=variant.seed)
    assert variant.seed not in (TARGET.seed, style_named("target:8").seed)
    assert Wardrobe.of(variant) != Wardrobe.of(TARGET)
    assert Camera.of(variant, 0) != Camera.of(TARGET, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [("sorce", "did you mean source"), ("moon", "there are source, target"), ("target:x", "NAME:NUMBER")],
)
def test_unknown_style_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        style_named(name)


# -- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identities_train": 0, "identities_test": 0}, "make no data set"),
        ({"identities_train": -1}, "make no data set"),
        ({"identities_train": 9999}, "four digits"),
        ({"cameras": 0}, "cameras must be 1 to 9"),
        ({"cameras": 10}, "cameras must be 1 to 9"),
        ({"images_per_camera": 1}, "must be 2 to 100"),
        ({"images_per_camera": float("nan")}, "must be 2 to 100"),
        ({"distractors": -1}, "distractors and junk"),
        ({"identities_test": 0}, "gallery of test identities"),
        ({"seed": -1}, "seed must be"),
        ({"size": (128, 8)}, "size must be"),
        ({"workers": 0}, "workers must be"),
    ],
)
def test_numbers_without_sense_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate(tmp_path / "out", **{**SMALL, **change})
    assert not list(tmp_path.iterdir())


def test_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="already holds files"):
        generate(tmp_path, **SMALL)
    with pytest.raises(UserError, match="is a file"):
        generate(tmp_path / "mine.txt", **SMALL)
    assert _files(tmp_path) == {"mine.txt": b"keep"}


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_run_leaves_nothing(tmp_path: Path, workers: int) -> None:
    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "out", **{**SMALL, "identities_train": 20, "workers": workers}, progress=interrupt)
    assert not list(tmp_path.iterdir())
