import json
from pathlib import Path

import pytest

from pat.base.errors import UserError
from pat.base.mapping import check_limits, from_mapping, overlay, read_mapping, to_mapping
from pat.config import EvaluateConfig, ModelConfig, OptimConfig, Role, TrainConfig, settings_of


def test_a_configuration_survives_json():
    for config in (TrainConfig(), EvaluateConfig(), ModelConfig(bands=((0.0, 0.5), (0.25, 1.0)), parts=2)):
        assert from_mapping(type(config), json.loads(json.dumps(to_mapping(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, "did you mean model?"),
        ({"model": {"prats": 3}}, r"unknown key model\.prats; did you mean model\.parts\?"),
        ({"epochs": "many"}, "epochs = 'many' is not a whole number"),
        ({"epochs": True}, "not a whole number"),
        ({"optim": {"name": "sgdd"}}, "one of sgd, adamw"),
        ({"model": 3}, "model must be a table"),
        ({"model": {"image_size": [256]}}, "image_size"),
        ({"model": {"patch_size": "16"}}, "a whole number of at least 1 or nothing"),
        ({"optim": {"lr": -1}}, "lr = -1 is not a number above 0"),
        ({"seed": -1}, "seed = -1 is not a whole number of at least 0"),
        ({"loss": {"psd": 1.5}}, "psd = 1.5 is not a number of at least 0 and at most 1"),
    ],
)
def test_wrong_keys_and_values_are_named(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(TrainConfig, values, "my.toml")


def test_limits_hold_for_values_that_no_file_brought():
    check_limits(TrainConfig())
    check_limits(EvaluateConfig())
    with pytest.raises(UserError, match=r"optim\.clip_norm = nan is not a number of at least 0"):
        check_limits(TrainConfig(optim=OptimConfig(clip_norm=float("nan"))))


def test_every_setting_says_itself_whether_a_resumed_run_may_change_it():
    assert settings_of(Role.LENGTH) == {"epochs", "minutes", "small_images"}
    assert settings_of(Role.PACE) == {
        "amp", "compile", "model.attention", "loss.neighbours", "loss.bank_read",
    }  # fmt: skip
    assert settings_of(Role.PLACE) > {"out", "resume", "data.root", "data.target"}
    learned = {"seed", "data.source", "optim.lr", "loss.k", "model.parts", "augment.flip"}
    assert not learned & set().union(*map(settings_of, Role))


def test_whole_numbers_are_numbers():
    assert from_mapping(TrainConfig, {"optim": {"lr": 1}}).optim.lr == 1.0


def test_overlay_changes_only_what_is_given():
    config = overlay(TrainConfig(epochs=7), {"optim": {"lr": 0.5}}, "x")
    assert (config.epochs, config.optim.lr, config.optim.momentum) == (7, 0.5, 0.9)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "epochs = ", "does not parse"),
        ("a.json", "{", "does not parse"),
        ("a.json", "[1]", "not a table"),
        ("none.toml", None, "cannot read"),
    ],
)
def test_config_files_that_cannot_be_read(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_mapping(tmp_path / name)


RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid(path):
    overlay(TrainConfig(), read_mapping(path), str(path))
