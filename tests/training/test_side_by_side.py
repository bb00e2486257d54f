"""Runs at once: where they go, and what becomes of the others when one is killed."""

import dataclasses
import multiprocessing
import threading
import time

import pytest
import torch

from pat.ablation.plan import scored_run
from pat.ablation.study import STUDIES
from pat.ablation.work import carry_out
from pat.config import TrainConfig, from_mapping
from pat.errors import Failure, UserError
from pat.progress import Progress
from pat.training.side_by_side import Place, places, side_by_side


@pytest.fixture
def run(market, tmp_path, tiny):
    """A run that never ends by itself."""
    data = {"source": [str(market)], "cache": str(tmp_path / "cache")}
    base = from_mapping(TrainConfig, {**tiny, "epochs": 4000, "data": data, "out": str(tmp_path / "study")})
    return scored_run(base, STUDIES["components"](base).arms[0], 1e-3, 0)


def test_a_killed_run_is_named_and_the_others_save_their_state(run, tmp_path):
    other = dataclasses.replace(run, config=dataclasses.replace(run.config, out=tmp_path / "other", seed=1))

    def kill_the_first():
        deadline = time.monotonic() + 60
        while not all((each.folder / "checkpoint.pt").exists() for each in (run, other)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        min(multiprocessing.active_children(), key=lambda child: child.name).kill()

    threading.Thread(target=kill_the_first).start()
    with pytest.raises(Failure, match=r"seed [01]: its process ended early"):
        side_by_side(carry_out, [run, other], [Place("cpu", 1)] * 2, Progress())
    assert not multiprocessing.active_children()
    assert all((each.folder / "checkpoint.pt").exists() for each in (run, other))


def test_places(monkeypatch):
    monkeypatch.setattr("pat.training.side_by_side.cores", lambda: 8)
    cpu = torch.device("cpu")
    assert places(cpu, "auto") == [Place("cpu", 1)] * 8
    assert places(cpu, "cpu", 2) == [Place("cpu", 4)] * 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert places(torch.device("cuda"), "auto") == [Place("cuda:0", 4), Place("cuda:1", 4)]
    assert places(torch.device("cuda:1"), "cuda:1") == [Place("cuda:1", 8)]
    assert [place.device for place in places(torch.device("cuda"), "cuda", 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    with pytest.raises(UserError, match="--processes"):
        places(cpu, "cpu", 0)
