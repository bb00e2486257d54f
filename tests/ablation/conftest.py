"""Runs of a study whose results are written by hand, and one that trains in a second."""

import dataclasses
import json

import pytest

from pat.ablation.plan import RESULT, Result, scored_run
from pat.ablation.studies import STUDIES
from pat.base.mapping import from_mapping
from pat.config import TrainConfig


@pytest.fixture
def base(market, make_market, tmp_path, tiny) -> TrainConfig:
    """A training of seconds on six people, scored on four others."""
    tiny["data"] = {
        "source": [str(market)],
        "target": [str(make_market(tmp_path / "elsewhere"))],
        "cache": str(tmp_path / "cache"),
    }
    return from_mapping(TrainConfig, {**tiny, "epochs": 1, "out": str(tmp_path / "study")})


@pytest.fixture
def study(base):
    return STUDIES["components"](base)


@pytest.fixture
def make_runs(base, study):
    """`make_runs({arm key: [mAP of seed 0, 1, ... or None for a diverged one]})`: finished runs of all arms."""

    def made(scores, rate=1e-3):
        runs = []
        for arm in study.arms:
            for seed, mAP in enumerate(scores.get(arm.key, ())):
                run = scored_run(base, arm, rate, seed)
                if mAP is None:
                    result = Result("diverged", 1.0, note="not finite")
                else:
                    kinds = {
                        kind.named(): {"mAP": mAP + 0.01 * i, "rank1": mAP / 2} for i, kind in enumerate(arm.kinds)
                    }
                    result = Result("finished", 1.0, scores={"elsewhere": kinds})
                run.folder.mkdir(parents=True, exist_ok=True)
                (run.folder / RESULT).write_text(json.dumps(dataclasses.asdict(result)))
                runs.append(run)
        return runs

    return made
