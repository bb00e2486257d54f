"""The random search: what it draws, whom it takes on, what it tells of interactions."""

import dataclasses
import json

import numpy as np
import pytest

from pat.ablation import search
from pat.ablation.plan import RESULT, Result, tuning_runs
from pat.training.validate import validate


def test_settings_lie_around_the_configuration_and_do_not_depend_on_their_number(base):
    base = dataclasses.replace(base, epochs=20)
    arms = search.candidates(base, 200)
    assert search.candidates(base, 3) == arms[:3]
    losses = [arm.configured(base).loss for arm in arms]
    for arm in arms[:20]:
        validate(arm.configured(base))
    drawn = {name: np.array([getattr(loss, name) for loss in losses]) for name in arms[0].settings["loss"]}
    for name, low, high in (("scale", 0.005, 0.08), ("csl", 0.25, 4), ("momentum", 0.03, 0.5), ("k", 3, 30)):
        assert low <= drawn[name].min() < 1.5 * low
        assert high >= drawn[name].max() > high / 1.5
        assert low * 1.5 < np.median(drawn[name]) < high / 1.5
    assert set(drawn["csl_start"]) == set(range(1, 11))
    scale, weight = np.log(drawn["scale"]), np.log(drawn["csl"])
    assert abs(np.corrcoef(scale, weight)[0, 1]) < 0.2  # drawn apart
    measured = dataclasses.replace(base, loss=dataclasses.replace(base.loss, scale=0.0))
    assert search.candidates(measured, 3) == arms[:3]  # around the paper's


def test_without_an_identity_loss_lambda_and_w_are_not_drawn(base):
    loss = dataclasses.replace(base.loss, identity=0.0, psd=0.0, contrastive=1.0)
    contrastive = dataclasses.replace(base, loss=loss)
    for arm, with_psd in zip(search.candidates(contrastive, 5), search.candidates(base, 5), strict=True):
        validate(arm.configured(contrastive))
        drawn = with_psd.settings["loss"].items()
        assert arm.settings["loss"] == {name: value for name, value in drawn if name not in ("psd_mix", "psd")}
        assert "lambda" not in search.columns([(arm, 0.5)])
        assert len(search.cells(arm, 0.5)) == len(search.columns([(arm, 0.5)]))


def test_the_best_come_first_and_a_diverged_one_last(base):
    arms = search.candidates(base, 4)
    runs = tuning_runs(base, arms, (1e-3,), (0, 1), 0.4)
    k = np.array([arm.settings["loss"]["k"] for arm in arms])
    for run in runs:
        place = arms.index(run.arm)
        score = None if place == 3 and run.seed == 1 else k[place] / 100 + run.seed / 1000
        status = "diverged" if score is None else "finished"
        run.folder.mkdir(parents=True)
        (run.folder / RESULT).write_text(json.dumps(dataclasses.asdict(Result(status, 1.0, heldout=score))))
    found = search.by_score(arms, runs)
    assert [arm.key for arm, _ in found[:3]] == [arms[i].key for i in sorted(range(3), key=lambda i: -k[i])]
    assert found[0][1] == pytest.approx(k[:3].max() / 100 + 0.0005)
    assert found[3] == (arms[3], -np.inf)
    assert search.cells(*found[3])[-1] == "diverged"
    row = dict(zip(search.columns(found), search.correlations(found[:3]), strict=True))
    assert row["K"] == "+1.00"
    assert len(search.cells(*found[0])) == len(search.columns(found))
