"""Several data sets as one training set, and identities held out of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from pat.base.errors import UserError
from pat.data.layouts import DataSet
from pat.data.sample import Sample
from pat.data.sources import merge_sources, split_holdout, subset


def people(name: str, identities: range, cameras: range, each: int = 2) -> DataSet:
    every = itertools.product(identities, cameras, range(each))
    samples = tuple(Sample(Path(name, f"{i:04d}_c{c}_{n}.jpg"), i, c, name) for i, c, n in every)
    return DataSet(name, samples, (), ())


def test_labels_and_cameras_never_collide() -> None:
    a, b = people("a", range(5, 9), range(3)), people("b", range(0, 7, 2), range(1, 3))
    training = merge_sources([a, b])
    assert training.samples == a.train + b.train
    assert training.identities == 8
    assert training.names == ("a", "b")
    assert training.notes == ()
    np.testing.assert_array_equal(np.unique(training.labels), np.arange(8))
    np.testing.assert_array_equal(np.unique(training.cameras), np.arange(5))
    assert training.labels.dtype == training.cameras.dtype == np.int64
    for numbers, attribute in ((training.labels, "identity"), (training.cameras, "camera")):
        pairs = {(s.domain, getattr(s, attribute), int(n)) for s, n in zip(training.samples, numbers, strict=True)}
        assert len(pairs) == len({pair[:2] for pair in pairs}) == len({pair[2] for pair in pairs})
    assert training.labels[0] == 0  # identity 5 is the first of the first data set


def test_data_sets_of_one_name_stay_apart() -> None:
    a = people("a", range(2), range(2))
    b = DataSet("a", tuple(Sample(Path("b", s.path.name), s.identity, s.camera, "a") for s in a.train), (), ())
    assert merge_sources([a, b]).identities == 4


def test_nothing_to_train_on() -> None:
    with pytest.raises(UserError, match="the data set a holds no training image"):
        merge_sources([people("a", range(0), range(2))])


def test_the_same_images_twice() -> None:
    with pytest.raises(UserError, match=r"0001_c0_0\.jpg is in a and in a; give each image once"):
        merge_sources([people("a", range(1, 3), range(2))] * 2)


def test_one_camera_and_one_image_are_noted_and_work() -> None:
    training = merge_sources([people("lone", range(1, 4), range(1), each=1), people("b", range(2), range(2))])
    assert training.identities == 5
    assert len(training.notes) == 2
    assert "lone: every training image is from one camera" in training.notes
    assert any("3 identities have a single training image" in note for note in training.notes)


def test_subset_numbers_its_classes_anew() -> None:
    training = merge_sources([people("a", range(1, 5), range(2), each=1)])
    part = subset(training, np.array([0, 4, 5, 7]))  # identities 1, 3, 3, 4
    assert part.labels.tolist() == [0, 1, 1, 2]
    assert part.identities == 3
    assert part.samples == tuple(training.samples[i] for i in (0, 4, 5, 7))
    assert part.cameras.tolist() == [0, 0, 1, 1]


def test_holdout_divides_identities_and_can_be_evaluated() -> None:
    training = merge_sources([people("a", range(1, 11), range(3)), people("b", range(1, 21), range(2))])
    rest, query, gallery = split_holdout(training, 0.2, seed=3)
    held = {sample.identity for sample in gallery}
    assert len(held) == 6  # 2 of a, 4 of b
    assert {s.domain for s in gallery} == {"a", "b"}
    assert rest.identities == 24
    np.testing.assert_array_equal(np.unique(rest.labels), np.arange(24))
    assert not {s.path for s in gallery} & {s.path for s in rest.samples}
    assert len(gallery) + len(rest) == len(training)
    # One query for each identity and camera, and for each a match under another camera.
    assert len(query) == 2 * 3 + 4 * 2
    assert len({(s.identity, s.camera) for s in query}) == len(query)
    for q in query:
        assert any(g.identity == q.identity and g.camera != q.camera for g in gallery)
    people_behind = {(s.domain, s.path.name[:4]) for s in gallery}
    assert len(people_behind) == len(held)  # identities of a and b do not collide


def test_holdout_is_a_function_of_the_seed() -> None:
    training = merge_sources([people("a", range(30), range(2))])
    assert split_holdout(training, 0.3, 1)[2] == split_holdout(training, 0.3, 1)[2]
    assert split_holdout(training, 0.3, 1)[2] != split_holdout(training, 0.3, 2)[2]


def test_holdout_never_takes_every_identity_of_a_data_set() -> None:
    training = merge_sources([people("a", range(1), range(2)), people("b", range(2), range(2))])
    rest, _, gallery = split_holdout(training, 0.99, seed=0)
    assert {s.domain for s in rest.samples} == {"a", "b"}
    assert {s.domain for s in gallery} == {"b"}


def test_holdout_that_cannot_be_evaluated() -> None:
    with pytest.raises(UserError, match="none of the held-out identities is seen by two cameras"):
        split_holdout(merge_sources([people("a", range(9), range(1))]), 0.3, 0)
    with pytest.raises(UserError, match="no data set has two identities"):
        split_holdout(merge_sources([people("a", range(1), range(2))]), 0.5, 0)
    with pytest.raises(UserError, match=r"--data\.holdout 1\.5"):
        split_holdout(merge_sources([people("a", range(9), range(2))]), 1.5, 0)
