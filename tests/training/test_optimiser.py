"""The fused optimiser takes the steps of the plain one, and stays away from the float16 scaler."""

import copy
import math

import pytest
import torch
from torch import nn

from pat.config import ModelConfig, OptimConfig
from pat.model import PartAwareTransformer
from pat.training.optimiser import build_optimiser, build_schedule


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 3))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_steps_are_plain_steps_to_rounding(name):
    fused, plain = (network() for _ in range(2))
    config = OptimConfig(name=name, lr=0.01)
    ours, other = build_optimiser(fused, config), build_optimiser(plain, config, scaled=True)
    assert ours.defaults["fused"]
    assert not other.defaults["fused"]
    images, generator = torch.randn(8, 16), torch.Generator().manual_seed(0)
    for _ in range(20):
        images = torch.randn(8, 16, generator=generator)
        for model, optimiser in ((fused, ours), (plain, other)):
            optimiser.zero_grad()
            model(images).square().mean().backward()
            optimiser.step()
    for one, two in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("saved_fused", [True, False])
def test_a_run_saved_with_the_one_goes_on_with_the_other(name, saved_fused):
    config, model = OptimConfig(name=name, lr=0.01), network()
    before = build_optimiser(model, config, scaled=not saved_fused)
    images = torch.randn(8, 16)

    def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        model(images).square().mean().backward()
        optimiser.step()

    step(model, before)
    again = copy.deepcopy(model)
    after = build_optimiser(again, config, scaled=saved_fused)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    step(model, before)
    step(again, after)
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_a_first_step_that_the_scaler_skips_leaves_no_momentum():
    model = network()
    optimiser = build_optimiser(model, OptimConfig(name="sgd", lr=0.01, momentum=0.9), scaled=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    scaler.scale(model(torch.randn(8, 16) * 1e3).square().sum()).backward()
    scaler.step(optimiser)
    scaler.update()
    assert scaler.get_scale() < 2.0**127
    assert all(state.get("momentum_buffer") is None for state in optimiser.state.values())


def test_rates_fall_towards_the_patches_and_the_classifier_has_its_own():
    config = ModelConfig(
        backbone="vit_tiny_patch16_224", image_size=(32, 16), patch_size=8, width=64, depth=2, heads=1,
        identities=3,
    )  # fmt: skip
    model = PartAwareTransformer(config)
    settings = OptimConfig(name="adamw", lr=1.0, bias_lr_factor=1.0, layer_decay=0.5, classifier_lr=3.0)
    optimiser = build_optimiser(model, settings)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    rate = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert rate["patch_embed.proj.weight"] == rate["cls_token"] == rate["pos_embed"] == 0.25
    assert rate["blocks.0.attn.qkv.weight"] == 0.5
    assert rate["blocks.1.attn.qkv.weight"] == rate["norm.weight"] == rate["bottleneck.weight"] == 1.0
    assert rate["classifier.weight"] == 3.0
    assert decays[id(model.classifier.weight)] == 0.0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_have_their_rate_and_norms_biases_and_tokens_decay_under_sgd_alone(name):
    config = ModelConfig(
        backbone="vit_tiny_patch16_224", image_size=(32, 16), patch_size=8, width=64, depth=1, heads=1,
        identities=3,
    )  # fmt: skip
    model = PartAwareTransformer(config)
    optimiser = build_optimiser(model, OptimConfig(name=name, lr=1.0, bias_lr_factor=2.0, weight_decay=0.1))
    groups = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    found = {name: groups[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    matrices = {f"{each}.weight" for each in ("patch_embed.proj", "blocks.0.attn.qkv", "classifier")}
    others = {"cls_token", "part_tokens", "pos_embed", "norm.weight", "norm.bias", "blocks.0.attn.qkv.bias"}
    assert matrices | others <= set(found)
    for each in matrices | others:
        assert found[each]["lr"] == (2.0 if each.endswith("bias") else 1.0), each
        assert found[each]["weight_decay"] == (0.1 if name == "sgd" or each in matrices else 0.0), each


def test_between_two_epochs_the_rate_lies_between_theirs():
    model = network()
    config = OptimConfig(lr=1.0, bias_lr_factor=1.0, warmup_epochs=2, warmup_lr=0.0, cosine_epochs=10)
    optimiser = build_optimiser(model, config)
    schedule = build_schedule(optimiser, config)
    found = []
    for time in (0.5, 1.0, 1.5, 2.0, 4.0, 4.5, 5.0):
        schedule.step(time)
        found.append(optimiser.param_groups[0]["lr"])
    assert found[:3] == pytest.approx([0.25, 0.5, 0.75])
    expected = [0.002 + 0.998 * (1 + math.cos(math.pi * time / 10)) / 2 for time in (2.0, 4.0, 4.5, 5.0)]
    assert found[3:] == pytest.approx(expected)
