"""A run from start to result: what it leaves, what is not done twice, what becomes of a diverged one."""

import dataclasses
import signal

import numpy as np
import pytest
import torch

from pat.ablation import people
from pat.ablation.plan import scored_run, tuning_runs
from pat.ablation.work import carry_out
from pat.base.errors import UserError
from pat.training import loop, step
from pat.training.loop import Interrupted, train


@pytest.fixture
def whole(base, study):
    arm = next(arm for arm in study.arms if arm.key == "csl-psd")
    return scored_run(base, arm, 1e-3, 0)


def test_a_run_is_scored_in_every_way_and_keeps_its_model(whole):
    result = carry_out(whole, "cpu")
    assert whole.result() == result
    assert list(result.scores["elsewhere"]) == [kind.named() for kind in whole.arm.kinds]
    assert all(0 < score["mAP"] <= 1 for score in result.scores["elsewhere"].values())
    assert {path.name for path in whole.folder.iterdir()} >= {"config.json", "log.jsonl", "model.safetensors"}
    assert not (whole.folder / "checkpoint.pt").exists()
    for kind, score in result.scores["elsewhere"].items():
        counts = np.array(list(people.read(whole.folder, "elsewhere", kind).values()))
        assert len(counts) == 4
        assert counts[:, 1].sum() / counts[:, 0].sum() == pytest.approx(score["mAP"])


def test_what_a_run_costs(whole, base, study):
    result = carry_out(whole, "cpu")
    assert 0 < result.step_seconds < result.seconds
    slots, width = 36, 64
    assert result.bank_bytes == 3 * slots * (4 * width + 4)  # averages and their norms
    halved = dataclasses.replace(whole.config.loss, bank_read="bfloat16")
    config = dataclasses.replace(whole.config, loss=halved, out=base.out / "bfloat16")
    assert carry_out(dataclasses.replace(whole, config=config), "cpu").bank_bytes == 3 * slots * (6 * width + 4)
    assert carry_out(scored_run(base, study.arms[0], 1e-3, 0), "cpu").bank_bytes == 0


def test_a_tuning_run_is_scored_on_people_it_left_out(base, study):
    (run,) = tuning_runs(base, study.arms[:1], (1e-3,), (0,), share=0.4)
    result = carry_out(run, "cpu")
    assert 0 < result.heldout <= 1
    assert result.scores == {}


def test_a_run_cut_short_goes_on(whole, base, monkeypatch, study):
    config = dataclasses.replace(whole.config, epochs=2)
    longer = dataclasses.replace(whole, config=config)
    straight = dataclasses.replace(longer, config=dataclasses.replace(config, out=base.out / "straight"))
    carry_out(straight, "cpu")
    real = loop.training_step

    def step_then_stop(*arguments, **place):
        if place["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **place)

    monkeypatch.setattr(loop, "training_step", step_then_stop)
    with pytest.raises(Interrupted):
        carry_out(longer, "cpu")
    assert longer.result() is None
    monkeypatch.undo()
    torch.set_num_threads(1)
    assert carry_out(longer, "cpu").scores == straight.result().scores


def test_a_trained_run_without_a_result_is_scored_and_not_trained_again(whole, monkeypatch):
    train(whole.config)
    monkeypatch.setattr("pat.ablation.work.train", lambda config: pytest.fail("trained again"))
    assert carry_out(whole, "cpu").status == "finished"


def test_a_diverged_run_is_a_result(whole, monkeypatch):
    losses = step.training_losses

    def broken(*arguments, **more):
        found = losses(*arguments, **more)
        return dataclasses.replace(found, loss=found.loss * float("nan"))

    monkeypatch.setattr(step, "training_losses", broken)
    result = carry_out(whole, "cpu")
    assert result.status == "diverged"
    assert "not finite" in result.note
    assert whole.result() == result


@pytest.mark.parametrize("purpose", ["score", "tune"])
def test_weights_that_the_last_step_broke_have_diverged_too(base, study, monkeypatch, purpose):
    arm = study.arms[0]
    run = scored_run(base, arm, 1e-3, 0)
    if purpose == "tune":
        (run,) = tuning_runs(base, [arm], (1e-3,), (0,), share=0.4)
    real = loop.training_step

    def broken(config, state, *arguments, **place):
        losses = real(config, state, *arguments, **place)
        with torch.no_grad():
            state.model.cls_token.fill_(float("nan"))
        state.model.blocks[0].norm1.bias.data.zero_()
        return losses

    monkeypatch.setattr(loop, "CHECK_EVERY", 1000)
    monkeypatch.setattr(loop, "training_step", broken)
    result = carry_out(run, "cpu")
    assert result.status == "diverged"
    assert "not finite" in result.note


def test_what_is_no_result_is_raised(whole):
    lost = dataclasses.replace(whole.config.data, source=("nowhere",))
    run = dataclasses.replace(whole, config=dataclasses.replace(whole.config, data=lost))
    with pytest.raises(UserError, match="nowhere"):
        carry_out(run, "cpu")
    assert run.result() is None
