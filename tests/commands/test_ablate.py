"""`pat ablate` as it is typed: a study that is interrupted, continued, extended; and what it refuses."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest

from pat.ablation.plan import RESULT, Result
from pat.cli import run
from pat.commands.ablate.arguments import QUICK_EPOCHS, read_arguments
from pat.commands.small_study import TRAINING


@pytest.fixture
def arguments(market, make_market, tmp_path, tiny):
    """A study of five runs of a second."""
    (tmp_path / "tiny.json").write_text(json.dumps({**tiny, "epochs": 1}))
    target = make_market(tmp_path / "elsewhere")
    words = ["components", "--config", tmp_path / "tiny.json", "--data.source", market, "--data.target", target]
    words += ["--data.cache", tmp_path / "cache", "--out", tmp_path / "study"]
    return [*map(str, words), "--seeds", "1", "--rate-factors", "1", "--processes", "2"]


def listed(tmp_path):
    with open(tmp_path / "study" / "runs.csv") as file:
        return list(csv.DictReader(file))


def test_interrupted_continued_and_extended(arguments, tmp_path, capsys, fails):
    runs = tmp_path / "study" / "runs"
    started = subprocess.Popen(
        [sys.executable, "-m", "pat.cli", "ablate", *arguments], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not list(runs.glob("score/*/*/*/result.json")) and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=300)
    assert started.returncode == 130, said
    assert "stopped; every run saved its state" in said
    finished = {path: path.stat().st_mtime_ns for path in runs.glob("score/*/*/*/result.json")}
    assert 1 <= len(finished) < 5

    assert run("ablate", arguments) == 0
    said = capsys.readouterr()
    assert f"{len(finished)} of 5 runs are finished" in said.err
    assert "PAT, other identities" in said.out
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(listed(tmp_path)) == 4 + 4  # four arms in one way, one in four

    arguments[arguments.index("--rate-factors") + 1 : arguments.index("--processes")] = ["1", "2"]
    arguments += ["--tuning-seeds", "1", "--holdout", "0.4"]
    said = fails(2, "ablate", *arguments)
    assert "holdout 0.2 -> 0.4" in said  # another share held out would be another study


def test_a_run_that_cannot_be_done_ends_the_study_in_one_line(arguments, market, fails):
    image = next((market / "bounding_box_train").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    assert fails(2, "ablate", *arguments).startswith(f"pat ablate: cannot read the image {image}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data.target"], "name the data that no training sees"),
        (["--seeds", "0"], "--seeds"),
        (["--rate-factors", "0"], "--rate-factors"),
        (["--rate-factors", "inf"], "--rate-factors"),
        (["--tuning-seeds", "3"], "nothing is tuned"),
        (["--finalists", "2"], "give --random, too"),
        (["--holdout", "1.5"], "--holdout"),
        (["--processes", "0"], "--processes"),
        (["--data.holdout", "0.1"], "use --holdout"),
        (["--loss.csl", "0"], "loss.csl is 0"),
        (["--optim.lr", "0"], "optim.lr"),
        (["--teacher", "x", "--loss.distill", "1"], "without a teacher"),
    ],
)
def test_settings_that_cannot_work(arguments, change, message, fails):
    assert message in fails(2, "ablate", *arguments, *change)


def test_a_target_that_is_trained_on(arguments, market, fails):
    assert "is no unseen target" in fails(2, "ablate", *arguments, "--data.target", market)


def test_mistakes_are_found_before_anything_is_trained(arguments, make_market, tmp_path, fails):
    def said(*more):
        line = fails(2, "ablate", *arguments, *more)
        assert not (tmp_path / "study" / "runs").exists()
        return line

    assert "nowhere" in said("--data.target", "nowhere")
    again = make_market(tmp_path / "again" / "elsewhere")
    assert "two targets are called elsewhere" in said("--data.target", tmp_path / "elsewhere", again)
    one_camera = make_market(tmp_path / "alone", cameras=1)
    assert "no query has its person in another camera" in said("--data.target", one_camera)
    assert "a batch takes 3" in said("--rate-factors", "1", "2", "--holdout", "0.6")


def test_under_torchrun(arguments, monkeypatch, fails):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "without torchrun" in fails(2, "ablate", *arguments)


@pytest.fixture
def written(monkeypatch):
    """Results by formula instead of training; the runs that were asked for, in order."""
    asked = []

    def pretend(work, runs, where, progress, label):
        for each in runs:
            asked.append((each.purpose, each.arm.key, each.rate, each.seed))
            score = 0.1 + 0.1 * (each.arm.key == "csl") + 0.01 * each.seed + each.rate
            heldout = {1e-3: 0.3, 2e-3: 0.4 if each.arm.key == "csl" else 0.2}[each.rate]
            kinds = {kind.named(): {"mAP": score, "rank1": score} for kind in each.arm.kinds}
            tune = each.purpose == "tune"
            result = Result("finished", 1.0, heldout if tune else None, {} if tune else {"elsewhere": kinds})
            each.folder.mkdir(parents=True)
            (each.folder / RESULT).write_text(json.dumps(dataclasses.asdict(result)))

    monkeypatch.setattr("pat.commands.ablate.trainings.side_by_side", pretend)
    return asked


def test_each_arm_at_its_own_rate_and_more_seeds_later(arguments, written, tmp_path, capsys):
    arguments += ["--seeds", "2", "--rate-factors", "1", "2", "--tuning-seeds", "1", "--holdout", "0.4"]
    assert run("ablate", arguments) == 0
    arms = ["plain-vit", "parts", "csl", "csl-psd", "other-identities"]
    same = [("score", arm, 1e-3, seed) for arm in arms for seed in (0, 1)]
    tuning = [("tune", arm, rate, 0) for arm in arms for rate in (1e-3, 2e-3)]
    own = [("score", "csl", 2e-3, seed) for seed in (0, 1)]  # the only arm whose best rate is another
    assert written == [*same, *tuning, *own]
    text = (tmp_path / "study" / "table.md").read_text()
    assert text.count("| PAT + CSL | cls | 0.00") == 2
    assert "| PAT + CSL | cls | 0.001 | 2 | 20.6 ± 0.7 |" in text
    assert "| PAT + CSL | cls | 0.002 | 2 | 20.7 ± 0.7 |" in text
    assert "| PAT + CSL | 30.0 | **40.0** |" in text
    assert "own rate" in capsys.readouterr().out

    written.clear()
    assert run("ablate", [*arguments, "--seeds", "3"]) == 0
    assert written == [*(("score", arm, 1e-3, 2) for arm in arms), ("score", "csl", 2e-3, 2)]
    assert "| PAT + CSL | cls | 0.002 | 3 |" in (tmp_path / "study" / "table.md").read_text()


def test_some_arms_alone(arguments, written, tmp_path, fails):
    assert run("ablate", [*arguments, "--arms", "csl"]) == 0
    assert [arm for _, arm, _, _ in written] == ["plain-vit", "csl"]
    said = fails(2, "ablate", *arguments, "--arms", "cls")
    assert "components has no arm cls; its arms: plain-vit, parts" in said


def test_a_study_that_the_settings_do_not_fit(arguments, fails):
    line = fails(2, "ablate", "recipe", *arguments[1:])
    assert "loss.contrastive is 0.0" in line
    assert "--config recipes/rendered.toml" in line


def test_without_data_it_draws_people_and_trains_from_scratch():
    given = read_arguments(["components"])
    assert given.training.model.width == TRAINING.model.width
    assert (given.training.weights, given.seeds, given.training.out.name) == ("none", 5, "components")
    quick = read_arguments(["components", "--quick", "--seeds", "3"])
    assert (quick.training.epochs, quick.training.optim.cosine_epochs) == (QUICK_EPOCHS, QUICK_EPOCHS)
    assert (quick.seeds, quick.tuning_seeds) == (3, 1)
    assert quick.training.out.name == "components-quick"
    own = read_arguments(["components", "--data.source", "market1501", "--data.target", "msmt17"])
    assert (own.training.model.backbone, own.training.weights) == ("vit_base_patch16_224", "pretrained")
