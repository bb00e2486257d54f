"""`pat ablate` as it is typed: a study that is interrupted, continued, extended; and what it refuses."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest

from pat.cli import run
from pat.commands.ablate import QUICK_EPOCHS, read_arguments
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


def test_interrupted_continued_and_extended(arguments, tmp_path, capsys):
    runs = tmp_path / "study" / "runs"
    started = subprocess.Popen(
        [sys.executable, "-m", "pat.cli", "ablate", *arguments], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(runs.glob("score/*/*/*/result.json")) and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
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
    assert run("ablate", arguments) == 2  # another share held out would be another study
    assert "holdout 0.2 -> 0.4" in capsys.readouterr().err


def test_a_run_that_cannot_be_done_ends_the_study_in_one_line(arguments, market, capsys):
    picture = next((market / "bounding_box_train").iterdir())
    picture.write_bytes(picture.read_bytes()[:100])
    assert run("ablate", arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"pat ablate: cannot read the picture {picture}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data.target"], "name the data that no training sees"),
        (["--seeds", "0"], "--seeds"),
        (["--rate-factors", "0"], "--rate-factors"),
        (["--holdout", "1.5"], "--holdout"),
        (["--processes", "0"], "--processes"),
        (["--data.holdout", "0.1"], "use --holdout"),
        (["--loss.csl", "0"], "loss.csl is 0"),
        (["--optim.lr", "0"], "optim.lr"),
    ],
)
def test_settings_that_cannot_work(arguments, change, message, capsys):
    assert run("ablate", [*arguments, *change]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_target_that_is_trained_on(arguments, market, capsys):
    assert run("ablate", [*arguments, "--data.target", str(market)]) == 2
    assert "is source and target" in capsys.readouterr().err


def test_without_data_it_draws_people_and_trains_from_scratch():
    given = read_arguments(["components"])
    assert given.training.model.width == TRAINING.model.width
    assert (given.training.weights, given.seeds, given.training.out.name) == ("none", 5, "components")
    quick = read_arguments(["components", "--quick", "--seeds", "3"])
    assert (quick.training.epochs, quick.training.optim.cosine_epochs) == (QUICK_EPOCHS, QUICK_EPOCHS)
    assert (quick.seeds, quick.tuning_seeds) == (3, 1)
    own = read_arguments(["components", "--data.source", "market1501", "--data.target", "msmt17"])
    assert (own.training.model.backbone, own.training.weights) == ("vit_base_patch16_224", "pretrained")
