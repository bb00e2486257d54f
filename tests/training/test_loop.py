import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import pat
from disks import files_of_at_most
from pat.base.errors import Failure, UserError
from pat.base.mapping import from_mapping
from pat.base.progress import TerminalProgress
from pat.config import ModelConfig, TrainConfig
from pat.model import PartAwareTransformer
from pat.training import loop, run_folder, step
from pat.training.checkpoint import Position, load_checkpoint, save_checkpoint
from pat.training.loop import Interrupted, train
from pat.training.regularisers import TERMS
from pat.training.run_folder import claimed
from pat.training.state import exponential_average
from pat.training.validate import validate
from run_logs import logged


@pytest.fixture
def config(market, tmp_path, tiny):
    """A run on the small market, changed by nested values."""

    def made(out="run", **changes) -> TrainConfig:
        data = {"source": [str(market)], "cache": str(tmp_path / "cache")}
        values = {**tiny, "out": str(tmp_path / out), "data": data}
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name:
                values[section] = {**values[section], name: value}
            else:
                values[key] = value
        return from_mapping(TrainConfig, values)

    return made


def steps_of(folder):
    return [(line["global_step"], line["loss"]) for line in logged(folder, "step")]


def test_a_run_leaves_a_model_that_loads_and_a_log(config):
    result = train(config())
    model = pat.load(result.model)
    assert model.config.identities == 6
    assert result.epoch == 2
    steps = steps_of(config().out)
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert all(np.isfinite(loss) for _, loss in steps)
    assert json.loads((config().out / "config.json").read_text())["loss"]["k"] == 3


def test_the_loss_falls(config):
    plain = {"loss__psd": 0.0, "loss__csl": 0.0, "loss__label_smoothing": 0.0}
    steps = steps_of(train(config(epochs=25, optim__cosine_epochs=25, **plain)).model.parent)
    losses = [loss for _, loss in steps]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


SCRATCH = {
    "model__parts": 0, "model__stem": "deep", "model__pooling": "mean", "model__cosine_scale": 16.0,
    "loss__contrastive": 1.0, "loss__identity": 0.5, "loss__triplet": 0.0, "augment__low_resolution": 0.3,
    "augment__color_cast": 0.1, "optim__per_step": True, "optim__classifier_lr": 3e-3, "optim__layer_decay": 0.8,
    "spread_cameras": True,
    "small_images": (0.4, 0.7),
}  # fmt: skip
BANK = {
    "loss__csl_start": 2, "loss__bank_refill": 1, "loss__scale": 0.0, "loss__bank_update": "after",
    "loss__bank_fill": "train",
}  # fmt: skip
OTHERS = {
    "loss__camera": 0.1, "loss__alignment": 1.5, "loss__uniformity": 1.0, "loss__domain_uniformity": 1.0,
    "augment__mix_style": 0.5, "augment__erasing": 0.5, "sampling": "graph", "model__neck": "renorm",
    "loss__bank_queue": 12,
}  # fmt: skip
KEPT = {"ema": 0.9, "loss__bank_read": "bfloat16", "optim__name": "sgd"}  # each has a state of its own
FLOAT16 = {"amp": "float16", "optim__clip_norm": 1.0}  # losses scaled, gradients unscaled and clipped


@pytest.mark.parametrize("change", [{}, KEPT, FLOAT16, SCRATCH, BANK, OTHERS])
def test_interrupted_and_resumed_equals_uninterrupted(config, monkeypatch, change):
    whole = train(config("whole", epochs=3, **change))

    seen = 0
    real = loop.training_step

    def step_with_ctrl_c(*arguments, **place):
        nonlocal seen
        seen += 1
        if seen in (1, 2, 8):  # the last in the second epoch, where a bank may be new
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **place)

    monkeypatch.setattr(loop, "training_step", step_with_ctrl_c)
    for resume in (False, True, True):
        with pytest.raises(Interrupted, match="--resume"):
            train(config("parts", epochs=3, resume=resume, **change))
    resumed = train(config("parts", epochs=3, resume=True, **change))

    assert steps_of(resumed.model.parent) == steps_of(whole.model.parent)
    for run in (resumed, whole):
        assert [line["epoch"] for line in logged(run.model.parent, "epoch")] == [1, 2, 3]
    expected = pat.load(whole.model).state_dict()
    for name, tensor in pat.load(resumed.model).state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


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


TOGETHER = [
    {"loss__neighbours": "triton", "loss__k": 32, "loss__bank_read": "bfloat16"},
    {"loss__neighbours": "reference", "loss__k": 33, "loss__bank_read": "bfloat16"},
    {"augment__low_resolution": 0.5, "augment__blur": 0.5},
    {"loss__identity": 0.0, "loss__psd": 0.0},
    {"loss__camera": 0.1}, {"loss__alignment": 1.0}, {"augment__mix_style": 0.5}, {"loss__bank_quota": 2},
]  # fmt: skip


@pytest.mark.parametrize("change", TOGETHER)
def test_settings_that_go_together(config, change):
    validate(config(**change))


@pytest.mark.parametrize(
    ("change", "ranks", "message"),
    [
        *((change, 2, "are for one process") for change in TOGETHER[-4:]),
        ({"loss__bank_quota": 2, "loss__bank_queue": 12}, 1, "two kinds of bank"),
        ({"loss__bank_queue": 5}, 1, "does not hold a batch of 6 images"),
        ({"loss__neighbours": "triton", "loss__k": 33}, 1, r"loss\.k 33: .* triton finds 32 at most"),
        ({"augment__low_resolution": 0.6, "augment__blur": 0.5}, 1, "never together"),
        ({"model__neck": "renorm", "model__cosine_scale": 16.0}, 1, "renorm needs a neck"),
        ({"loss__identity": 0.0}, 1, r"loss\.psd 0\.5 is a share of the identity loss, which weighs 0"),
        ({"small_images": (0.5, 0.2)}, 1, "half the size comes before"),
    ],
)
def test_settings_that_do_not_go_together(config, change, ranks, message):
    with pytest.raises(UserError, match=message):
        validate(config(**change), ranks)


@pytest.mark.parametrize(("loss", "said"), [({"bank_quota": 99}, True), ({"bank_queue": 99}, True), ({}, False)])
def test_a_small_bank_that_holds_everything_is_said_to(config, loss, said, capsys):
    train(config(epochs=1, **{f"loss__{name}": value for name, value in loss.items()}), TerminalProgress())
    assert ("a slot for each of the" in capsys.readouterr().err) == said


def test_neighbours_that_are_everybody_are_remarked(config, capsys):
    train(config(epochs=1, loss__k=36), TerminalProgress())
    assert "--loss.k 36 takes all 36 slots for neighbours" in capsys.readouterr().err


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


def test_tensorboard_events_on_request(config):
    folder = train(config(epochs=1, tensorboard=True)).model.parent
    assert any((folder / "tensorboard").iterdir())


def test_models_kept_on_request(config):
    folder = train(config(epochs=3, keep_every=2)).model.parent
    assert [path.name for path in (folder / "models").iterdir()] == ["epoch-0002.safetensors"]


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


def test_a_folder_holds_one_run(config):
    settings = config()
    train(settings)
    with pytest.raises(UserError, match=r"pat train --out .* --resume`, or choose another --out"):
        train(settings)
    other = config("busy")
    with claimed(other.out), pytest.raises(UserError, match="another run is writing"):
        train(other)


def test_resume_refuses_other_settings_other_images_and_nothing_there(config, market):
    with pytest.raises(UserError, match="no run to resume"):
        train(config("none", resume=True))
    train(config())
    with pytest.raises(UserError, match=r"loss\.k 3 -> 5"):
        train(config(resume=True, loss__k=5))
    next((market / "bounding_box_train").iterdir()).unlink()
    with pytest.raises(UserError, match="not those"):
        train(config(resume=True, epochs=3))


def test_a_longer_run_may_be_resumed(config):
    train(config(epochs=1))
    assert train(config(epochs=2, resume=True)).epoch == 2


def test_a_damaged_checkpoint_is_named(config):
    settings = config()
    train(settings)
    path = settings.out / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged"):
        train(config(resume=True, epochs=3))


def test_a_full_disk_is_told_in_words_and_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, Position(epoch=2), "samples", {"model": torch.nn.Linear(3, 3)})
    larger = {"model": torch.nn.Linear(300, 300)}
    with files_of_at_most(100_000), pytest.raises(Failure, match=r"cannot write .*checkpoint\.pt: File too large"):
        save_checkpoint(path, Position(epoch=3), "samples", larger)
    assert load_checkpoint(path, "samples", {"model": torch.nn.Linear(3, 3)}).epoch == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_in_words_of_the_log_too(tmp_path):
    log = run_folder.FileLog(tmp_path, tensorboard=False, after=0)
    log.write("step", 1, loss=1.0)
    log.flush()
    with files_of_at_most(60):
        log.write("step", 2, loss=0.5)
        for ends in (log.flush, log.close):
            with pytest.raises(Failure, match=r"cannot write .*log\.jsonl: File too large"):
                ends()
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["loss"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs = 0 is not a whole number of at least 1"),
        ({"identities_per_batch": 1}, "at least 2"),
        ({"identities_per_batch": 7}, "identities-per-batch"),
        ({"data__holdout": 1.5}, r"data\.holdout = 1\.5 is not a number of at least 0 and at most 1"),
        ({"select": "heldout"}, "--data.holdout"),
        ({"loss__csl_start": 3}, "beyond the last of 2 epochs"),
        ({"device": "cuda:7"}, "not there"),
        ({"device": "tpu9"}, "not one of"),
        ({"model__identities": 4}, "the source has 6 identities"),
        ({"data__source": []}, "--data.source"),
        ({"data__source": ["nowhere"]}, "nowhere"),
    ],
)
def test_settings_that_cannot_work(config, change, message):
    for out in ("new/run", "there"):
        folder = config(out).out
        if out == "there":
            folder.mkdir()
        with pytest.raises(UserError, match=message):
            train(config(out, **change))
        assert not folder.parent.exists() if out == "new/run" else not list(folder.iterdir())


def test_a_refused_run_touches_nothing_that_was_there(config):
    folder = config("notes").out
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no weights file"):
        train(config("notes", weights=str(folder / "nowhere.pth")))
    assert list(folder.iterdir()) == [folder / "notes.txt"]


def test_kill_9_leaves_a_run_that_resumes(config, tmp_path, tiny):
    """Kill a run wherever it happens to be; what is on the disk loads and goes on."""
    settings = config(epochs=400, checkpoint_every=1)
    (tmp_path / "c.json").write_text(json.dumps({**tiny, "epochs": 400}))
    command = [sys.executable, "-m", "pat", "train", "--config", str(tmp_path / "c.json")]
    folders = {"source": settings.data.source[0], "cache": settings.data.cache}
    command += [word for name, folder in folders.items() for word in (f"--data.{name}", str(folder))]
    checkpoint = settings.out / run_folder.CHECKPOINT
    process = subprocess.Popen([*command, "--out", str(settings.out)], stderr=subprocess.DEVNULL)
    deadline, steps = time.monotonic() + 300, 0
    while steps <= 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.07)
        if checkpoint.exists():
            steps = torch.load(checkpoint, weights_only=True)["position"]["global_step"]
    assert process.poll() is None
    process.kill()
    process.wait()
    left = torch.load(checkpoint, weights_only=True)["position"]
    train(config(resume=True, epochs=left["epoch"] + 1, checkpoint_every=1))
    loss_steps = [step for step, _ in steps_of(settings.out)]
    assert loss_steps == sorted(set(loss_steps))
    assert loss_steps[-1] > left["global_step"] > 3


SAVE_FOREVER = """
import torch
from pat.training.checkpoint import Position, save_checkpoint
model, epoch = torch.nn.Linear(2000, 2000), 0
while True:
    epoch += 1
    save_checkpoint(path, Position(epoch=epoch), "samples", {"model": model})
    acknowledge.send(epoch)
"""


@pytest.mark.parametrize("moment", [0.01, 0.06, 0.11])
def test_kill_9_during_a_save_keeps_what_was_acknowledged(tmp_path, moment):
    path = tmp_path / "checkpoint.pt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pat.training.loop"])  # torch is imported once, as in test_distributed.py
    told, acknowledge = context.Pipe(duplex=False)
    names = {"path": path, "acknowledge": acknowledge}
    process = context.Process(target=exec, args=(SAVE_FOREVER, names), daemon=True)
    process.start()
    acknowledge.close()
    acknowledged = told.recv()
    time.sleep(moment)
    process.kill()
    process.join()
    with contextlib.suppress(EOFError, OSError):  # the last may be cut off
        while True:
            acknowledged = told.recv()
    position = load_checkpoint(path, "samples", {"model": torch.nn.Linear(2000, 2000)})
    assert position.epoch >= acknowledged


def test_what_a_killed_save_left_is_cleared_by_the_next_run(config):
    train(config(epochs=1))
    leftover = config().out / ".checkpoint.pt.abc.part"
    leftover.write_bytes(b"half a checkpoint")
    train(config(epochs=2, resume=True))
    assert not leftover.exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_run_has_the_same_losses(config, mode):
    """A CPU has no CUDA graphs; that their mode is one that torch.compile knows shows here too."""
    eager, compiled = train(config("eager")), train(config("compiled", compile=mode))
    expected = [loss for _, loss in steps_of(eager.model.parent)]
    np.testing.assert_allclose([loss for _, loss in steps_of(compiled.model.parent)], expected, rtol=1e-4)
