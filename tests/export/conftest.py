"""A small part-aware transformer as ONNX in every precision and operator set, made once for all."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from filelock import FileLock

from bundles import described, make_bundle, noise
from export.lowering.cast import cast_graph
from export.lowering.quantise import activations, layers, quantise_graph
from export.manifest import Precision, PrecisionName
from export.trace import to_graph
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.images import to_images

try:
    from torch.onnx._internal.exporter._registration import onnxscript_apis as operators

    # For each graph the exporter works out anew what it knows of every operator: a quarter of a trace.
    operators.get_torchlib_ops = functools.cache(operators.get_torchlib_ops)
except (ImportError, AttributeError):  # another version goes another way
    pass

TrtGraph = Callable[[PrecisionName, int], Path]


def retraced(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that a program is traced again, to decompose its operators."""
    found: list[None] = []
    run = torch.export.ExportedProgram.run_decompositions

    def counted(program, *given):
        found.append(None)
        return run(program, *given)

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", counted)
    return found


@pytest.fixture
def traced_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that the test exports may be traced again: the second trace took longer than the first."""
    found = retraced(monkeypatch)
    yield
    assert not found


def small_model() -> PartAwareTransformer:
    """ViT-tiny, two blocks deep, with weights large enough for every layer to matter."""
    torch.manual_seed(0)
    model = PartAwareTransformer(
        ModelConfig(
            backbone="vit_tiny_patch16_224",
            image_size=(256, 128),
            width=192,
            depth=2,
            heads=3,
        )
    )
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.fixture(scope="session")
def trt_graph(tmp_path_factory: pytest.TempPathFactory) -> TrtGraph:
    """The path of the small model's graph in a precision and operator set."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"  # one for all workers
    folder.mkdir(exist_ok=True)
    alone = FileLock(folder / ".lock")

    def make(precision: PrecisionName, opset: int) -> Path:
        path = folder / f"{precision}-{opset}.onnx"
        with alone:
            if not path.exists():
                path.write_bytes(graph(precision, opset).SerializeToString())
        return path

    def graph(precision: PrecisionName, opset: int) -> onnx.ModelProto:
        if precision == "fp32":
            return to_graph(small_model(), opset=opset)
        found = onnx.load(make("fp32", opset))
        if precision in ("int8", "fp8"):
            # The ranges only set scales here: what is built does not depend on their values.
            ranges = dict.fromkeys(activations(found).values(), 8.0)
            found = quantise_graph(found, precision, ranges, layers(found))
        return cast_graph(found, "bf16" if precision == "bf16" else "fp16")

    return make


@pytest.fixture
def trt_bundle(trt_graph: TrtGraph, tmp_path: Path) -> Path:
    """An fp16 bundle with a check set of four images of noise."""
    model = small_model()
    images = noise(4, 256, 128, 3)
    manifest = described((256, 128), 192, precision=Precision(name="fp16"))
    embeddings = model.embed(to_images(images)).numpy()
    return make_bundle(tmp_path / "bundle", manifest, trt_graph("fp16", 18).read_bytes(), images, embeddings)
