"""Who trains and who is tested, the spread over splits, and the recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pat.base.errors import UserError
from pat.base.mapping import overlay, read_mapping
from pat.config import TrainConfig
from pat.data.layouts import open_data_set
from pat.evaluation.protocols import (
    AVERAGE,
    PUBLISHED,
    Spread,
    average,
    known_protocol,
    possible_targets,
    protocol_targets,
    training_sources,
)
from pat.evaluation.ranking import RankingResult

RECIPES = Path(__file__).parents[2] / "recipes"


def result(rank1: float, mAP: float) -> RankingResult:
    return RankingResult(np.array([rank1, 1.0]), mAP, 0.0, 1, np.array([mAP]))


def test_mean_and_spread_by_hand() -> None:
    spread = Spread.of([result(0.5, 0.2), result(0.7, 0.4), result(0.9, 0.3)])
    assert spread.rank1 == pytest.approx(0.7)
    assert spread.mAP == pytest.approx(0.3)
    assert spread.rank1_deviation == pytest.approx(0.2)
    assert spread.mAP_deviation == pytest.approx(0.1)
    assert spread.splits == 3
    assert Spread.of([result(0.5, 0.2)]) == Spread(0.5, 0.2, 0.0, 0.0, 1)
    assert average([Spread(0.5, 0.2, 0, 0, 1), Spread(0.7, 0.6, 0, 0, 1)]) == pytest.approx((0.6, 0.4))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("protocol_*.toml")), ids=lambda path: path.stem)
def test_recipes_train_on_what_the_protocol_says(path: Path) -> None:
    _, protocol, *target = path.stem.split("_")
    config = overlay(TrainConfig(), read_mapping(path), str(path))
    assert config.data.source == training_sources(protocol, *target)
    planned = protocol_targets(protocol, {"source": list(config.data.source)})
    assert planned.targets == (tuple(target) or ("prid", "grid", "viper", "ilids"))
    assert planned.warnings == ()


def test_every_protocol_has_its_recipes() -> None:
    assert len(list(RECIPES.glob("protocol_*.toml"))) == 7


def test_a_trained_target_is_refused() -> None:
    with pytest.raises(UserError, match="trained on prid: a target of P1"):
        protocol_targets("P1", {"source": ["market1501", "prid=/data/x"]})
    with pytest.raises(UserError, match="no target may train"):
        protocol_targets("P3", {"source": ["market1501:all", "/data/MSMT17_V1", "cuhk03-labeled"]})


def test_other_and_unknown_training_is_a_warning() -> None:
    assert "not tell" in protocol_targets("P1", {}).warnings[0]
    planned = protocol_targets("P2", {"source": ["market1501:all", "msmt17", "cuhk-sysu"]})
    assert planned.targets == ("cuhk03",)
    assert "not comparable" in planned.warnings[0]
    assert "which no known name tells" in protocol_targets("single", {"source": ["/data/own"]}).warnings[0]
    single = protocol_targets("single", {"source": ["Market-1501-v15.09.15"]})
    assert single.targets == ("msmt17", "cuhk03")
    assert single.warnings == ()


def test_unknown_names_say_what_was_meant() -> None:
    assert known_protocol("p1") == "P1"
    with pytest.raises(UserError, match="did you mean single"):
        known_protocol("singel")
    with pytest.raises(UserError, match="did you mean market1501"):
        training_sources("P2", "market1510")
    with pytest.raises(UserError, match="no target 'cuhk-sysu'"):
        training_sources("P3", "cuhk-sysu")


def test_all_images_of_a_data_set_train(market: Path) -> None:
    usual, whole = open_data_set(str(market), Path(".")), open_data_set(f"{market}:all", Path("."))
    assert {s.path for s in whole.train} == {s.path for p in (usual.train, usual.query, usual.gallery) for s in p}
    assert len(whole.train) == 10 * 2 * 3
    assert len({s.identity for s in whole.train}) == 10
    assert whole.query == whole.gallery == ()


def test_test_people_of_msmt17_stay_others(tmp_path: Path) -> None:
    lists = {"train": "train", "val": "train", "query": "test", "gallery": "test"}
    for number, (part, folder) in enumerate(lists.items()):
        name = f"0000/0000_{number:03d}_0{number + 1}_0303morning_0008_0.jpg"
        (tmp_path / folder / "0000").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"")
        (tmp_path / f"list_{part}.txt").write_text(f"{name} 0\n")
    whole = open_data_set(f"msmt17={tmp_path}:all", tmp_path)
    assert len(whole.train) == 4
    assert {s.identity for s in whole.train if "test" in s.path.parts} == {1}
    assert {s.identity for s in whole.train if "train" in s.path.parts} == {0}


def test_distractors_and_junk_do_not_train(market: Path) -> None:
    image = next((market / "query").iterdir())
    for name in ("0000_c1s1_000001_00.jpg", "-1_c1s1_000001_00.jpg"):
        (market / "bounding_box_test" / name).write_bytes(image.read_bytes())
    assert min(s.identity for s in open_data_set(f"{market}:all", Path(".")).train) == 1


def test_a_table_says_whether_val_of_msmt17_trained() -> None:
    assert "with its list_val" in protocol_targets("single", {"source": ["msmt17"]}).remarks[0]
    assert "without its list_val" in protocol_targets("single", {"source": ["msmt17:no-val"]}).remarks[0]
    assert protocol_targets("single", {"source": ["market1501"]}).remarks == ()


def test_published_figures_stand_under_one_protocol_each() -> None:
    rows = [(figure.method, figure.target, figure.mAP) for each in PUBLISHED.values() for figure in each]
    assert len(set(rows)) == len(rows)
    for protocol, figures in PUBLISHED.items():
        assert {figure.target for figure in figures} <= {*possible_targets(protocol), AVERAGE}
        assert any("PAT" in figure.method for figure in figures) or protocol in ("P2", "P3")
