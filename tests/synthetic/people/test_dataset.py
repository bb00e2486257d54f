"""Data sets of 3D people: the same whoever draws them, finished after an interruption, readable, true."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pat.base.errors import Failure, UserError
from pat.data.layouts import market1501
from pat.data.layouts.reading import Problems
from pat.synthetic.people import dataset
from pat.synthetic.people.plan import TEST_DOMAIN, Plan
from pat.synthetic.people.stream import people
from pat.synthetic.people.wardrobe import PARTS

pq = pytest.importorskip("pyarrow.parquet")

PLAN = Plan(
    identities=10, images=4, cameras=2, cameras_each=2, test_share=0.3, look_alikes=1.0, size=(64, 32),
    segmentation=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("people") / "out"
    assert dataset.write_people(out, PLAN, workers=1) == 40
    return out


def _images(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_layout_is_read_with_its_cameras(written):
    read = market1501.read(written, "people", Problems())
    assert (len(read.train), len(read.query), len(read.gallery)) == (28, 6, 6)
    assert {sample.identity for sample in read.train} == set(range(1, 8))
    assert {sample.identity for sample in read.query} == {sample.identity for sample in read.gallery} == {8, 9, 10}
    assert {sample.camera for sample in read.train} == {0, 1}


def test_cameras_with_three_digits_are_read(tmp_path):
    shots = Plan(identities=2, images=2, cameras=999, cameras_each=1).shots(1)
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 16)).save(tmp_path / folder / Path(shots[0].path).name)
    assert market1501.read(tmp_path, "many", Problems()).train[0].camera == shots[0].camera > 8


def test_an_interrupted_data_set_is_finished_and_workers_change_nothing(written, tmp_path):
    calls = 0

    def stop(what: str, done: int, total: int) -> None:
        nonlocal calls
        if what == "crops" and done:
            calls += 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.write_people(tmp_path / "out", PLAN, workers=1, progress=stop)
    assert not (tmp_path / "out" / dataset.TABLE).exists()
    told: list[tuple[str, int, int]] = []
    dataset.write_people(tmp_path / "out", PLAN, workers=2, progress=lambda *step: told.append(step))
    assert [step for step in told if step[0] == "crops"] == [("crops", 32, 40), ("crops", 40, 40)]
    assert _images(tmp_path / "out") == _images(written)
    assert pq.read_table(tmp_path / "out" / dataset.TABLE).equals(pq.read_table(written / dataset.TABLE))


def test_a_finished_data_set_is_left_alone_and_another_refused(written):
    before = _images(written)
    assert dataset.write_people(written, PLAN, workers=1) == 40
    assert _images(written) == before
    with pytest.raises(UserError, match="other seed"):
        dataset.write_people(written, Plan(**{**PLAN.__dict__, "seed": 1}), workers=1)


def test_another_look_is_not_mixed_in(tmp_path):
    (tmp_path / dataset.PLAN).write_text(json.dumps(PLAN.told() | {"look": 1}))
    with pytest.raises(UserError, match="other look"):
        dataset.write_people(tmp_path, PLAN, workers=1)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path):
    plan = Plan(identities=2, images=2, cameras=1, cameras_each=1, test_share=0.5, size=(64, 32))
    full = tmp_path / plan.shots(2)[1].path  # the last image of four: a device without room
    full.parent.mkdir()
    full.symlink_to("/dev/full")
    (tmp_path / dataset.PLAN).write_text(json.dumps(plan.told()))
    with pytest.raises(Failure, match=r"cannot write people to .*: No space left on device; run the same command"):
        dataset.write_people(tmp_path, plan, workers=1)
    full.unlink()
    assert dataset.write_people(tmp_path, plan, workers=1) == len(_images(tmp_path)) == 4
    assert len(pq.read_table(tmp_path / dataset.TABLE)) == 4


def test_rows_tell_every_image_and_its_parts(written):
    rows = pq.read_table(written / dataset.TABLE).to_pylist()
    assert {row["path"] for row in rows} == set(_images(written))
    for row in rows:
        parts = np.asarray(Image.open(written / "segmentation" / Path(row["path"]).with_suffix(".png")))
        assert parts.shape == (64, 32)
        for part in row["parts"]:
            left, top, right, bottom = part["box"]
            here = parts == PARTS.index(part["part"])
            assert here[top:bottom, left:right].sum() == here.sum() > 0
        assert 0 <= row["occlusion"] <= 1
    families = [row for row in rows if row["identity"] <= 4]
    assert {row["family"] for row in families} == {families[0]["family"]}
    assert all(row["changed"] for row in families if row["identity"] > 1)


def test_people_on_the_fly_are_those_of_the_plan_and_never_come_twice():
    plan = Plan(images=2, cameras=1, cameras_each=1, size=(64, 32))
    batches = people(plan, workers=1, first=3)
    first, second = next(batches), next(batches)
    batches.close()
    assert first.images.shape == (16, 64, 32, 3)
    assert first.images.dtype == np.uint8
    assert set(first.identities) == set(range(25, 33))
    assert not set(first.identities) & set(second.identities)
    assert len({image.tobytes() for image in first.images}) == 16


def test_the_test_domain_is_fixed():
    TEST_DOMAIN.check()
    assert (TEST_DOMAIN.identities - TEST_DOMAIN.training, TEST_DOMAIN.cameras_each) == (500, 6)
    assert TEST_DOMAIN.domain == "test"
