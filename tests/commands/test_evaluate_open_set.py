"""`pat evaluate --open-set`: table, JSON and page, a bundle's own threshold, and what cannot be measured."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from export.manifest import Decision
from pat.base.progress import Progress
from pat.cli import run
from pat.commands.embedders import OpenedModel
from pat.commands.open_set import open_set_facts
from pat.config import EvaluateConfig, ModelConfig
from pat.evaluation.ranking import Features, evaluate_ranking
from pat.evaluation.report import Report
from pat.evaluation.scoring import Score
from pat.model import PartAwareTransformer
from pat.model.weights import save


@pytest.fixture
def evaluate(tmp_path, tiny_values, capsys):
    """`evaluate(data)` scores a network with a random start and gives the figures in JSON, and what was shown."""
    model = tmp_path / "model.safetensors"
    save(PartAwareTransformer(ModelConfig(**{**tiny_values["model"], "image_size": (32, 16)})), model, {})
    words = [str(model), "--data.cache", str(tmp_path / "cache"), "--images", "0", "--device", "cpu", "--open-set"]

    def call(data, *more: str):
        assert run("evaluate", [*words, "--data", str(data), "--out", str(tmp_path / "out"), *more]) == 0
        facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        return facts["targets"], capsys.readouterr(), (tmp_path / "out" / "report.html").read_text()

    return call


def test_the_figures_stand_in_table_json_and_page(evaluate, market) -> None:
    targets, shown, page = evaluate(market, "--flip", "--debias", "--rerank")
    (kinds,) = targets.values()
    assert "open_set" not in kinds["cls, re-ranked"]
    for kind in ("cls", "cls, flip", "cls, flip, debiased"):
        assert 0 <= kinds[kind]["open_set"]["equal_error_rate"] <= 1
        assert kinds[kind]["open_set"]["decision"] is None
    for text in (shown.out, page):
        assert "DIR 1 %" in text
        assert f"{100 * kinds['cls']['open_set']['equal_error_rate']:.1f}" in text
        assert "too few queries or pairs" in text
    assert "decides by" not in shown.out
    assert evaluate(market, "--flip", "--debias", "--rerank")[0] == targets


def test_one_identity_is_told_and_the_rest_is_scored(evaluate, market, tmp_path) -> None:
    shutil.copytree(market, tmp_path / "one")
    for folder in ("query", "bounding_box_test"):
        for path in (tmp_path / "one" / folder).iterdir():
            if not path.name.startswith("0007"):
                path.unlink()
    targets, shown, page = evaluate(tmp_path / "one")
    assert targets["one"]["cls"]["mAP"] == 1
    assert "two identities" in targets["one"]["cls"]["open_set"]["missing"]
    assert "two identities" in shown.err
    assert "two identities" in page


def test_a_bundles_threshold_is_judged_on_its_own_embedding_alone(capsys) -> None:
    rng = np.random.default_rng(0)
    identities, cameras = np.repeat(np.arange(1, 21), 4), np.tile([0, 0, 1, 1], 20)
    vectors = np.random.default_rng(1).standard_normal((21, 8))[identities] + rng.standard_normal((80, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = Features(vectors.astype(np.float32), identities, cameras)
    score = Score((evaluate_ranking(features, features),), features, features)
    decision = Decision(threshold=0.75, false_match_rate=0.001, chosen_on="rendered people")
    opened = OpenedModel(None, (8, 4), None, None, decision=decision)  # type: ignore[arg-type]
    report = Report("x")
    config = EvaluateConfig(flip=True)
    scores = {"cls": score, "cls, flip": score}
    facts = open_set_facts(scores, opened, config, "x", report, Progress())
    cosines = features.vectors @ features.vectors.T
    other = identities[:, None] != identities
    genuine = ~other & (cameras[:, None] != cameras)
    assert facts["cls"]["decision"]["false_match_rate"] == pytest.approx((cosines[other] >= 0.75).mean(), abs=1e-3)
    assert facts["cls"]["decision"]["miss_rate"] == pytest.approx((cosines[genuine] < 0.75).mean(), abs=1e-3)
    assert facts["cls, flip"]["decision"] is None
    shown = capsys.readouterr().out
    assert shown.count("The bundle decides by a cosine of 0.7500") == 1
    assert "It was chosen for 0.100% on rendered people" in shown
    assert "decides by a cosine" in report.html()
