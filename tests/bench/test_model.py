"""How the model in the box is made: groups of people, their figures, the card."""

from dataclasses import replace

import numpy as np
import pytest

from bench.deadline import Deadline
from bench.model import make, scores
from bench.model.card import card
from bench.model.scores import GROUPS, figures, scores_on
from bench.stages import Options
from bundles import described
from export.manifest import MODEL, Decision, FileFact, Manifest
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.evaluation.ranking import Features, evaluate_ranking
from pat.evaluation.scoring import Score
from pat.synthetic.people.dataset import write_people
from pat.synthetic.people.plan import Plan

pytest.importorskip("pyarrow")

ROW = {
    "tone": 0.99, "sex": "female", "body_weight": 0.5, "hat": "none", "hair": "long", "top": "shirt",
    "bottom": "long skirt", "weather": "night", "box": "no feet", "camera_rows": 191, "family": 3,
}  # fmt: skip


def test_everybody_is_in_one_group_of_each_division():
    assert {name: group_of(ROW) for name, group_of in GROUPS.items()} == {
        "skin tone": "dark", "body": "female", "build": "medium", "clothes": "dress, skirt or robe",
        "light": "night", "box": "no feet", "pixels of the person": "96 to 191 rows",
        "look-alikes": "has look-alikes",
    }  # fmt: skip
    assert GROUPS["skin tone"]({**ROW, "tone": 1.0}) == "dark"
    assert GROUPS["clothes"]({**ROW, "hair": "covered"}) == "headscarf"


def scored(right):
    """Queries 0 to n - 1 in a gallery of their twins; those that are not `right` look like the next person."""
    unit = np.eye(len(right), dtype=np.float32)
    people = np.arange(len(right))
    seen = np.where(right, people, np.roll(people, -1))
    query = Features(unit[seen], people, np.zeros(len(right), dtype=np.int64))
    gallery = Features(unit, people, np.ones(len(right), dtype=np.int64))
    return Score((evaluate_ranking(query, gallery),), query, gallery)


def test_figures_of_a_group_are_those_of_its_queries_alone():
    some = scored(np.array([True] * 30 + [False] * 10))
    first = np.arange(40) < 30
    assert figures(some, first).rank1 == figures(some, first).mAP == 1.0
    assert figures(some, ~first).rank1 == 0.0
    whole = figures(some, np.ones(40, dtype=bool))
    assert whole.rank1 == 0.75
    assert whole.low < whole.mAP < whole.high
    assert whole.queries == 40


def test_a_folder_of_rendered_people_is_scored_by_group(tmp_path, monkeypatch):
    plan = Plan(identities=8, images=4, cameras=2, cameras_each=2, test_share=0.75, size=(64, 32), look_alikes=1.0)
    write_people(tmp_path / "people", plan, workers=1)
    monkeypatch.setattr(scores, "FEWEST", 1)

    def embed(pixels):
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    found = scores_on(tmp_path / "people", embed, (64, 32), tmp_path / "cache", Progress())
    assert (found["people"], found["cameras"], found["images"]) == (6, 2, 12)
    for division in found["groups"].values():
        assert sum(group["queries"] for group in division.values()) == found["model"]["queries"] == 12
    with pytest.raises(UserError, match=r"no people\.parquet"):
        scores_on(tmp_path, embed, (64, 32), tmp_path / "cache", Progress())


def test_the_card_tells_the_figures_and_what_the_threshold_costs(tmp_path):
    manifest = described(
        (128, 64), 256,
        files={MODEL: FileFact("0" * 64, 12_300_000)},
        model={"stem": "deep", "parts": 0, "depth": 6, "width": 256}, training={"images": 66_880, "seed": 0},
        decision=Decision(0.6125, 0.00098, "220 people"),
    )  # fmt: skip
    some = {"rank1": 0.5, "mAP": 0.25, "low": 0.2, "high": 0.3, "queries": 40}
    groups = {"body": {"female": some, "male": {**some, "mAP": 0.75}}, "light": {}}
    first = {"people": 220, "cameras": 600, "images": 9, "model": some, "histogram": some, "groups": groups}
    text = card(manifest, {"held-out": first, "test": {**first, "groups": {"body": {"male": some}, "light": {}}}})
    assert "| test | 220, 600 | 50.0 / 25.0 | 50.0 / 25.0 (20.0 to 30.0) |" in text
    assert "| body: female | 50.0 / 25.0 (20 to 30; 40 queries) | too few |" in text
    assert "| threshold | 0.6125: 0.098% of the pairs of different people match; chosen on 220 people |" in text
    assert "12.3 MB" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": 0.0}, "--minutes 0.0: expected more than 0"),
        ({"minutes": float("nan")}, "--minutes nan"),
        ({"threads": -1}, "--threads -1"),
        ({"training": 0.0}, "--training 0.0: expected minutes, more than 0"),
        ({"training": float("nan")}, "--training nan"),
    ],
)
def test_numbers_that_cannot_be_are_one_line(change, message, tmp_path, capsys):
    assert make.main(replace(Options(tmp_path / "out", 92.0), **change)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("late", ["_export", "_score"])
def test_a_model_that_is_done_as_time_runs_out_is_done(late, tmp_path, monkeypatch):
    deadline = Deadline(None)
    for stage in ("_render", "_train", "_export", "_score"):
        monkeypatch.setattr(make, stage, lambda *_, **__: None)
    monkeypatch.setattr(make, late, lambda *_, **__: setattr(deadline, "moment", 0))
    assert make.make(Options(tmp_path, 92.0), deadline, Progress()) == (late == "_score")


@pytest.mark.slow
def test_a_small_model_is_made_from_nothing_and_the_same_command_goes_on(tmp_path):
    options = Options(tmp_path, 92.0, small=True)
    assert make.main(replace(options, minutes=0.01)) == 75  # left in time
    assert make.main(options) == 0
    assert "| test domain |" in (tmp_path / "bundle" / "README.md").read_text()
    assert Manifest.load(tmp_path / "bundle").decision is None  # seconds of training tell nobody apart
