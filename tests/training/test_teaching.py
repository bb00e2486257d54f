"""A student learns where its teacher puts the images."""

import dataclasses

import numpy as np
import pytest
import torch

import pat
import pat.cli
from pat.base.errors import UserError
from pat.base.mapping import from_mapping
from pat.base.progress import Progress
from pat.commands.distill import _without_copies, student_of
from pat.config import DataConfig, LossConfig, TrainConfig
from pat.model import PartAwareTransformer
from pat.model.images import embedder
from pat.model.weights import save
from pat.training.data import open_training_data
from pat.training.distributed import Ranks
from pat.training.loop import Interrupted, train
from pat.training.run_folder import saved_config
from pat.training.teaching import Teacher, taught_embeddings
from run_logs import logged

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
    losses = [line["distill"] for line in logged(config.out, "step")]
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


def test_a_run_that_goes_on_keeps_its_teachings(config, teacher):
    config = dataclasses.replace(config, teacher=teacher, epochs=4)
    whole = train(dataclasses.replace(config, out=config.out / "whole"), teacher=opened(teacher))
    parts = dataclasses.replace(config, out=config.out / "parts")
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        train(parts, teacher=opened(teacher), leave=lambda: next(asked))
    teacher.unlink()  # or another model by now
    resumed = train(dataclasses.replace(parts, resume=True))
    for name, tensor in pat.load(whole.model).state_dict().items():
        torch.testing.assert_close(pat.load(resumed.model).state_dict()[name], tensor, rtol=0, atol=0)


def test_a_slice_of_the_teacher_begins_nearer_than_chance(config, teacher):
    """And its teacher's words are turned to where it is."""
    model = dataclasses.replace(student_of(teacher).model, attention="sdpa")
    first = {}
    for weights in ("teacher", "none"):
        out = config.out / weights
        run = dataclasses.replace(config, teacher=teacher, weights=weights, model=model, out=out, epochs=1)
        train(run, teacher=opened(teacher))
        first[weights] = logged(out, "step")[0]["distill"]
    assert first["teacher"] < 0.3 * first["none"]


def test_what_cannot_be_a_slice_is_told_to_start_at_random(config, teacher):
    run = dataclasses.replace(config, teacher=teacher, weights="teacher")  # three parts, and so on
    with pytest.raises(UserError, match=r"--weights teacher: its .*; --weights none starts"):
        train(run, teacher=opened(teacher))
    with pytest.raises(UserError, match="slice of --teacher MODEL, which is not given"):
        train(dataclasses.replace(config, weights="teacher", loss=LossConfig()))


def test_a_student_that_begins_at_random_learns_faster(teacher, monkeypatch):
    asked = []
    monkeypatch.setattr("pat.commands.distill.run", asked.append)
    for more in ([], ["--weights", "none"], ["--weights=none"], ["--weights", str(teacher)]):
        assert pat.cli.run("distill", [str(teacher), "--data.source", "x", *more]) == 0
    assert [each.weights for each in asked] == ["teacher", "none", "none", str(teacher)]
    assert [each.optim.lr for each in asked] == [3e-4, 1e-3, 1e-3, 3e-4]


def test_a_bundle_of_a_graph_alone_has_a_student_that_begins_at_random(colour_bundle):
    assert student_of(colour_bundle).weights == "none"


def test_a_teacher_and_its_weight_go_together_and_something_must_train_the_embedding(config, teacher):
    idle = dataclasses.replace(config, loss=dataclasses.replace(config.loss, distill=0))
    for wrong in (config, dataclasses.replace(idle, teacher=teacher)):
        with pytest.raises(UserError, match="go together"):
            train(wrong)
    with pytest.raises(UserError, match="nothing trains"):
        train(idle)


def test_the_command_takes_unlabelled_images(config, market, teacher, tmp_path, capsys):
    images, out = f"unlabelled={market / 'bounding_box_train'}", tmp_path / "student"
    given = [str(teacher), "--data.source", images, "--data.cache", str(config.data.cache), "--out", str(out)]
    given += ["--identities-per-batch", "9"]
    assert pat.cli.run("distill", [*given, "--epochs", "1"]) == 0, capsys.readouterr()
    settings = saved_config(out)
    assert (settings.identities_per_batch, settings.images_per_identity) == (9, 1)  # no image is twice in a batch
    student = pat.load(out / "model.safetensors")
    assert student.config.width == 48
    assert settings.weights == "teacher"
    resumed = ["--out", str(out), "--resume", "--epochs", "2"]
    assert pat.cli.run("train", resumed) == 0, capsys.readouterr()


def test_a_batch_of_unlabelled_images_is_as_large_as_any():
    def batch(*source: str, **changes) -> tuple[int, int]:
        config = _without_copies(TrainConfig(data=DataConfig(source=source), **changes))
        return config.identities_per_batch, config.images_per_identity

    assert batch("unlabelled=a", "unlabelled=b") == (64, 1)
    assert batch("unlabelled=a", "market1501") == (16, 4)  # images of one identity may teach more
    assert batch("unlabelled=a", identities_per_batch=10) == (10, 1)
    assert batch("unlabelled=a", images_per_identity=2) == (16, 2)


def test_a_student_that_starts_from_a_model_has_its_architecture(config, teacher, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("pat.commands.distill.run", asked.append)
    start = tmp_path / "start.safetensors"
    save(PartAwareTransformer(dataclasses.replace(config.model, identities=0)), start)
    given = [str(teacher), "--data.source", "x", "--weights", str(start)]
    assert pat.cli.run("distill", given) == 0
    assert asked[0].model.width == config.model.width != 48
    assert asked[0].model.parts == config.model.parts


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere.safetensors"], "there is no model file"),
        (["--data.source", "x"], "the teacher comes first"),
        ([], "the teacher comes first"),
        (["TEACHER", "--out", "there", "--resume"], "`pat train --out there --resume` continues"),
    ],
)
def test_mistakes_are_one_line(given, said, teacher, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pat.cli.run("distill", [str(teacher) if word == "TEACHER" else word for word in given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pat distill: ")
    assert said in line
