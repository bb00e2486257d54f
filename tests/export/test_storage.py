"""Weights kept as float16: smaller files, the same numbers, and a way back."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

import pat
from export.check import read_graph, runner
from export.manifest import CHECKPOINT, MODEL, Manifest
from export.precision import Request, lower_bundle
from export.storage import restore_weights
from export.to_onnx import export_bundle
from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model import PartAwareTransformer, weights

CONFIG = ModelConfig(
    backbone="vit_tiny_patch16_224", image_size=(64, 32), width=64, depth=2, heads=2, parts=1, identities=5,
    stem="deep", pooling="mean",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Folder with the same model exported with float32 and with half weights."""
    folder = tmp_path_factory.mktemp("storage")
    torch.manual_seed(0)
    model = PartAwareTransformer(CONFIG)
    model.train().features(torch.rand(8, 3, 64, 32))
    weights.save(model, folder / "m.safetensors", {"seed": 3})
    export_bundle(folder / "m.safetensors", folder / "full")
    export_bundle(folder / "m.safetensors", folder / "half", half_weights=True, trainable=True)
    return folder


def test_the_file_is_half_as_large_and_computes_the_same(bundles):
    full, half = (Manifest.load(bundles / name) for name in ("full", "half"))
    assert half.files[MODEL].bytes < 0.75 * full.files[MODEL].bytes
    stored = read_graph(str(half.file(MODEL)))
    restored = onnx.ModelProto()
    restored.CopyFrom(stored)
    restore_weights(restored)
    assert {t.data_type for t in stored.graph.initializer} >= {TensorProto.FLOAT16, TensorProto.FLOAT}
    assert TensorProto.FLOAT16 not in {t.data_type for t in restored.graph.initializer}
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(runner(stored, half)(images), runner(restored, half)(images))
    near = runner(read_graph(str(full.file(MODEL))), full)(images)
    assert (near * runner(stored, half)(images)).sum(1).min() > 0.9999


def test_training_can_go_on_from_a_trainable_bundle(bundles):
    carried = pat.load(bundles / "half" / CHECKPOINT)
    again = PartAwareTransformer(dataclasses.replace(CONFIG, identities=9))
    weights.initialise(again, str(bundles / "half"))
    torch.testing.assert_close(again.blocks[1].mlp.fc1.weight, carried.blocks[1].mlp.fc1.weight)
    assert carried.classifier is None
    assert again.classifier.out_features == 9
    assert CHECKPOINT in Manifest.load(bundles / "half").files
    assert CHECKPOINT not in Manifest.load(bundles / "full").files


def test_a_lower_precision_is_made_from_it(bundles):
    lowered = lower_bundle(bundles / "half", bundles / "fp16", Request("fp16"))
    assert lowered.precision.name == "fp16"
    graph = read_graph(str(lowered.file(MODEL)))
    assert not any(tensor.name.endswith(".float16") for tensor in graph.graph.initializer)


def test_half_weights_belong_to_fp32(bundles):
    with pytest.raises(UserError, match="half weights are those of an fp32 graph"):
        export_bundle(bundles / "m.safetensors", bundles / "never", half_weights=True, lower=Request("fp16"))
