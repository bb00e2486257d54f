"""The small graph that is lowered, its bundle, and the ranges of its layers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from PIL import Image

from bundles import make_bundle
from export.lowering.calibration import Calibration, Settings, calibrate
from lowering import Case, case_of
from pat.base.progress import SILENT


@pytest.fixture(params=[18, 23])
def case(request) -> Case:
    """What is done to a graph is tested in both operator sets; what is done with the graph then, in one."""
    return case_of(request.param)


@pytest.fixture
def bundle(case, tmp_path):
    content = case.graph.SerializeToString()
    return make_bundle(tmp_path / "fp32", case.manifest, content, case.images, case.embeddings)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Resized images of labelled data sets are kept there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    for number in range(5):
        pixels = np.random.default_rng(100 + number).integers(0, 256, (70, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def ranges_of(crops):
    """The ranges of the case in an operator set."""

    @functools.cache
    def measured(opset: int) -> Calibration:
        return calibrate(case_of(opset).graph, case_of(opset).manifest, Settings(crops), SILENT)

    return measured


@pytest.fixture
def measured(case, ranges_of):
    return ranges_of(case.manifest.opset)
