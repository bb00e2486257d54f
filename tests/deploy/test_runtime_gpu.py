"""The TensorRT backend on a real GPU: kernel against Pillow, engine against ONNX Runtime, no leak in 10,000 calls.

On a machine with an NVIDIA GPU, TensorRT and PyCUDA (sm_80 or newer):

    python -m pytest tests/deploy/test_runtime_gpu.py
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy import runtime
from deploy.runtime.crops import write_boxes
from export.trt.device import find_gpu
from kernels.compiler import ARCHITECTURES

GPU = find_gpu()
ARCH = f"sm_{GPU.capability}" if GPU else ""
pytestmark = [
    pytest.mark.skipif(ARCH not in ARCHITECTURES, reason="no NVIDIA GPU that the kernels are compiled for"),
    pytest.mark.skipif(not importlib.util.find_spec("pycuda"), reason="PyCUDA is not installed"),
]
LEAK = 8 << 20
"""Bytes that may differ: other processes use the GPU too."""


@pytest.fixture(scope="module", params=["uint8", "float32"])
def bundle(request, tmp_path_factory) -> Path:
    """A small part-aware transformer in fp16 with its engine, which build_trt.py has checked on this GPU."""
    from export.build_trt import main
    from export.precision import Request
    from export.to_onnx import export_bundle
    from pat.config import ModelConfig
    from pat.model import PartAwareTransformer
    from pat.model.weights import save

    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model = PartAwareTransformer(ModelConfig(backbone="vit_tiny_patch16_224", width=192, depth=2, heads=3))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    save(model, folder / "model.safetensors")
    export_bundle(
        folder / "model.safetensors", folder / "bundle", lower=Request("fp16"), input_type=request.param,
        kernels=[ARCH],
    )
    assert main([str(folder / "bundle"), "--profile", "1,1,1", "--profile", "2,4,8"]) == 0
    return folder / "bundle"


def street(seed: int, height: int = 720, width: int = 1280, people: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """A frame of smooth noise and boxes in it."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    frame = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
    corner = random.uniform(0, [width - 200, height - 400], (people, 2))
    size = random.uniform([20, 50], [200, 400], (people, 2))
    return frame, np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def free_memory(session) -> int:
    with session._gpu as gpu:
        return int(gpu._cuda.mem_get_info()[0])


def test_the_compiled_kernel_cuts_what_pillow_cuts(bundle):
    (frame, boxes), (narrow, few) = street(0), street(1, 480, 640, 3)
    padded = np.zeros((720, 1300, 3), np.uint8)
    padded[:, :1280] = frame
    with runtime.open(bundle, "tensorrt") as session:
        for image, wanted in ((frame, boxes[:8]), (padded[:, :1280], boxes[:8]), (narrow, few)):
            cutter, found = session._cutter(), np.empty_like(session._rows)
            expected = np.empty_like(session._rows[: len(wanted)])
            write_boxes(image, wanted, expected, session.manifest)
            with session._gpu as gpu:
                cutter.show(image)
                cutter.cut(wanted[:2], 0)
                cutter.cut(wanted[2:], 2)
                gpu.download(found, session._input)
                gpu.synchronise()
            error = np.abs(found[: len(wanted)].astype(float) - expected)
            assert error.max() <= (1 if found.dtype == np.uint8 else 1.2)
            assert error.mean() <= 0.4


def test_the_engine_embeds_as_onnx_runtime_does(bundle):
    frames, boxes = zip(*(street(seed) for seed in range(3)), strict=True)
    crops = np.random.default_rng(0).integers(0, 256, (19, 256, 128, 3), dtype=np.uint8)
    with runtime.open(bundle) as expected, runtime.open(bundle, "tensorrt") as session:
        assert session.self_test() >= 0.999
        for count in (1, 2, 8, 9, 19):
            cosine = (session.embed(crops[:count]) * expected.embed(crops[:count])).sum(1)
            assert cosine.min() >= 0.999
        cosine = (session.embed_boxes(frames, boxes) * expected.embed_boxes(frames, boxes)).sum(1)
    assert cosine.shape == (33,)
    assert cosine.min() >= 0.998  # the crops differ by up to a level too


def test_ten_thousand_calls_take_no_memory(bundle):
    frame, boxes = street(0)
    with runtime.open(bundle, "tensorrt") as session:
        first = session.embed_boxes([frame], [boxes])
        before = free_memory(session)
        for _ in range(5_000):
            session.embed_boxes([frame], [boxes[:1]])
            session.embed(np.zeros((1, 256, 128, 3), np.uint8) + 9)
        np.testing.assert_array_equal(session.embed_boxes([frame], [boxes]), first)
        assert before - free_memory(session) <= LEAK


def test_sessions_come_and_go(bundle):
    frame, boxes = street(0)
    free = []
    for _ in range(12):
        with runtime.open(bundle, "tensorrt") as session:
            session.embed_boxes([frame], [boxes])
            free.append(free_memory(session))
    assert free[2] - free[-1] <= LEAK
