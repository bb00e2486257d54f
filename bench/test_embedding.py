"""Embedding crops: PyTorch, ONNX Runtime and the TensorRT engine, in every precision, at batch 1, 8 and 32.

    python -m pytest bench/test_embedding.py                       # a ViT with random weights, made on the spot
    PAT_BENCH_BUNDLE=BUNDLE python -m pytest bench/test_embedding.py   # that one and its engine, without PyTorch

ViT-B on a GPU, ViT-S on a CPU. Times are from crops in host memory, resized already, to vectors in host memory.
The engine is built from the bundle on the spot, unless the bundle given has one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.results import BENCH
from deploy import runtime
from export.manifest import MANIFEST, Manifest
from pat.base.errors import UserError

BATCHES = (1, 8, 32)
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
GIVEN = os.environ.get("PAT_BENCH_BUNDLE")
HAS_TORCH = importlib.util.find_spec("torch") is not None


def on_gpu() -> bool:
    if HAS_TORCH:
        import torch

        return torch.cuda.is_available()
    return Path("/dev/nvidia0").exists() or Path("/dev/nvhost-gpu").exists() or Path("/dev/nvgpu").exists()


ROUNDS = 50 if on_gpu() else 5


@dataclass(frozen=True)
class Bundles:
    """Bundles of one model in several precisions, made when asked for."""

    make: Callable[[str, str], Path]
    """From a precision and what is to run it to a bundle."""
    precisions: tuple[str, ...]
    model_file: Path | None


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    if GIVEN:
        return Bundles(lambda precision, backend: Path(GIVEN), (Manifest.load(GIVEN).precision.name,), None)
    if not HAS_TORCH:
        pytest.skip("without PyTorch there is no model to export; set PAT_BENCH_BUNDLE to a bundle folder")
    pytest.importorskip("onnxscript", reason="no model can be exported; set PAT_BENCH_BUNDLE")
    from export.to_onnx import export_bundle

    folder = tmp_path_factory.mktemp("bundles")
    model, crops = random_model(folder), noise_crops(folder)
    export_bundle(model, folder / "fp32", check_images=crops)

    def make(precision: str, backend: str) -> Path:
        from export.lowering.calibration import Settings
        from export.precision import Request, lower_bundle

        out = folder / (f"int8-{backend}" if precision == "int8" else precision)
        if not (out / MANIFEST).exists():
            # The time does not depend on how close random weights come, so any closeness will do.
            settings = Settings(crops) if precision == "int8" else None
            gate = ("centred_worst=-1", "centred_p1=-1", "same_first=0", "decisions=1")
            lower_bundle(folder / "fp32", out, Request(precision, backend, settings, gate))  # type: ignore[arg-type]
        return out

    return Bundles(make, PRECISIONS, model)


def random_model(folder: Path) -> Path:
    """A model file with the paper's architecture (on a CPU its small sister) and random weights."""
    import torch

    from pat.config import ModelConfig
    from pat.model import PartAwareTransformer
    from pat.model.weights import save

    torch.manual_seed(0)
    if on_gpu():
        config = ModelConfig(backbone="vit_base_patch16_224")
    else:
        config = ModelConfig(backbone="vit_small_patch16_224", width=384, heads=6)
    path = folder / "model.safetensors"
    save(PartAwareTransformer(config), path)
    return path


def noise_crops(folder: Path) -> Path:
    """A folder of images to check and calibrate with."""
    from PIL import Image

    out = folder / "crops"
    out.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (32, 256, 128, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(out / f"{number:03}.png")
    return out


@dataclass(frozen=True)
class Opened:
    """Something that embeds crops uint8 [n, H, W, 3], and its manifest."""

    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    manifest: Manifest


@contextlib.contextmanager
def opened(backend: str, precision: str, bundles: Bundles) -> Iterator[Opened]:
    """The embedder to measure, after its vectors were compared with the check set; skips what cannot run here."""
    if precision not in bundles.precisions:
        pytest.skip(f"the bundle given is in {bundles.precisions[0]}")
    if backend == "pytorch":
        yield torch_embedder(precision, bundles)
        return
    bundle = bundles.make(precision, backend)
    options: dict[str, object] = {} if backend == "tensorrt" else {"batch_size": max(BATCHES)}
    if backend == "tensorrt":
        if not on_gpu():
            pytest.skip("an engine needs a GPU to run")
        build_engine(bundle)
    elif precision == "bf16" and backend == "onnxruntime":
        pytest.skip("ONNX Runtime has no bf16 kernels on a CPU")
    try:
        session = runtime.open(bundle, backend, **options)  # type: ignore[arg-type]
    except UserError as error:
        pytest.skip(str(error))
    with session:
        session.self_test()
        yield Opened(session.embed, session.manifest)


def torch_embedder(precision: str, bundles: Bundles) -> Opened:
    if bundles.model_file is None:
        pytest.skip("a bundle holds no PyTorch model")
    if precision == "int8" or (precision == "fp16" and not on_gpu()):
        pytest.skip(f"PyTorch runs no {precision} model here")
    import torch

    import pat
    from pat.model.images import to_images

    device = torch.device("cuda" if on_gpu() else "cpu")
    model = pat.load(bundles.model_file).to(device)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)

    def embed(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            vectors: NDArray[np.float32] = model.embed(to_images(crops, device)).float().cpu().numpy()
        return vectors

    return Opened(embed, Manifest.load(bundles.make("fp32", "onnxruntime")))


def build_engine(bundle: Path) -> None:
    """The engine of a bundle, beside it, unless it has one."""
    if any(bundle.glob("*.plan")):
        return
    script = BENCH.parent / "export" / "build_trt.py"
    command = [sys.executable, str(script), str(bundle), "--max-batch", str(max(BATCHES))]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"no engine: {built.stderr.strip().splitlines()[-1]}")


def flops(manifest: Manifest) -> int:
    """Operations of one image, a multiply-add counted as two: patch embedding, blocks, the last one in full."""
    model, output = manifest.model, manifest.output
    width = output.size // (1 + model["parts"] if output.kind == "cls+parts" else 1)
    depth, patch = model["depth"] or 12, model["patch_size"] or 16  # None: the backbone's own, in all recipes this
    patches = (manifest.input.height // patch) * (manifest.input.width // patch)
    tokens = 1 + model["parts"] + patches
    block = tokens * width * (4 * width + 2 * 4 * width + 2 * tokens)
    return 2 * (depth * block + patches * width * 3 * patch * patch)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backend", ["pytorch", "onnxruntime", "openvino", "tensorrt"])
def test_embedding(backend: str, precision: str, batch: int, bundles: Bundles, measure_embedding) -> None:
    with opened(backend, precision, bundles) as model:
        size = (batch, model.manifest.input.height, model.manifest.input.width, 3)
        crops = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
        vectors = model.embed(crops)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        shape = f"{model.manifest.model['backbone']} x{batch}"
        facts = {"shape": shape, "dtype": precision, "implementation": backend}
        measure_embedding(model.embed, crops, flops(model.manifest), rounds=ROUNDS, operation="embed", **facts)
