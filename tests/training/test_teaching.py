"""A student learns where its teacher puts the images."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import pat
import pat.cli
from pat.base.errors import UserError
from pat.base.mapping import from_mapping
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.model import PartAwareTransformer
from pat.model.images import embedder
from pat.model.weights import save
from pat.training.data import open_training_data
from pat.training.distributed import Ranks
from pat.training.loop import train
from pat.training.teaching import Teacher, taught_embeddings

ALONE = {"identity": 0, "triplet": 0, "csl": 0, "psd": 0, "distill": 1}


@pytest.fixture
def config(market, tmp_path, tiny) -> TrainConfig:
    data = {"source": [str(market)], "cache": str(tmp_path / "cache")}
    loss = {**tiny.get("loss", {}), **ALONE}
    return from_mapping(TrainConfig, {**tiny, "loss": loss, "out": str(tmp_path / "run"), "data": data})


@pytest.fixture
def teacher(config, tmp_path):
    """A model file, wider than the student and with larger images."""
    torch.manual_seed(3)
    wide = dataclasses.replace(config.model, width=96, heads=2, image_size=(64, 32), parts=0, identities=0)
    path = tmp_path / "teacher.safetensors"
    save(PartAwareTransformer(wide), path)
    return path


def opened(path) -> Teacher:
    model = pat.load(path)
    return Teacher(embedder(model, torch.device("cpu")), model.config.image_size)


def test_the_loss_falls_and_there_is_no_classifier(config, teacher):
    config = dataclasses.replace(config, teacher=teacher, epochs=12)
    result = train(config, teacher=opened(teacher))
    lines = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    losses = [line["distill"] for line in lines if line["event"] == "step"]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert pat.load(result.model).classifier is None


@pytest.mark.parametrize("width", [8, 200])
def test_teachings_keep_the_cosines(config, teacher, width):
    data = open_training_data(config.data, config.model.image_size, 0, Progress())
    ranks = Ranks(torch.device("cpu"))
    one = opened(teacher)
    full = taught_embeddings(one, data, config.data, 96, ranks, Progress())
    given = taught_embeddings(one, data, config.data, width, ranks, Progress())
    assert given.shape == (len(data.training.samples), width)
    torch.testing.assert_close(given.norm(dim=1), torch.ones(len(given)))
    apart = 1e-5 if width >= 96 else 0.05
    assert (given @ given.T - full @ full.T).abs().max() < apart


def test_a_teacher_and_its_weight_go_together(config, teacher):
    with pytest.raises(UserError, match="go together"):
        train(config)
    with pytest.raises(UserError, match="go together"):
        train(dataclasses.replace(config, teacher=teacher, loss=dataclasses.replace(config.loss, distill=0)))


def test_something_must_train_the_embedding(config):
    with pytest.raises(UserError, match="nothing trains"):
        train(dataclasses.replace(config, loss=dataclasses.replace(config.loss, distill=0)))


def test_the_command_takes_unlabelled_images(config, market, teacher, tmp_path, capsys):
    images, out = f"unlabelled={market / 'bounding_box_train'}", tmp_path / "student"
    given = [str(teacher), "--data.source", images, "--data.cache", str(config.data.cache), "--out", str(out)]
    assert pat.cli.run("distill", [*given, "--epochs", "1"]) == 0, capsys.readouterr()
    student = pat.load(out / "model.safetensors")
    assert student.config.width == 48
    assert student.config.heads == 1
    resumed = ["--out", str(out), "--resume", "--epochs", "2"]
    assert pat.cli.run("train", resumed) == 0, capsys.readouterr()


@pytest.mark.parametrize("named", [["nowhere.safetensors"], ["--data.source", "x"], []])
def test_mistakes_are_one_line(named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = pat.cli.run("distill", named)
    except SystemExit as exit:  # tyro's own
        code = exit.code
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
