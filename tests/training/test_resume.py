"""A run that ends before its time goes on the same, whatever ended it."""

import contextlib
import json
import multiprocessing
import signal
import subprocess
import sys
import time

import pytest
import torch

import pat
from disks import files_of_at_most
from other_methods import OTHERS
from pat.base.errors import Failure, UserError
from pat.training import loop, run_folder
from pat.training.checkpoint import Position, load_checkpoint, save_checkpoint
from pat.training.loop import Interrupted, train
from pat.training.run_folder import claimed
from run_logs import logged, steps_of

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


def test_a_damaged_checkpoint_is_named(config):
    path = train(config()).model.parent / "checkpoint.pt"
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


def test_a_longer_run_may_be_resumed_and_clears_what_a_killed_save_left(config):
    train(config(epochs=1))
    leftover = config().out / ".checkpoint.pt.abc.part"
    leftover.write_bytes(b"half a checkpoint")
    assert train(config(epochs=2, resume=True)).epoch == 2
    assert not leftover.exists()
