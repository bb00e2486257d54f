"""`pat data` as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fresh import python, without
from pat.cli import run
from pat.data.layouts import open_data_set
from pat.data.layouts.splits import SPLITS_FILE


@pytest.fixture
def viper(tmp_path: Path) -> Path:
    """Eight people of VIPeR under a data root."""
    folder = tmp_path / "data" / "VIPeR"
    for number, camera in enumerate(("cam_a", "cam_b")):
        (folder / camera).mkdir(parents=True)
        for person in range(8):
            image = Image.new("RGB", (16, 32), (30 * person, 100 * number, 50))
            image.save(folder / camera / f"{person:03d}_{90 * number}.bmp")
    return folder


def printed(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> tuple[str, str]:
    """Standard output, and the one line on standard error, of a command that ends with `code`."""
    capsys.readouterr()
    assert run("data", [str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("pat data: ")]
    assert len(lines) == (1 if code else 0)
    return " ".join(out.split()), "".join(lines)


def test_check_of_whole_data(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    out, _ = printed(capsys, 0, "check", market, "--json", report)
    assert "market1501" in out
    assert "36" in out
    [finding] = json.loads(report.read_text())
    assert finding["parts"]["train"] == {"identities": 6, "images": 36, "cameras": 2}
    assert finding["wrong"] == []


def test_check_of_a_root_with_damage(viper: Path, market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(market, viper.parent / "people")
    (viper.parent / "holidays").mkdir()
    (viper / "cam_a" / "003_0.bmp").write_bytes(b"")
    out, err = printed(capsys, 1, "check", viper.parent)
    assert err == "pat data: 1 of 2 data sets are not as they should be: viper"
    assert "4 of 316" in out
    assert "viper: wrong: train: 4 identities and 8 images, published are 316 and 632; half copied?" in out
    assert "003_0.bmp: the file is empty" in out
    assert "people: wrong" not in out
    assert f"not recognised in {viper.parent}: holidays" in out
    out, _ = printed(capsys, 1, "check", viper, "--quick")
    assert "003_0.bmp" not in out


def test_long_lists_are_cut_on_the_terminal_and_whole_in_json(
    viper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        (viper / "cam_a" / f"holiday{number:02d}.bmp").touch()
    out, _ = printed(capsys, 1, "check", viper, "--json", tmp_path / "r.json")
    assert "holiday09" in out
    assert "holiday10" not in out
    assert "more; --json FILE lists all" in out
    assert "holiday29" in (tmp_path / "r.json").read_text()


def test_splits_are_written_where_they_are_read_again(viper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = open_data_set("viper", viper.parent)
    out, _ = printed(capsys, 0, "splits", "viper", "--data.root", viper.parent)
    assert out == f"wrote 10 splits of viper to {viper / SPLITS_FILE}"
    assert open_data_set("viper", viper.parent).splits == before.splits
    values = json.loads((viper / SPLITS_FILE).read_text())
    values["splits"][0]["query"][0] = "cam_a/no.bmp"
    (viper / SPLITS_FILE).write_text(json.dumps(values))
    _, err = printed(capsys, 2, "splits", f"viper={viper}", "--out", viper / "other.json")
    assert "pat-splits.json: split 0, query, entry 0: 'cam_a/no.bmp' is not an image of this data set" in err
    assert not (viper / "other.json").exists()


def test_extract_takes_images_out_of_the_mat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import h5py

    with h5py.File(tmp_path / "cuhk-03.mat", "w") as mat:
        for kind in ("detected", "labeled"):
            image = mat.create_dataset(f"{kind}_image", data=np.zeros((3, 2, 4), np.uint8))
            people = mat.create_dataset(f"{kind}_people", (10, 1), dtype=h5py.ref_dtype)
            people[:, 0] = [image.ref] * 10
            pairs = mat.create_dataset(kind, (1, 1), dtype=h5py.ref_dtype)
            pairs[0, 0] = people.ref
    out, _ = printed(capsys, 0, "extract", tmp_path)
    assert f"{tmp_path / 'images_detected'}: 10 images" in out
    assert Image.open(tmp_path / "images_labeled" / "1_001_2_10.png").size == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "{tmp}/nowhere"], "there is no file or folder"),
        (["check", "{tmp}"], "no known layout: expected a data set"),
        (["splits", "vipre"], "unknown data set 'vipre': did you mean viper?"),
        (["splits", "viper", "--data.root", "{tmp}"], "no viper under"),
        (["splits", "{market}"], "market has one division and no random splits"),
        (["extract", "{market}"], "holds no cuhk-03.mat"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [argument.format(tmp=tmp_path / "empty", market=market) for argument in arguments]
    assert words in printed(capsys, 2, *filled)[1]


def run_without(names: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ["data", *arguments]
    return python("-c", without(*names) + f"from pat.cli import main\nmain({words!r})")


def test_check_needs_no_torch_and_no_matlab_readers(market: Path) -> None:
    done = run_without(["torch", "timm", "safetensors", "triton", "h5py", "scipy"], "check", str(market))
    assert done.returncode == 0, done.stderr


def test_without_h5py_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "cuhk-03.mat").write_bytes(b"MATLAB 7.3 MAT-file")
    done = run_without(["h5py"], "extract", str(tmp_path))
    assert done.returncode == 2
    assert "needs h5py, which is not installed: pip install 'pat-reid[data]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_train_and_evaluate_by_name(
    viper: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps({**tiny, "epochs": 1}))
    places = ["--data.root", str(viper.parent), "--data.cache", str(tmp_path / "cache")]
    arguments = ["--config", str(tmp_path / "tiny.json"), "--data.source", "viper", "--out", str(tmp_path / "run")]
    assert run("train", [*arguments, *places]) == 0
    assert "first of 10 splits" in capsys.readouterr().err.replace("\n", " ")
    out = ["--out", str(tmp_path / "scores")]
    assert run("evaluate", [str(tmp_path / "run" / "model.safetensors"), "--data", "viper", *places, *out]) == 0
    facts = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert facts["targets"]["viper"]["cls"]["valid_queries"] == 4
