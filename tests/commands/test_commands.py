"""Every command as a user types it: what it leaves, and what it says to wrong input."""

import gc
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pat import cli
from pat.cli import COMMANDS, run
from pat.commands.tables import show_table


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_market, tiny_values):
    """A small trained model, for tests that only read it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.json").write_text(json.dumps({**tiny_values, "epochs": 1}))
    arguments = ["--config", folder / "tiny.json", "--data.source", make_market(folder / "market")]
    arguments += ["--data.cache", folder / "cache", "--out", folder / "run"]
    assert run("train", [str(argument) for argument in arguments]) == 0
    return folder / "run" / "model.safetensors"


def test_train_evaluate_embed_rank(trained, market, tmp_path, capsys):
    cache = ["--data.cache", str(tmp_path / "cache")]
    out = tmp_path / "scores"
    arguments = [str(trained), "--data", str(market), "--out", str(out), "--flip", "--parts", "--debias", *cache]
    assert run("evaluate", arguments) == 0
    printed = capsys.readouterr().out
    assert "mAP" in printed
    facts = json.loads((out / "evaluation.json").read_text())
    scores = facts["targets"]["market"]
    kinds = {"cls", "cls, flip", "cls + parts", "cls + parts, flip"}
    assert set(scores) == kinds | {f"{kind}, debiased" for kind in kinds}
    assert 0 < scores["cls"]["mAP"] <= 1
    assert len(scores["cls"]["cmc"]) == 50
    html = (out / "report.html").read_text()
    assert html.count("<img") == 3
    assert "http://" not in html
    assert "https://" not in html
    for name in ("cmc", "ranked", "attention"):
        assert Image.open(out / "market" / f"{name}.png").width > 100

    cache = ["--cache", str(tmp_path / "cache")]
    os.rename(next((market / "query").iterdir()), os.fsencode(market / "query") + b"/no \xff text.jpg")
    for name in ("vectors.npz", "vectors.parquet"):
        assert run("embed", [str(trained), str(market / "query"), "--out", str(tmp_path / name), *cache]) == 0
    vectors = np.load(tmp_path / "vectors.npz")
    assert vectors["vectors"].shape == (8, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors["vectors"], axis=1), 1, rtol=1e-5)
    assert list(vectors["paths"]) == sorted(str(path) for path in (market / "query").iterdir())
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "vectors.parquet").to_pydict()
    np.testing.assert_array_equal(np.array(table["vector"], dtype=np.float32), vectors["vectors"])
    assert str(market / "query" / r"no \udcff text.jpg") in table["path"]

    image = tmp_path / "ranked.png"
    sides = ["--query", str(market / "query"), "--gallery", str(market / "bounding_box_test")]
    assert run("rank", [str(trained.parent), *sides, "--out", str(image), "--k", "5", *cache]) == 0
    assert Image.open(image).width > 300


def test_training_scores_its_targets(market, tmp_path, tiny, capsys):
    (tmp_path / "tiny.json").write_text(json.dumps({**tiny, "epochs": 1}))
    arguments = ["--config", str(tmp_path / "tiny.json"), "--data.source", str(market)]
    arguments += ["--data.target", str(market)]
    assert run("train", [*arguments, "--data.cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]) == 0
    assert "rank-1" in capsys.readouterr().out
    assert (tmp_path / "run" / "evaluation" / "evaluation.json").exists()


def test_resume_takes_the_runs_own_settings(trained, tmp_path, capsys):
    shutil.copytree(trained.parent, tmp_path / "run")
    assert run("train", ["--out", str(tmp_path / "run"), "--resume", "--epochs", "2"]) == 0
    assert "resumed after step" in capsys.readouterr().err


def test_synth_writes_a_data_set_that_trains(tmp_path, tiny):
    numbers = ["--identities-train", "4", "--identities-test", "3", "--cameras", "2", "--images-per-camera", "2"]
    assert run("synth", ["flat", str(tmp_path / "people"), *numbers, "--size", "32x16", "--workers", "1"]) == 0
    attributes = [json.loads(line) for line in (tmp_path / "people" / "attributes.jsonl").read_text().splitlines()]
    assert len(attributes) == 7 * 2 * 2
    (tmp_path / "tiny.json").write_text(json.dumps(tiny))
    arguments = ["--config", str(tmp_path / "tiny.json"), "--data.source", "market1501"]
    arguments += ["--data.root", str(tmp_path / "people"), "--data.cache", str(tmp_path / "cache")]
    assert run("train", [*arguments, "--out", str(tmp_path / "run"), "--epochs", "1"]) == 0


def test_the_overview_fits_a_terminal():
    assert max(map(len, cli.overview().splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_a_typo_in_a_flag(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        run(command, ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: pat {command}" in shown
    assert max(map(len, shown.splitlines())) <= 80
    with pytest.raises(SystemExit) as ended:
        run(command, ["--no-such-flag"])
    assert ended.value.code == 2


def test_a_typo_says_what_was_meant(tmp_path, capsys, fails):
    assert run("evalute", []) == 2
    assert "did you mean evaluate?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("train", ["--data.sorce", "x"])
    assert "--data.source" in capsys.readouterr().err
    (tmp_path / "c.toml").write_text("[optim]\nlearning_rate = 1\n")
    assert "unknown key optim.learning_rate" in fails(2, "train", "--config", tmp_path / "c.toml")


@pytest.mark.parametrize("command", ["embed", "rank", "evaluate"])
def test_a_device_asked_of_a_bundle_is_not_passed_over(command, market, tmp_path, fails):
    """A bundle runs where its runtime does: `--device cuda` ran on the CPU, and `--device gpu` was no mistake."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    words = {"embed": [market], "rank": ["--query", market, "--gallery", market], "evaluate": ["--data", market]}
    message = fails(2, command, tmp_path / "bundle", *words[command], "--device", "cuda")
    assert "--device cuda is of model files alone" in message


def test_missing_root_and_wrong_layout(tmp_path, fails):
    message = fails(2, "train", "--data.source", "market1501", "--data.root", tmp_path / "nowhere")
    assert "nowhere does not exist" in message
    (tmp_path / "odd" / "things").mkdir(parents=True)
    message = fails(2, "train", "--data.source", "market1501", "--data.root", tmp_path / "odd")
    assert "expected" in message
    assert "bounding_box_train" in message
    assert "things" in message
    message = fails(2, "train", "--data.source", "market15O1", "--data.root", tmp_path)
    assert "did you mean market1501" in message


def test_broken_images_stop_or_are_skipped(market, tmp_path, tiny, capsys, fails):
    broken = market / "bounding_box_train" / "0001_c1s1_000777_00.jpg"
    broken.write_bytes(b"")
    (tmp_path / "tiny.json").write_text(json.dumps(tiny))
    arguments = ["--config", tmp_path / "tiny.json", "--data.source", market, "--data.cache", tmp_path / "cache"]
    arguments += ["--epochs", "1", "--out", tmp_path / "run"]
    message = fails(2, "train", *arguments)
    assert broken.name in message
    assert "--data.on-error skip" in message
    assert run("train", [str(word) for word in [*arguments, "--data.on-error", "skip"]]) == 0
    assert f"skipped {broken}" in capsys.readouterr().err.replace("\n", "")


def test_no_valid_query(trained, market, tmp_path, fails):
    for path in (market / "bounding_box_test").iterdir():
        path.unlink()
    for number in range(3):  # other people only
        name = f"0009_c2s1_{number:06d}_00.jpg" if number else "0008_c1s1_000000_00.jpg"
        shutil.copy(next((market / "query").iterdir()), market / "bounding_box_test" / name)
    for path in (market / "query").iterdir():
        path.rename(path.with_name("0003" + path.name[4:]))
    message = fails(
        2, "evaluate", trained, "--data", market, "--data.cache", tmp_path / "c", "--out", tmp_path / "o"
    )
    assert "nothing can be scored" in message
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("evaluate", ["nothing.safetensors", "--data", "market1501"], "there is no model file"),
        ("evaluate", ["{market}", "--data", "x"], "holds no model.safetensors"),
        ("evaluate", ["{model}"], "--data"),
        ("evaluate", ["{model}", "--data", "x", "--batch-size", "0"], "at least 1"),
        ("embed", ["{model}"], "no images are named"),
        ("embed", ["bundle/model.onnx", "{market}"], "give the folder that holds it"),
        ("embed", ["{model}", "{tmp}/nowhere"], "nowhere"),
        ("embed", ["{model}", "{tmp}/empty"], "empty"),
        ("embed", ["{model}", "{market}", "--out", "x.csv"], ".npz or .parquet"),
        ("rank", ["{model}"], "--query and --gallery"),
        ("rank", ["{model}", "--query", "{market}", "--gallery", "{tmp}/empty"], "empty"),
        ("import-weights", ["{tmp}/none.pth", "o.safetensors"], "no weights file"),
        ("import-weights", ["{image}", "o.safetensors"], "damaged or not a checkpoint"),
        ("demo", ["--epochs", "0", "--out", "{tmp}/demo"], "at least 1"),
        ("evaluate", ["{model}", "--data", "{market}", "--out", ""], "an empty path"),
        ("train", ["--data.source", "{market}", "--out="], "an empty path"),
        ("train", ["--data.source", "x", "--data.target", "markt1501", "--out", "{tmp}/r"], "did you mean market"),
        ("train", ["--data.source", "x", "--data.target", "unlabelled={market}/query"], "cannot be scored on"),
        ("train", ["--data.source", "x", "--data.target", "{market}", "{market}"], "two targets are called"),
        ("export", ["{model}", ""], "an empty path"),
        ("gallery", ["list", ""], "an empty path"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(command, arguments, words, trained, market, tmp_path, fails):
    (tmp_path / "empty").mkdir()
    image = next((market / "query").iterdir())
    places = {"model": trained, "market": market, "tmp": tmp_path, "image": image}
    filled = [argument.format(**places) for argument in arguments]
    assert words in fails(2, command, *filled)


def test_evaluate_looks_at_its_output_before_it_scores(trained, market, tmp_path, fails):
    (tmp_path / "file").write_text("in the way")
    cache = tmp_path / "cache"
    arguments = [trained, "--data", market, "--data.cache", cache, "--out", tmp_path / "file" / "out"]
    assert "choose another place" in fails(2, "evaluate", *arguments)
    assert not cache.exists()


def test_a_perfect_score_on_one_identity_is_remarked(trained, market, tmp_path, capsys):
    person = next((market / "query").iterdir()).name.split("_")[0]
    for part in ("query", "bounding_box_test"):
        for image in (market / part).iterdir():
            if not image.name.startswith(person):
                image.unlink()
    arguments = [trained, "--data", market, "--data.cache", tmp_path / "c", "--out", tmp_path / "o"]
    assert run("evaluate", [str(argument) for argument in arguments]) == 0
    assert "the gallery shows one identity alone" in capsys.readouterr().err


def test_no_heading_is_cut_short_at_80_columns(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    heads = ["", "mAP", "rank-1", "rank-5", "rank-10", "mINP", "queries"]
    kind = "cls + parts, flip, debiased, re-ranked by camera"
    show_table("x", heads, [[kind, "12.3", "45.6", "78.9", "80.0", "1.2", "3368"]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(head in " ".join(lines) for head in heads)
    assert "…" not in " ".join(lines)


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_help_tells_of_the_config_file(command, capsys):
    with pytest.raises(SystemExit):
        run(command, ["--help"])
    assert "--config " in capsys.readouterr().out


def test_a_read_only_output_is_a_failure_of_one_line(trained, market, tmp_path, fails):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    message = fails(
        1, "embed", trained, market / "query", "--cache", tmp_path / "cache", "--out", blocker / "v.npz"
    )
    assert "cannot write" in message


def test_what_is_printed_need_not_be_in_the_terminals_alphabet(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    monkeypatch.setattr(cli, "run", lambda name, rest: print("caf\udce9 …", flush=True))
    with pytest.raises(SystemExit):
        cli.main(["any"])
    assert printed.getvalue() == rb"caf\udce9 \u2026" + os.linesep.encode()


def test_what_a_command_leaves_is_not_searched_for_garbage_at_the_end(monkeypatch):
    gc.unfreeze()
    monkeypatch.setattr(cli, "run", lambda name, rest: 3)
    with pytest.raises(SystemExit) as ended:
        cli.main(["any"])
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    assert ended.value.code == 3
    assert frozen > 0


def test_pillow_s_remarks_on_an_image_are_not_shown(tmp_path):
    large = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(large, "PNG")
    (tmp_path / "own" / "anna").mkdir(parents=True)
    (tmp_path / "own" / "anna" / "c1_1.png").write_bytes(large.getvalue())
    words = [sys.executable, "-m", "pat", "data", "check", str(tmp_path / "own")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "more than 80000000 pixels are too many" in done.stdout
    assert done.stderr.splitlines() == ["pat data: 1 of 1 data sets are not as they should be: own"]
