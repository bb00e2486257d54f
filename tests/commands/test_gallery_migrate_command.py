"""`pat gallery migrate`: crops of both models, a loss that is printed, and refusals."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

from deploy import runtime
from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from export.manifest import Manifest
from pat.base.errors import UserError
from pat.commands.gallery import main
from pat.commands.gallery.migrate import FEWEST_PEOPLE, held_out
from pat.commands.synth import People
from pat.synthetic.people.plan import Plan

PEOPLE = 66


def crop(person: int, view: int) -> np.ndarray:
    """Somebody in clothes of 16 patches, 2 x 8; the light differs from view to view."""
    clothes = np.random.default_rng(person).integers(0, 256, (8, 2, 3))
    light = np.random.default_rng((person, view)).normal(0, 25, clothes.shape)
    pixels = np.clip(clothes + light, 0, 255).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)  # [32, 8, 3]
    return np.pad(pixels, ((0, 0), (4, 4), (0, 0)))


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    for person in range(PEOPLE):
        (folder / str(person)).mkdir()
        for view in range(3):
            Image.fromarray(crop(person, view)).save(folder / str(person) / f"{view}.png")
    return folder


@pytest.fixture(scope="module")
def mixed_bundle(tmp_path_factory):
    """Another model of the same clothes: it mixes what the first one tells apart."""
    import bundles

    mix = np.random.default_rng(0).normal(size=(bundles.COLOURS, 40))
    return bundles.colours(tmp_path_factory.mktemp("mixed") / "bundle", mix)


@pytest.fixture(scope="module")
def blind_bundle(tmp_path_factory):
    """A model that sees one patch of the clothes alone."""
    import bundles

    mix = np.zeros((bundles.COLOURS, 40))
    mix[:3, :3] = np.eye(3)
    return bundles.colours(tmp_path_factory.mktemp("blind") / "bundle", mix)


@pytest.fixture
def gallery(colour_bundle, tmp_path):
    manifest = Manifest.load(colour_bundle)
    with (
        runtime.open(colour_bundle) as session,
        Gallery.open(tmp_path / "old", dimension=manifest.output.size, model=fingerprint(manifest)) as found,
    ):
        for person in range(1000, 1030):
            image = Image.fromarray(crop(person, 0)).resize((128, 256), Image.Resampling.BICUBIC)
            vector = session.embed(np.asarray(image)[None])
            found.add(vector, identity=f"p{person}", camera="gate", time=time.time(), keep_for=math.inf)
    return tmp_path / "old"


def test_the_people_that_the_page_renders_are_enough():
    """docs/operators.md: of a data set with query and gallery the training people are left out."""
    page = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()
    (words,) = re.findall(r"^pat synth people (.*)$", page, re.MULTILINE)
    asked = tyro.cli(People, args=words.split())
    plan = Plan(asked.identities, asked.images, test_share=asked.test_share)
    assert held_out(np.arange(plan.identities - plan.training)).sum() >= FEWEST_PEOPLE


def search(place, bundle, person: int) -> str:
    manifest = Manifest.load(bundle)
    image = Image.fromarray(crop(person, 1)).resize((128, 256), Image.Resampling.BICUBIC)
    with (
        runtime.open(bundle) as session,
        Gallery.open(place, dimension=manifest.output.size, model=fingerprint(manifest)) as found,
    ):
        return found.search(session.embed(np.asarray(image)[None])[0], 1)[0].identity


def test_a_mapped_gallery_knows_people_by_another_model(
    gallery, colour_bundle, mixed_bundle, crops, tmp_path, capsys
):
    main(["migrate", str(gallery), str(tmp_path / "new"), str(colour_bundle), str(mixed_bundle), str(crops)])
    said = capsys.readouterr()
    assert "new model among mapped vectors" in said.out
    assert "66 crops of 22 people" in said.err
    right = [search(tmp_path / "new", mixed_bundle, person) == f"p{person}" for person in range(1000, 1030)]
    assert sum(right) >= 25
    with pytest.raises(UserError, match="pat gallery migrate"):
        search(tmp_path / "new", colour_bundle, 1000)


def test_crops_without_labels(gallery, colour_bundle, mixed_bundle, crops, tmp_path, capsys):
    given = [str(gallery), str(tmp_path / "new"), str(colour_bundle), str(mixed_bundle), str(crops)]
    main(["migrate", *given, "--no-labels"])
    said = capsys.readouterr()
    assert "rank-1" not in said.out
    assert "are nearest to their own new" in said.err
    assert search(tmp_path / "new", mixed_bundle, 1001) == "p1001"


def test_a_map_that_loses_too_much_is_refused(gallery, colour_bundle, blind_bundle, crops, tmp_path):
    given = [str(gallery), str(tmp_path / "new"), str(colour_bundle), str(blind_bundle), str(crops)]
    with pytest.raises(UserError, match=r"the map is refused: .*--least asks for 80%"):
        main(["migrate", *given])
    assert not (tmp_path / "new").exists()
    main(["migrate", *given, "--least", "0"])
    assert (tmp_path / "new").exists()


def test_what_is_wrong_is_told_before_anything_is_embedded(
    gallery, colour_bundle, mixed_bundle, crops, tmp_path, monkeypatch
):
    monkeypatch.setattr("pat.commands.gallery.migrate.embedded", None)
    given = [str(gallery), str(tmp_path / "new"), str(colour_bundle), str(mixed_bundle), str(crops)]
    for least in ("nan", "80", "-0.1"):
        with pytest.raises(UserError, match="--least is"):
            main(["migrate", *given, "--least", least])
    with pytest.raises(UserError, match="holds vectors of"):
        main(["migrate", *given[:2], str(mixed_bundle), str(colour_bundle), str(crops)])
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").touch()
    with pytest.raises(UserError, match="name a new folder"):
        main(["migrate", *given])


def test_without_crops_the_people_go_over_and_are_named_for_enrolment(
    gallery, colour_bundle, mixed_bundle, tmp_path, capsys
):
    main(["migrate", str(gallery), str(tmp_path / "new"), str(colour_bundle), str(mixed_bundle)])
    assert "enrol anew who is kept until forgotten: p1000, p1001" in capsys.readouterr().err
    main(["count", str(tmp_path / "new")])
    assert capsys.readouterr().out.split()[0] == "0"
    main(["merge", str(tmp_path / "new"), "p1000", "Anna"])
    main(["forget", str(tmp_path / "new"), "Anna", "p1001"])
    assert "forgot p1001: 0 entries" in capsys.readouterr().err
    with pytest.raises(UserError, match="nobody in the gallery"):
        main(["forget", str(tmp_path / "new"), "Anna"])


@pytest.mark.parametrize(("what", "complaint"), [("empty", "found nothing"), ("missing", "no file or folder")])
def test_crops_that_are_not_there(gallery, colour_bundle, mixed_bundle, tmp_path, what, complaint):
    if what == "empty":
        (tmp_path / what).mkdir()
    given = [str(gallery), str(tmp_path / "new"), str(colour_bundle), str(mixed_bundle), str(tmp_path / what)]
    with pytest.raises(UserError, match=complaint):
        main(["migrate", *given])
