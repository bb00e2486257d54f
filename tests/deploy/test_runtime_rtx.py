"""The TensorRT backend with a real plan and the real library: TensorRT for RTX, which needs no GPU to be asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bundles import projection
from deploy import runtime
from deploy.runtime import tensorrt
from deploy.runtime.trt_library import load_library, logger_of
from export.build_trt import main
from export.trt.device import find_gpu
from fake_gpu import Machine
from pat.base.errors import UserError

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")

NO_GPU = pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU: see test_runtime_gpu.py")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an engine and its facts, as build_trt.py makes them."""
    bundle = projection(tmp_path_factory.mktemp("rtx") / "bundle")
    assert main([str(bundle), "--flavour", "tensorrt-rtx", "--max-batch", "4", "--device", "sm86"]) == 0
    return bundle


@pytest.fixture
def machine(monkeypatch):
    made = Machine(capability=86)
    monkeypatch.setattr(tensorrt, "Gpu", made)
    return made


@NO_GPU
def test_a_plan_that_cannot_be_loaded_is_refused_in_the_librarys_words(built, machine):
    """Everything up to the engine is right; the library finds no GPU, says so to its logger and gives None."""
    with pytest.raises(UserError, match=r"tensorrt-rtx 1\.\d.* refuses .*model.plan: .+; run python") as caught:
        runtime.open(built, "tensorrt", preprocess="cpu")
    assert "it gave no reason" not in str(caught.value)
    assert not any(machine.alive.values())


def test_the_plan_is_for_the_target_it_was_built_for(built, machine):
    machine.capability = 87
    with pytest.raises(UserError, match=r"was built for sm_86, this is Double \(sm_87\)"):
        runtime.open(built, "tensorrt", preprocess="cpu")


def test_a_plan_of_the_version_before_is_refused(built, tmp_path, machine):
    facts = json.loads((built / "engine.json").read_text())
    assert facts["tensorrt"] == load_library("tensorrt-rtx").version
    copy = projection(tmp_path / "bundle")
    (copy / "model.plan").write_bytes((built / "model.plan").read_bytes())
    (copy / "engine.json").write_text(json.dumps({**facts, "tensorrt": "1.0.0.1"}))
    with pytest.raises(UserError, match=r"was built with tensorrt-rtx 1.0.0.1, this is tensorrt-rtx 1\."):
        runtime.open(copy, "tensorrt", preprocess="cpu")


def test_the_builder_and_the_runtime_share_the_one_logger():
    from export.trt.flavour import load_flavour

    logger = logger_of(load_library("tensorrt-rtx").trt)
    flavour = load_flavour("tensorrt-rtx")
    assert flavour.logger is logger
    assert flavour.messages is logger.messages


def test_tensorrt_that_is_not_there_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UserError, match=r"tensorrt is not installed.*pip install tensorrt"):
        load_library("tensorrt")
