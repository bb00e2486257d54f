"""What the arms change, which runs a study has, and whose folder it is."""

import dataclasses
import json
from pathlib import Path

import pytest

from pat.ablation import folder
from pat.ablation.plan import RESULT, scored_run, tuning_runs
from pat.ablation.search import candidates
from pat.ablation.studies import STUDIES
from pat.base.errors import UserError
from pat.base.mapping import overlay, read_mapping, to_mapping
from pat.config import TrainConfig
from pat.training.run_folder import differences
from pat.training.validate import validate


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


@pytest.mark.parametrize("change", [{"csl": 0.0}, {"psd": 0.0}])
def test_a_configuration_without_what_is_compared(base, change):
    without = dataclasses.replace(base, loss=dataclasses.replace(base.loss, **change))
    with pytest.raises(UserError, match=next(iter(change))):
        STUDIES["components"](without)


def test_an_arm_that_everybody_has_is_in_the_way_where_it_is_wanted(base):
    others = dataclasses.replace(base, loss=dataclasses.replace(base.loss, other_identities=True))
    with pytest.raises(UserError, match=r'"PAT, other identities" is no different from "PAT \+ CSL \+ PSD"'):
        STUDIES["components"](others).check(others)
    STUDIES["components"](others).with_arms(("parts", "csl")).check(others)


@pytest.mark.parametrize("name", ["memory", "sweep"])
@pytest.mark.parametrize("bank_read", ["float32", "bfloat16"])
def test_every_arm_runs_on_the_kernels(base, name, bank_read):
    loss = dataclasses.replace(base.loss, neighbours="triton", bank_read=bank_read, k=10)
    on_gpu = dataclasses.replace(base, loss=loss, epochs=10)
    study = STUDIES[name](on_gpu)
    study.check(on_gpu)
    for arm in (*study.arms, *candidates(on_gpu, 50)):
        validate(arm.configured(on_gpu))


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


def differing(one, other):
    return differences(to_mapping(one), to_mapping(other), set())


RECIPE = read_mapping(Path(__file__).parents[2] / "recipes" / "rendered.toml")


def test_each_arm_of_the_recipe_changes_one_thing(base):
    recipe = overlay(TrainConfig(), RECIPE, "rendered.toml")
    study = STUDIES["recipe"](recipe)
    study.check(recipe)
    changed = {
        arm.key: [each.split()[0] for each in differing(recipe, arm.configured(recipe))] for arm in study.arms
    }
    assert changed["recipe"] == []
    assert changed["linear"] == ["loss.identity"]
    assert changed["any-cameras"] == ["spread_cameras"]
    assert changed["random"] == ["sampling"]
    assert changed["whole-images"] == ["small_images"]
    two = {key for key, names in changed.items() if len(names) > 1}
    # A loss with what its classifier needs; one loss for another; all that changes light.
    assert two == {"identity", "triplet", "no-photometric"}
    assert all(changed[arm.key] for arm in study.arms[1:])


@pytest.mark.parametrize(("name", "scale"), [("memory", 0.02), ("sweep", 0.02), ("sweep", 0.0)])
def test_arms_around_the_configuration(base, name, scale):
    base = dataclasses.replace(base, loss=dataclasses.replace(base.loss, scale=scale, k=10))
    study = STUDIES[name](base)
    study.check(base)
    for arm in study.arms[1:]:
        changed, before = vars(arm.configured(base).loss), vars(base.loss)
        assert [key for key in before if before[key] != changed[key]] == list(arm.settings["loss"])
        assert dataclasses.replace(arm.configured(base), loss=base.loss) == base


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("recipe", {}, "loss.contrastive is 0.0.*rendered.toml"),
        ("memory", {"csl": 0.0}, "loss.csl is 0.0.*--loss.csl 1"),
        ("sweep", {"csl": 0.0}, "loss.csl is 0.0"),
    ],
)
def test_settings_that_a_study_needs(base, name, change, message):
    without = dataclasses.replace(base, loss=dataclasses.replace(base.loss, **change))
    with pytest.raises(UserError, match=message):
        STUDIES[name](without)


@pytest.mark.parametrize(("name", "fewer"), [("field", 0), ("memory", 0), ("sweep", 4)])
def test_studies_of_csl_do_without_an_identity_loss(base, name, fewer):
    losses = dataclasses.replace(base.loss, identity=0.0, psd=0.0, contrastive=1.0, k=10)
    alone = dataclasses.replace(base, loss=losses)
    study = STUDIES[name](alone)
    study.check(alone)
    assert len(study.arms) == len(STUDIES[name](base).arms) - fewer
    assert not any("PSD" in arm.name for arm in study.arms if arm.key != "parts")


def test_an_arm_that_changes_nothing_is_named(base):
    five = dataclasses.replace(base, loss=dataclasses.replace(base.loss, k=3))
    study = STUDIES["memory"](five)
    with pytest.raises(UserError, match='"K = 3" is no different from "the bank as configured"'):
        study.check(five)
    chosen = study.with_arms(("bfloat16",))
    chosen.check(five)
    assert [arm.key for arm in chosen.arms] == ["base", "bfloat16"]
    with pytest.raises(UserError, match="memory has no arm k-4; its arms: base, bfloat16"):
        study.with_arms(("k-4",))


def test_each_method_of_the_field_is_the_plain_vit_and_its_own_settings(base):
    study = STUDIES["field"](base)
    study.check(base)
    configured = {arm.key: arm.configured(base) for arm in study.arms}
    plain = configured["plain-vit"]
    assert (plain.model.parts, plain.loss.csl, plain.loss.psd) == (0, 0.0, 0.0)
    assert configured["pat"] == base
    changed = {key: {each.split()[0] for each in differing(plain, config)} for key, config in configured.items()}
    bau = {"loss.alignment", "loss.uniformity", "loss.domain_uniformity"}
    assert {key: changed[key] for key in list(changed)[3:]} == {
        "mix-style": {"augment.mix_style"},
        "camera-adversary": {"loss.camera"},
        "strong": {"augment.color_jitter", "augment.erasing"},
        "bau": {"augment.color_jitter", "augment.erasing"} | bau,
        "graph": {"sampling"},
        "cameras": {"spread_cameras"},
        "renorm": {"model.neck"},
    }
    named = [kind.named() for kind in study.arms[0].kinds]
    assert named == ["cls", "cls, re-ranked", "cls, re-ranked by camera"]
    graph = dataclasses.replace(base, sampling="graph")
    with pytest.raises(UserError, match=r'"graph sampling" is no different from "plain ViT" .* --arms'):
        STUDIES["field"](graph).check(graph)
    STUDIES["field"](graph).with_arms(("bau",)).check(graph)


def test_an_arm_of_ones_own(base, tmp_path, study):
    file = tmp_path / "large.toml"
    file.write_text('weights = "large.pth"\n[model]\nbackbone = "vit_large_patch16_224"\n')
    arm = study.with_arms(("parts",)).with_own([file]).arms[-1]
    assert [each.split()[0] for each in differing(base, arm.configured(base))] == ["model.backbone", "weights"]
    assert arm.name == "large"
    file.write_text('weights = "other.pth"\n')
    assert study.with_own([file]).arms[-1].key != arm.key  # other settings never share its runs
    file.write_text('wieghts = "other.pth"\n')
    with pytest.raises(UserError, match="weights"):
        study.with_own([file]).check(base)
    with pytest.raises(UserError, match="has an arm large already"):
        study.with_own([file, file])
    with pytest.raises(UserError, match=r"cannot read .*nowhere.toml"):
        study.with_own([tmp_path / "nowhere.toml"])
