"""`pat ablate labels` and `shifts` as they are typed, on a trained model and images with a table of facts."""


import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from pat.ablation.labels import COLUMNS
from pat.base.mapping import from_mapping
from pat.cli import run
from pat.commands.ablate.shifts import _names
from pat.config import TrainConfig
from pat.training.loop import train


@pytest.fixture(scope="module")
def trained(make_market, tiny_values, tmp_path_factory):
    """A model with part tokens, the folder of its run, and people it never saw with all that is true of them."""
    folder = tmp_path_factory.mktemp("models")
    data = {"source": [str(make_market(folder / "source"))], "cache": str(folder / "cache")}
    train(from_mapping(TrainConfig, {**tiny_values, "epochs": 1, "data": data, "out": str(folder / "run")}))
    people = make_market(folder / "people", train=2, test=12, cameras=2, each=3)
    write_facts(people)
    return folder


def write_facts(people):
    rows = []
    for path in sorted(people.rglob("*.jpg")):
        identity = int(path.name[:4])
        worn = dict.fromkeys(COLUMNS[1:], "plain")
        worn["top"] = ("coat", "shirt")[identity % 2]
        worn["bottom"] = ("jeans", "skirt", "shorts")[identity % 3]
        boxes = [{"part": "top", "box": [0, 6, 16, 16]}, {"part": "bottom", "box": [0, 16, 16, 30]}]
        seen = {"weather": "night" if identity % 2 else "sunny", "view": "front", "box": "good", "pose": "walk"}
        seen |= {"occlusion": 0.2 if "c1" in path.name else 0.0, "camera_rows": 80, "family": -1}
        rows.append({"path": f"{path.parent.name}/{path.name}", "parts": boxes, **worn, **seen})
    parquet.write_table(pyarrow.Table.from_pylist(rows), people / "people.parquet")


def words(trained, study, out, *more):
    data = ["--data.target", str(trained / "people"), "--data.cache", str(trained / "cache"), "--device", "cpu"]
    return [study, str(trained / "run"), *data, "--out", str(out), *more]


def rows_of(text):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


@pytest.fixture(scope="module")
def labels(trained):
    """What `pat ablate labels` leaves."""
    assert run("ablate", words(trained, "labels", trained / "labels", "--k", "4")) == 0
    return trained / "labels"


def test_labels(labels):
    text = (labels / "table.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| 1 ", "| 2 ", "| 3 "))]
    judged = {(row[0][2], row[1]): row[2:] for row in rows if len(row) == 8}
    # The upper half shows the top, the lower the trousers, the middle both by half or more.
    assert set(judged) >= {("1", "top"), ("3", "bottom"), ("2", "top")}
    assert ("1", "bottom") not in judged
    images, people, chance = judged["1", "top"][:3]
    assert (images, people) == ("72", "12")
    assert float(chance) == pytest.approx(100 * 30 / 66, abs=0.1)  # 5 of the 11 others
    assert "Neighbours that show the image's own person" in text
    looks = [row for row in rows_of(text) if row[0] in ("cls", "part 1", "part 3")]
    assert {(row[0], row[1]) for row in looks} == {
        ("cls", "top"), ("cls", "bottom"), ("part 1", "top"), ("part 3", "bottom")
    }  # fmt: skip
    assert [row[4] for row in looks if row[0] == "part 1"] == ["62.5"]  # rows 6 to 16 of 16
    bins = [row for row in rows_of(text) if row[0].endswith("0 %")]
    assert sum(int(row[1]) for row in bins) == 72
    for name in ("figure.png", "examples.png"):
        assert Image.open(labels / name).width > 200


def test_labels_of_two_models(trained, labels, tmp_path, capsys):
    given = words(trained, "labels", tmp_path / "two", "--k", "4")
    assert run("ablate", [given[0], given[1], *given[1:]]) == 0
    assert "top" in capsys.readouterr().out
    one, two = ((folder / "table.md").read_text() for folder in (labels, tmp_path / "two"))
    assert "p (Holm)" in two
    assert "p (Holm)" not in one
    row = next(line for line in one.splitlines() if line.startswith("| 1 ") and "| top |" in line)
    assert row.removesuffix("|") in two  # the mean of a model with itself
    assert sum(int(row[1]) for row in rows_of(two) if row[0].endswith("0 %")) == 144
    assert "An image counts once for each model." in two


def test_shifts(trained, tmp_path, capsys):
    assert run("ablate", words(trained, "shifts", tmp_path / "out")) == 0
    text = (tmp_path / "out" / "table.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if " | run | " in line]
    assert len(rows) == 8
    plain = {float(row[2]) for row in rows}
    assert len(plain) == 1  # one embedding of what is not changed
    assert all(0 < float(score) <= 100 for row in rows for score in row[2:7])
    dark = next(row for row in rows if row[0].startswith("| occlusion"))
    assert float(dark[6]) < float(dark[2])
    assert "| side seen | front | 24 |" in text
    assert "| rows of the camera | 60 to 100 | 24 |" in text
    assert "| weather |" not in text  # twelve queries each: too few to tell
    assert "| occlusion (" in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "figure.png").width > 1000


@pytest.mark.parametrize(
    ("study", "change", "message"),
    [
        ("labels", ["--data.target", "nowhere"], "nowhere"),
        ("labels", ["--data.target", "a", "b"], "name one data set"),
        ("labels", ["--k", "0"], "k"),
        ("labels", ["--images", "8"], "no attribute is shown by 20 of these 8 images"),
        ("shifts", ["--data.target", "a", "b"], "name one data set"),
    ],
)
def test_what_cannot_be_told(trained, tmp_path, study, change, message, fails):
    assert message in fails(2, "ablate", *words(trained, study, tmp_path / "out", *change))


def test_without_part_tokens_or_facts(trained, make_market, tiny_values, tmp_path, fails):
    plain = {**tiny_values, "epochs": 1, "model": {**tiny_values["model"], "parts": 0}}
    plain["loss"] = {**plain["loss"], "csl": 0.0, "psd": 0.0}
    plain["data"] = {"source": [str(trained / "source")], "cache": str(trained / "cache")}
    train(from_mapping(TrainConfig, {**plain, "out": str(tmp_path / "plain")}))
    given = words(trained, "labels", tmp_path / "out")
    given[1] = str(tmp_path / "plain")
    assert "has no part tokens" in fails(2, "ablate", *given)

    bare = make_market(tmp_path / "bare", each=4)  # more images than the table knows
    given = words(trained, "labels", tmp_path / "out", "--data.target", str(bare))
    assert "were not rendered by pat synth people" in fails(2, "ablate", *given)
    (bare / "people.parquet").write_text("no table")
    assert "cannot read" in fails(2, "ablate", *given)
    write_facts(trained / "people")
    other = parquet.read_table(trained / "people" / "people.parquet")
    parquet.write_table(other, bare / "people.parquet")
    assert "does not know" in fails(2, "ablate", *given)


def test_a_dot_in_a_folders_name_is_part_of_it(tmp_path):
    assert _names([tmp_path / "v1.0", tmp_path / "v1.1"]) == ["v1.0", "v1.1"]
    assert _names([tmp_path / each / "model.safetensors" for each in "ab"]) == ["a/model", "b/model"]


def test_two_models_of_one_name(trained, tmp_path, fails):
    given = words(trained, "shifts", tmp_path / "out")
    given.insert(1, given[1])
    assert "one model is named twice" in fails(2, "ablate", *given)
