"""A run from its first step to its model."""

import dataclasses
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import pat
from other_methods import OTHERS
from pat.base.errors import Failure
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.training import loop, step
from pat.training.checkpoint import Position
from pat.training.loop import train
from pat.training.regularisers import TERMS
from pat.training.state import exponential_average
from run_logs import logged, steps_of


def test_a_run_leaves_a_model_that_loads_a_log_and_what_it_was_asked_for(config):
    result = train(config(tensorboard=True, keep_every=2))
    model = pat.load(result.model)
    assert model.config.identities == 6
    assert result.epoch == 2
    steps = steps_of(config().out)
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert all(np.isfinite(loss) for _, loss in steps)
    assert json.loads((config().out / "config.json").read_text())["loss"]["k"] == 3
    assert any((config().out / "tensorboard").iterdir())
    assert [path.name for path in (config().out / "models").iterdir()] == ["epoch-0002.safetensors"]


def test_the_loss_falls(config):
    plain = {"loss__psd": 0.0, "loss__csl": 0.0, "loss__label_smoothing": 0.0}
    steps = steps_of(train(config(epochs=25, optim__cosine_epochs=25, **plain)).model.parent)
    losses = [loss for _, loss in steps]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_other_methods_have_a_say_and_none_unasked(config):
    plain, others = (
        logged(train(config(out, epochs=1, **change)).model.parent, "step")
        for out, change in (("plain", {}), ("others", OTHERS))
    )
    assert all(step[name] == 0 for step in plain for name in TERMS)
    assert all(step["camera"] > 0 and step["alignment"] > 0 and step["uniformity"] < 0 for step in others)
    assert others[0]["domain_uniformity"] == 0 > others[-1]["domain_uniformity"]  # nobody had been seen
    weights = vars(config(**OTHERS).loss)
    for each in others:
        weighted = sum(weights[name] * each[name] for name in (*step.OWN_TERMS, *TERMS))
        assert each["loss"] == pytest.approx(weighted, rel=1e-5)


def test_images_grow_with_the_run_and_scores_are_of_whole_ones(config, monkeypatch):
    sizes = []
    real = loop.training_step

    def seen(config, state, *arguments, **place):
        sizes.append(state.model.image_size)
        return real(config, state, *arguments, **place)

    monkeypatch.setattr(loop, "training_step", seen)
    result = train(config(epochs=4, small_images=(0.5, 0.75), model__parts=3))
    whole = pat.load(result.model).config.image_size
    order = list(dict.fromkeys(sizes))
    assert order[0] == (whole[0] // 2, whole[1] // 2)
    assert order[-1] == whole
    assert sizes == sorted(sizes)
    assert abs(sizes.count(order[0]) - len(sizes) / 2) <= 2  # epochs differ by a step


def test_a_run_of_minutes_ends_by_the_clock_and_goes_on_with_more_of_them(config):
    def position(folder):
        return Position(**torch.load(folder / "checkpoint.pt", weights_only=True)["position"])

    first = train(config(minutes=0.01, epochs=4, optim__warmup_epochs=0))
    done = position(first.model.parent)
    assert done.seconds >= 0.6
    second = train(config(minutes=0.02, epochs=4, optim__warmup_epochs=0, resume=True))
    assert position(second.model.parent).seconds >= 1.2
    assert position(second.model.parent).global_step > done.global_step
    rates = [line["lr"] for line in logged(config().out, "epoch")]
    assert rates[-1] < rates[0]


def test_minutes_count_the_pass_of_graph_sampling(config, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    alike = loop.most_alike

    def slow(*given, **more):
        for _ in range(100):
            next(clock)
        return alike(*given, **more)

    monkeypatch.setattr(loop, "most_alike", slow)
    result = train(config(minutes=1.5, sampling="graph", optim__warmup_epochs=0))
    position = torch.load(result.model.parent / "checkpoint.pt", weights_only=True)["position"]
    assert position["global_step"] == 1


def test_arms_without_csl_without_psd_and_without_parts(config):
    for name, change in {
        "csl": {"loss__psd": 0.0},
        "psd": {"loss__csl": 0.0},
        "neither": {"loss__csl": 0.0, "loss__psd": 0.0},
        "plain": {"model__parts": 0},
        "others": {"loss__other_identities": True},
        "authors": {"augment__regions": "batch", "loss__bank_fill": "train"},
        "half": {"amp": "bfloat16"},
        "clipped": {"optim__clip_norm": 1.0, "spread_cameras": True},
    }.items():
        result = train(config(name, epochs=1, **change))
        bank = "bank" in torch.load(result.model.parent / "checkpoint.pt", weights_only=True)
        assert bank is (name not in ("neither", "plain"))


def test_a_pretrained_convolutional_stem_stays_as_it_came(config, tmp_path):
    drawn = train(config("scratch", epochs=1, model__stem="convolution")).model
    frozen = train(config("frozen", epochs=1, model__stem="convolution", weights=str(drawn))).model
    tuned = config(
        "tuned", epochs=1, model__stem="convolution", weights=str(drawn), optim__freeze_patch_projection=False
    )
    stem, kept, learned = (
        {name: t for name, t in pat.load(path).state_dict().items() if name.startswith("patch_embed.")}
        for path in (drawn, frozen, train(tuned).model)
    )
    assert all(torch.equal(stem[name], kept[name]) for name in stem)
    assert all(
        not torch.equal(stem[name], learned[name]) for name in stem if name.endswith(("weight", "running_var"))
    )


def test_model_selection_looks_at_heldout_source_identities(config):
    result = train(config(epochs=4, select="heldout", select_every=1, data__holdout=0.4, identities_per_batch=2))
    scores = [line["mAP"] for line in logged(result.model.parent, "heldout")]
    assert len(scores) == 4
    assert result.epoch == 1 + int(np.argmax(scores))
    assert pat.load(result.model).config.identities == 4


def test_the_epoch_with_the_best_score_becomes_the_model(config, monkeypatch):
    scores = iter((0.2, 0.5, 0.4))
    monkeypatch.setattr(loop, "score", lambda *a, **k: SimpleNamespace(result=SimpleNamespace(mAP=next(scores))))
    held = {"select": "heldout", "select_every": 1, "data__holdout": 0.4, "identities_per_batch": 2}
    result = train(config(epochs=3, keep_every=1, **held))
    best = pat.load(result.model.parent / "models" / "epoch-0002.safetensors").norm.weight
    assert result.epoch == 2
    assert torch.equal(pat.load(result.model).norm.weight, best)


def test_the_average_of_weights_is_what_is_saved(config):
    plain, averaged = train(config("plain")), train(config("averaged", ema=0.5))
    one, other = pat.load(plain.model), pat.load(averaged.model)
    assert not torch.equal(one.norm.weight, other.norm.weight)
    state = torch.load(averaged.model.parent / "checkpoint.pt", weights_only=True)
    torch.testing.assert_close(state["ema"]["module.norm.weight"], other.norm.weight.data)


@pytest.mark.parametrize("decay", [0.9, 0.9995])
def test_an_average_keeps_the_bands_whole(decay):
    model = PartAwareTransformer(ModelConfig("vit_tiny_patch16_224", depth=1, attention="sdpa"))
    average = AveragedModel(model, multi_avg_fn=exponential_average(decay), use_buffers=True)
    average.update_parameters(model)  # the first update copies
    with torch.no_grad():
        model.cls_token.add_(1)
    for _ in range(2):
        average.update_parameters(model)
    assert torch.equal(average.module.bands, model.bands)
    torch.testing.assert_close(average.module.cls_token, model.cls_token - decay**2)


def test_a_loss_that_is_not_finite_stops_names_the_batch_and_keeps_the_checkpoint(config, monkeypatch):
    real = step.training_losses

    def broken(*arguments, **more):
        losses = real(*arguments, **more)
        broken.calls += 1
        if broken.calls == 6:
            losses = dataclasses.replace(losses, loss=losses.loss * torch.nan)
        return losses

    broken.calls = 0
    monkeypatch.setattr(step, "training_losses", broken)
    settings = config(epochs=5)
    with pytest.raises(Failure, match=r"epoch \d, step \d is not finite") as caught:
        train(settings)
    described = json.loads((settings.out / "diverged.json").read_text())
    assert len(described["images"]) == 6
    assert f"epoch {described['epoch']}, step {described['step']}" in str(caught.value)
    state = torch.load(settings.out / "checkpoint.pt", weights_only=True)
    assert state["position"]["epoch"] <= described["epoch"]
    assert all(torch.isfinite(t).all() for t in state["model"].values() if t.is_floating_point())


def test_a_part_feature_that_is_not_a_number_stops_the_run(config, monkeypatch):
    """Part features enter the cross-ID loss alone, so that loss has to show it."""
    real = PartAwareTransformer.features

    def broken(*arguments):
        cls, parts = real(*arguments)
        if torch.is_grad_enabled():
            parts = parts * torch.where(torch.arange(len(parts)) == 1, torch.nan, 1.0)[:, None, None]
        return cls, parts

    monkeypatch.setattr(PartAwareTransformer, "features", broken)
    settings = config()
    with pytest.raises(Failure, match=r"epoch 1, step 1 is not finite.*there is no checkpoint yet"):
        train(settings)
    described = json.loads((settings.out / "diverged.json").read_text())
    losses = {name: float(value) for name, value in described["losses"].items()}
    assert np.isnan(losses["csl"])
    assert np.isfinite(losses["triplet"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_run_has_the_same_losses(config, mode):
    """A CPU has no CUDA graphs; that their mode is one that torch.compile knows shows here too."""
    eager, compiled = train(config("eager")), train(config("compiled", compile=mode))
    expected = [loss for _, loss in steps_of(eager.model.parent)]
    np.testing.assert_allclose([loss for _, loss in steps_of(compiled.model.parent)], expected, rtol=1e-4)
