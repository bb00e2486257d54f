"""A change of model: a map from old to new vectors, and galleries side by side."""

from __future__ import annotations

import math
import sqlite3
import time

import numpy as np
import pytest

from deploy.gallery import Gallery
from deploy.gallery.database import FILE
from deploy.gallery.remodel import remodel
from deploy.gallery.vector_map import fit
from pat.base.errors import UserError
from vectors import units

OLD, NEW = 12, 8


def models(count: int, noise: float = 0.0, seed: int = 0):
    """What two models make of the same crops; their vectors all point nearly the same way."""
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(count, 6))
    worlds = np.random.default_rng(1)  # the models stay the same
    old = hidden @ worlds.normal(size=(6, OLD)) + 8
    new = hidden @ worlds.normal(size=(6, NEW)) + 8 + noise * draw.normal(size=(count, NEW))
    return tuple((each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32) for each in (old, new))


def test_a_map_holds_for_crops_that_it_was_not_fitted_on():
    vector_map = fit(*models(400))
    old, new = models(100, seed=2)
    mapped = vector_map(old)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)
    assert (np.argmax(mapped @ new.T, axis=1) == np.arange(100)).mean() > 0.9
    assert mapped.dtype == np.float32


def test_models_that_have_nothing_in_common_are_not_brought_together():
    vector_map = fit(units(400, 3, OLD), units(400, 4, NEW))
    assert vector_map.ridge >= 1  # it has learned to trust the mean alone
    likeness = vector_map(units(100, 5, OLD)) @ units(100, 6, NEW).T
    assert (np.argmax(likeness, axis=1) == np.arange(100)).mean() < 0.1


def test_too_few_crops():
    with pytest.raises(UserError, match="too few"):
        fit(units(20, 1, OLD), units(20, 1, NEW))


def test_crops_that_are_all_alike():
    one = np.repeat(units(1, 1, OLD), 100, axis=0)
    with pytest.raises(UserError, match="all alike"):
        fit(one, units(100, 2, NEW))


@pytest.fixture
def old(tmp_path):
    """A gallery with anna, who is kept, under two names, and two people from the gate."""
    with Gallery.open(tmp_path / "old", dimension=OLD, model="old", retention=100.0) as found:
        vectors, now = models(4)[0], time.time()
        found.add(vectors[:1], identity="anna", camera="enrolled", time=now, note="desk", keep_for=math.inf)
        found.add(vectors[1:2], identity="gate-1", camera="gate", time=now - 5)
        found.add(vectors[2:], identity="gate-2", camera="gate", time=now - 50)
        found.merge("gate-1", "anna")
    return tmp_path / "old"


def opened(folder, model: str, dimension: int, **more) -> Gallery:
    return Gallery.open(folder, dimension=dimension, model=model, retention=100.0, **more)


def test_a_gallery_of_another_model_is_never_opened_in_silence(old):
    with pytest.raises(UserError, match="pat gallery migrate"):
        opened(old, "new", OLD)


def test_people_keys_and_merges_go_over_with_mapped_vectors(old, tmp_path):
    vector_map = fit(*models(400))
    about = {"own": 0.9}
    assert remodel(old, tmp_path / "new", dimension=NEW, model="new", vector_map=vector_map, about=about) == 4
    new_vectors = models(4)[1]
    with opened(tmp_path / "new", "new", NEW) as new, opened(old, "old", OLD) as before:
        assert [each.identity for each in new.search(new_vectors[1], 1)] == ["anna"]
        assert [each.identity for each in new.search(new_vectors[3], 1)] == ["gate-2"]
        assert new.key_of("anna") == before.key_of("anna")
        assert {each.id for each in new.export()} == {each.id for each in before.export()}
        assert new.count_mapped() == 4
        new.undo(new.aliases()[0][0])
        assert new.count("gate-1") == 1
        new.add(new_vectors[:1], identity="anna", camera="enrolled", time=time.time(), keep_for=math.inf)
        assert new.count_mapped() == 4  # what the new model made is not among them
        new.forget("gate-2")
        assert new.count_mapped() == 2
    assert models(4)[0][0].tobytes() not in (tmp_path / "new" / FILE).read_bytes()
    with sqlite3.connect(tmp_path / "new" / FILE) as connection:
        assert '"own": 0.9' in connection.execute("SELECT value FROM facts WHERE name = 'map'").fetchone()[0]


def test_side_by_side_the_old_gallery_keeps_its_promises(old, tmp_path):
    assert remodel(old, tmp_path / "new", dimension=NEW, model="new") == 0
    clock = [time.time()]
    with opened(tmp_path / "new", "new", NEW, clock=lambda: clock[0]) as new:
        assert new.count() == 0
        assert new.kept() == ["anna"]
        key = new.key_of("anna")
        new.add(models(1)[1], identity="anna", camera="enrolled", time=clock[0], keep_for=math.inf)
        assert new.key_of("anna") == key  # enrolled anew, the person is who it was
        clock[0] += 60
        new.sweep()
        with opened(old, "old", OLD) as before:
            assert sorted(each.identity for each in before.export()) == ["anna", "anna"]
        new.forget("anna")
        with opened(old, "old", OLD) as before:
            assert before.count() == 0
            assert before.forgotten(key)
    with opened(tmp_path / "new", "new", NEW) as new:  # the old one may be deleted by hand
        assert new.count() == 0


@pytest.mark.parametrize("place", ["old", "elsewhere/old", "old-2"])
def test_the_old_gallery_is_found_wherever_both_were_moved(old, tmp_path, place, caplog):
    """The usual end of a change of model: the new gallery takes the old one's name."""
    remodel(old, tmp_path / "new", dimension=NEW, model="new")
    new = tmp_path / place
    if new.parent == tmp_path:
        old.rename(tmp_path / "old-1")
        (tmp_path / "new").rename(new)
    else:
        new.parent.mkdir()
        (tmp_path / "new").rename(new)
        old.rename(new.with_name("old-1"))
    with opened(new, "new", NEW) as gallery:
        gallery.forget("anna")
    with opened(new.with_name("old-1"), "old", OLD) as before:
        assert before.count("anna") == 0
        assert before.count() == 2
    assert not caplog.records


def test_a_gallery_that_does_not_find_the_old_one_says_so(old, tmp_path, caplog):
    remodel(old, tmp_path / "new", dimension=NEW, model="new")
    (tmp_path / "away").mkdir()
    old.rename(tmp_path / "away" / "old")
    (tmp_path / "new").rename(old)  # where the old one was is the new one itself
    with opened(old, "new", NEW) as gallery:
        assert gallery.forget("anna") == 0
    assert "stays there" in caplog.text


@pytest.mark.parametrize("by", ["forget", "obey"])
def test_who_was_split_off_after_the_change_is_forgotten_in_the_old_gallery_too(old, tmp_path, by):
    remodel(old, tmp_path / "new", dimension=NEW, model="new", vector_map=fit(*models(400)))
    with opened(tmp_path / "new", "new", NEW) as new:
        first, second = (each.id for each in new.export() if each.identity == "gate-2")
        new.split([first], "zed")
        new.merge("zed", "zoe")
        if by == "forget":
            new.forget("zoe")
        else:
            new.obey([new.key_of("zoe")])
    with opened(old, "old", OLD) as before:
        assert [each.id for each in before.export() if each.identity == "gate-2"] == [second]


def test_two_changes_of_model_in_a_row(old, tmp_path):
    remodel(old, tmp_path / "new", dimension=NEW, model="new")
    remodel(tmp_path / "new", tmp_path / "newest", dimension=OLD, model="old")
    with opened(tmp_path / "newest", "old", OLD) as gallery:
        gallery.forget("anna")
    with opened(old, "old", OLD) as before:
        assert before.count("anna") == 0


def test_without_crops_people_without_anything_left_do_not_go_over(old, tmp_path):
    clock = [time.time()]
    with opened(old, "old", OLD) as gallery:
        gallery.add(models(1)[0], identity="gate-3", camera="gate", time=clock[0])
        gallery.saw(gallery.key_of("gate-3"), "gate", first=clock[0], last=clock[0], score=None)
    remodel(old, tmp_path / "new", dimension=NEW, model="new")
    with opened(tmp_path / "new", "new", NEW, clock=lambda: clock[0]) as new:
        assert new.key_of("anna") is not None
        assert new.key_of("gate-2") is None
        assert new.key_of("gate-3") is not None  # there is a timeline
        clock[0] += 200
        new.sweep()
        assert new.key_of("gate-3") is None


@pytest.mark.parametrize("damage", [b"123", np.eye(1, OLD, dtype="<f4").tobytes()], ids=["length", "bits"])
def test_a_damaged_entry_does_not_become_a_sound_one(old, tmp_path, damage, caplog):
    with sqlite3.connect(old / FILE) as connection:
        connection.execute("UPDATE entries SET vector = ? WHERE camera = 'enrolled'", (damage,))
    connection.close()
    assert remodel(old, tmp_path / "new", dimension=NEW, model="new", vector_map=fit(*models(400))) == 3
    assert "1 damaged entries are left out" in caplog.text
    with opened(tmp_path / "new", "new", NEW) as new:
        assert new.count() == new.count_mapped() == 3


def test_what_cannot_be_made(old, tmp_path):
    with pytest.raises(UserError, match="this model already"):
        remodel(old, tmp_path / "new", dimension=OLD, model="old")
    with pytest.raises(UserError, match="does not exist"):
        remodel(tmp_path / "nowhere", tmp_path / "new", dimension=NEW, model="new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="name a new folder"):
        remodel(old, tmp_path / "full", dimension=NEW, model="new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["full", "old"]
