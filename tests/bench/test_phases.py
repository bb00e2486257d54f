"""The parts of a step as they are timed, kept and printed."""

import time

import numpy as np
import pytest
import torch

from bench.measure import product_rate, watch_memory
from bench.phases import REST, Phases
from bench.results import quantiles, rows, table
from pat.base.mapping import from_mapping
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.data.augment import Augmentation
from pat.data.batches import read_batches
from pat.data.sample import Sample
from pat.data.sources import TrainingSet
from pat.training.distributed import Ranks
from pat.training.state import build_state
from pat.training.step import PHASES, training_step

RANKS = Ranks(torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has a clock of its own")
def test_parts_of_one_name_add_up_and_the_rest_has_no_name(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 2.0, 5.0, 5.0, 6.0, 7.0, 9.0, 10.0, 20.0, 21.0, 24.0, 30.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    phases = Phases()
    with phases.step():
        for name in ("forward", "CSL", "forward", "backward"):
            with phases(name):
                pass
    with phases.step(), phases("CSL"):
        pass
    assert phases.seconds(2) == {
        "forward": [2.0],
        "CSL": [3.0, 3.0],
        "backward": [2.0],
        REST: [6.0, 10.0],
    }
    assert phases.seconds(1) == {"CSL": [3.0], REST: [10.0]}


def test_a_training_step_marks_its_phases_and_does_not_change(tiny):
    config = from_mapping(TrainConfig, tiny)
    samples = tuple(Sample(f"{number}.jpg", 1 + number // 4, 0, "none") for number in range(24))  # type: ignore[arg-type]
    labels = np.arange(24) // 4
    training = TrainingSet(samples, labels, np.zeros(24, np.int64), 6, ("none",))
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 16, 3), dtype=np.uint8)
    augmentation = Augmentation(config.augment, (32, 16))
    steps = np.array([[0, 1, 4, 5, 8, 9]])

    def losses(phases: Phases | None) -> torch.Tensor:
        state = build_state(config, training, RANKS, Progress())
        state.model.train()
        (batch,) = read_batches(pixels, labels, steps, RANKS.device)
        arguments = (config, state, augmentation, batch, RANKS)
        if phases is None:
            return training_step(*arguments, epoch=1, step=1)
        with phases.step():
            return training_step(*arguments, epoch=1, step=1, phase=phases)

    phases = Phases()
    assert torch.equal(losses(phases), losses(None))
    assert set(phases.seconds(1)) == {*PHASES, REST}


def test_phases_are_rows_of_their_own():
    facts = {"operation": "step", "shape": "B=2", "dtype": "float32", "implementation": "ours"}
    facts |= {"images_per_second": 2.0, "phases": {"CSL": quantiles([0.1, 0.3]), REST: quantiles([0.5])}}
    whole, csl, rest = rows(facts, quantiles([1.0, 2.0, 3.0]))
    assert (whole["operation"], whole["median"], whole["images_per_second"]) == ("step", 2.0, 2.0)
    assert (csl["operation"], csl["median"], csl["images_per_second"]) == ("step: CSL", pytest.approx(0.2), None)
    assert rest["min"] == rest["max"] == 0.5
    assert "phases" not in whole
    assert len(table([whole, csl, rest]).splitlines()) == 4


def test_a_step_whose_graph_was_given_up_is_no_row_of_cuda_graphs(monkeypatch):
    from torch._dynamo.utils import counters

    from bench.rows import training as suite

    skips = iter([0, 1])
    monkeypatch.setitem(counters["inductor"], "cudagraph_skips", 3)
    monkeypatch.setattr(
        suite, "compiled", lambda *_, **__: lambda _: counters["inductor"].update(cudagraph_skips=next(skips))
    )
    step = suite.cuda_graphs(None)
    step(None)
    with pytest.raises(RuntimeError, match="1 captures were given up"):
        step(None)


def test_memory_is_counted_from_where_watching_began():
    watched = watch_memory()
    taken = torch.ones(64 << 20, dtype=torch.uint8)
    del taken
    counted = watched()
    if counted is None:
        pytest.skip("this system does not tell a process its peak memory")
    assert 60 << 20 < counted < 200 << 20


def test_the_peak_is_a_rate_of_products():
    assert product_rate(torch.float32) > 1e9
