"""`pat evaluate --protocol` and `--rerank` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pat.cli import run
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.weights import save


@pytest.fixture
def write_model(tmp_path, tiny_values):
    """`write_model(sources)` saves a small model with a random start and such training facts."""

    def write(sources: list[str]) -> str:
        values = {**tiny_values["model"], "image_size": (32, 16)}
        path = tmp_path / f"model{len(sources)}.safetensors"
        save(PartAwareTransformer(ModelConfig(**values)), path, {"source": sources} if sources else {})
        return str(path)

    return write


def draw_noise(path: Path, seed: int) -> None:
    """An image whose lower half is the seed's and whose upper half is of this file alone."""
    own = [ord(letter) for letter in "/".join(path.parts[-2:])]
    halves = [np.random.default_rng(numbers).integers(0, 256, (16, 16, 3)) for numbers in (own, seed)]
    Image.fromarray(np.concatenate(halves).astype(np.uint8)).save(path)


@pytest.fixture
def viper(tmp_path: Path) -> Path:
    """A data root with 30 people of VIPeR and nothing else."""
    for camera in ("cam_a", "cam_b"):
        folder = tmp_path / "data" / "VIPeR" / camera
        folder.mkdir(parents=True)
        for person in range(30):
            draw_noise(folder / f"{person:03d}_45.bmp", person)
    return tmp_path / "data"


def words(model: str, root: Path, *more: str) -> list[str]:
    beside = root.parent
    places = ["--data.root", str(root), "--data.cache", str(beside / "cache"), "--out", str(beside / "out")]
    return [model, *places, "--device", "cpu", *more]


def test_p1_over_ten_splits_with_absent_sets(write_model, viper, capsys) -> None:
    model = write_model(["market1501:all", "cuhk02:all", "cuhk03:all", "cuhk-sysu:all"])
    assert run("evaluate", words(model, viper, "--protocol", "P1", "--rerank")) == 0
    shown = capsys.readouterr()
    assert "warning" not in shown.err
    for name in ("prid", "grid", "ilids"):
        assert f"absent: {name}" in shown.err
    facts = json.loads((viper.parent / "out" / "protocol.json").read_text())
    assert facts["absent"] == ["prid", "grid", "ilids"]
    assert set(facts["results"]) == {"cls", "cls, re-ranked", "cls, re-ranked by camera"}
    assert facts["results"]["cls"] != facts["results"]["cls, re-ranked"]
    found = facts["results"]["cls"]
    assert list(found) == ["viper"]
    assert found["viper"]["splits"] == 10
    assert 0 < found["viper"]["rank1"] <= 1
    assert found["viper"]["mAP_deviation"] > 0
    page = (viper.parent / "out" / "report.html").read_text()
    assert "measured here: not yet" in page
    assert "prid (absent)" in page


def test_unknown_training_is_warned_of(write_model, viper, capsys) -> None:
    assert run("evaluate", words(write_model([]), viper, "--protocol", "p1")) == 0
    assert "warning: the model does not tell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sources", "more", "said"),
    [
        (["viper"], ["--protocol", "P1"], "trained on viper: a target of P1"),
        (["market1501"], ["--protocol", "P4"], "unknown protocol 'P4'"),
        (["market1501"], ["--protocol", "P2"], "none of the targets msmt17, cuhk03 is under"),
        (["market1501"], ["--protocol", "P1", "--data", "viper"], "names its own targets"),
    ],
)
def test_wrong_input_is_one_line(sources, more, said, write_model, viper, fails) -> None:
    assert said in fails(2, "evaluate", *words(write_model(sources), viper, *more))


def test_reranking_is_a_row_beside_the_plain_one(write_model, market, tmp_path) -> None:
    for path in [*(market / "query").iterdir(), *(market / "bounding_box_test").iterdir()]:
        draw_noise(path, int(path.name[:4]))
    plain = [write_model([]), "--data", str(market), "--data.cache", str(tmp_path / "cache"), "--images", "0"]
    assert run("evaluate", [*plain, "--out", str(tmp_path / "a")]) == 0
    assert run("evaluate", [*plain, "--out", str(tmp_path / "b"), "--rerank"]) == 0
    a, b = (json.loads((tmp_path / n / "evaluation.json").read_text())["targets"]["market"] for n in "ab")
    assert set(a) == {"cls"}
    assert set(b) == {"cls", "cls, re-ranked", "cls, re-ranked by camera"}
    assert a["cls"] == b["cls"]
    assert b["cls, re-ranked"] != b["cls"]
