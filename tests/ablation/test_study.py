"""What the arms change, which runs a study has, and whose folder it is."""

import dataclasses
import json

import pytest

from pat.ablation import folder
from pat.ablation.plan import RESULT, scored_run, tuning_runs
from pat.ablation.study import STUDIES
from pat.base.errors import UserError


def test_arms_of_components(base, study):
    losses = {}
    for arm in study.arms:
        config = arm.configured(base)
        losses[arm.key] = (config.model.parts, config.loss.csl, config.loss.psd, config.loss.other_identities)
    assert losses == {
        "plain-vit": (0, 0.0, 0.0, False),
        "parts": (3, 0.0, 0.0, False),
        "csl": (3, 1.0, 0.0, False),
        "csl-psd": (3, 1.0, 0.5, False),
        "other-identities": (3, 1.0, 0.5, True),
    }
    whole = {arm.key: arm.kinds for arm in study.arms}["csl-psd"]
    assert tuple(kind.named() for kind in whole) == ("cls", "cls, flip", "cls + parts", "cls, re-ranked")


@pytest.mark.parametrize("change", [{"csl": 0.0}, {"psd": 0.0}, {"other_identities": True}])
def test_a_configuration_without_what_is_compared(base, change):
    without = dataclasses.replace(base, loss=dataclasses.replace(base.loss, **change))
    with pytest.raises(UserError, match=next(iter(change))):
        STUDIES["components"](without)


def test_runs_differ_in_arm_rate_and_seed_alone(base, study):
    runs = [scored_run(base, arm, rate, seed) for arm in study.arms for rate in (1e-3, 2e-3) for seed in (0, 1)]
    assert len({run.folder for run in runs}) == len(runs)
    first = runs[0].config
    same = dataclasses.replace(runs[3].config, out=first.out, seed=first.seed, optim=first.optim)
    assert same == first
    assert (runs[3].rate, runs[3].seed) == (2e-3, 1)


def test_the_tuning_never_sees_the_target(base, study):
    runs = tuning_runs(base, study.arms, (1e-3,), (0,), share=0.3)
    for run in runs:
        assert run.config.data.target == ()
        assert (run.config.data.holdout, run.config.select, run.config.select_every) == (
            0.3,
            "heldout",
            base.epochs,
        )
    assert not {run.folder for run in runs} & {scored_run(base, arm, 1e-3, 0).folder for arm in study.arms}


def test_a_damaged_result_is_named(base, study):
    run = scored_run(base, study.arms[0], 1e-3, 0)
    assert run.result() is None
    run.folder.mkdir(parents=True)
    (run.folder / RESULT).write_text('{"status": "finis')
    with pytest.raises(UserError, match="damaged; delete the folder"):
        run.result()


def test_a_folder_belongs_to_one_configuration(base):
    folder.prepare(base.out, "components", base, holdout=0.2)
    moved = dataclasses.replace(
        base, seed=7, device="cuda", data=dataclasses.replace(base.data, cache="elsewhere")
    )
    folder.prepare(base.out, "components", moved, holdout=0.2)
    with pytest.raises(UserError, match=r"other settings \(epochs 1 -> 9\)"):
        folder.prepare(base.out, "components", dataclasses.replace(base, epochs=9), holdout=0.2)
    with pytest.raises(UserError, match=r"holdout 0\.2 -> 0\.3"):
        folder.prepare(base.out, "components", base, holdout=0.3)
    other = dataclasses.replace(base, data=dataclasses.replace(base.data, target=("msmt17",)))
    with pytest.raises(UserError, match=r"data\.target"):
        folder.prepare(base.out, "components", other, holdout=0.2)


def test_a_setting_that_did_not_exist_then_has_its_default(base):
    folder.prepare(base.out, "components", base)
    path = base.out / folder.STUDY
    facts = json.loads(path.read_text())
    del facts["training"]["model"]["stem"]
    path.write_text(json.dumps(facts))
    folder.prepare(base.out, "components", base)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"study": "components"})])
def test_a_damaged_note_of_the_study(base, text):
    base.out.mkdir()
    (base.out / folder.STUDY).write_text(text)
    with pytest.raises(UserError, match="damaged"):
        folder.prepare(base.out, "components", base, holdout=0.2)


def test_runs_of_nobody_knows_what(base):
    (base.out / "runs").mkdir(parents=True)
    with pytest.raises(UserError, match="holds runs but no"):
        folder.prepare(base.out, "components", base, holdout=0.2)
