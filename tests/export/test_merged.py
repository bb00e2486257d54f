"""Bundles whose graph merges patch tokens: exported, judged against the full model, lowered further."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import onnx
import pytest

import bundles
import pat
import pat.cli
from deploy import runtime
from export.check import read_graph
from export.check_set import gate_of, pair_cosines, read_check_set
from export.judge import Images
from export.lowering.share import multiply_adds
from export.manifest import MODEL, Decision, Manifest
from export.merged import Merge, judged
from export.precision import Request, as_declared, lower_bundle, lower_graph
from export.precisions import EIGHT, MERGED, SIXTEEN
from export.to_onnx import export_bundle
from export.trace import to_graph
from lowering import drawn_model
from pat.base.errors import Failure
from pat.base.progress import SILENT
from pat.config import ModelConfig
from pat.model.images import to_images
from pat.model.weights import save

from .conftest import retraced

CONFIG = ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), patch_size=8, width=48, heads=2, depth=2)
ANY = ("centred_worst=-1", "centred_p1=-1", "same_first=0", "decisions=1")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(drawn_model(CONFIG, alpha=0.1), path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The bundle's folder, what was warned of meanwhile, and what was traced again."""
    folder = tmp_path_factory.mktemp("bundle") / "merged"
    with warnings.catch_warnings(record=True) as warned, pytest.MonkeyPatch.context() as patch:
        again = retraced(patch)
        warnings.simplefilter("always", RuntimeWarning)
        export_bundle(checkpoint, folder, parts=True, merge=Merge(8, gate=ANY))
    return folder, [each for each in warned if issubclass(each.category, RuntimeWarning)], again


@pytest.fixture
def bundle(exported):
    return exported[0]


def test_the_check_set_and_the_gate_are_those_of_the_full_model(bundle, checkpoint):
    manifest = Manifest.load(bundle)
    assert manifest.merged.left == (24, 24)  # of the last block only the cls token leaves
    assert gate_of(manifest) == MERGED.changed(ANY)
    images, embeddings = read_check_set(manifest)
    expected = pat.load(checkpoint).embed(to_images(images), parts=True).numpy()
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)
    with runtime.open(bundle) as session:
        found = session.agreement()
        session.self_test()
    assert 0 < found.centred.min() < 0.9999  # close, and not the same
    assert manifest.merged.measured["check set"] == pytest.approx(found.summary(), abs=1e-4)


@pytest.mark.usefixtures("traced_once")
def test_it_has_fewer_products_and_static_shapes(bundle, checkpoint, tmp_path):
    graph = onnx.load(bundle / MODEL)
    full = to_graph(pat.load(checkpoint), opset=18, parts=True)
    assert sum(multiply_adds(graph).values()) < 0.95 * sum(multiply_adds(full).values())
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"ScatterElements", "ScatterND", "NonZero", "Loop", "If"}
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    free = {each.dim_param for value in inferred.value_info for each in value.type.tensor_type.shape.dim}
    assert free <= {"", "batch"}


def test_hidden_tokens_are_no_warning_and_no_second_trace(exported):
    assert exported[1:] == ([], [])


def test_a_lower_precision_is_judged_by_the_wider_of_both_gates(bundle, tmp_path):
    lower_bundle(bundle, tmp_path / "fp16", Request("fp16", gate=("centred_worst=0.999",)))
    lowered = Manifest.load(tmp_path / "fp16")
    assert lowered.merged is not None
    assert gate_of(lowered).centred_worst == -1
    assert SIXTEEN.wider(EIGHT) == EIGHT


def test_a_lower_precision_decides_as_the_full_model_does(bundle):
    manifest = Manifest.load(bundle)
    inputs, embeddings = read_check_set(manifest)
    cosines = np.sort(pair_cosines(embeddings))
    merged, full = (float(cosines[len(cosines) * part // 4]) for part in (1, 3))
    decision = Decision(merged, false_match_rate=0.1, chosen_on="a data set", fp32_threshold=full)
    graph, asked = read_graph(str(manifest.file(MODEL))), dataclasses.replace(manifest, decision=decision)
    lowered, described = lower_graph(graph, asked, inputs, embeddings, Request("fp16"))
    assert described.decision.fp32_threshold == full
    matches = pair_cosines(as_declared(lowered, described)(inputs)) >= np.float32(described.decision.threshold)
    assert matches.sum() == (cosines >= full).sum()


def test_a_missed_gate_is_a_failure_that_says_what_to_do():
    manifest, pixels = bundles.described((8, 4), 16), np.zeros((9, 8, 4, 3), np.uint8)
    vectors = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    check_set, request = Images("check set", pixels, vectors), Merge(5, 2)

    def judge(merged):
        return judged(manifest, [9, 4], request, check_set, lambda _: vectors, lambda _: merged, None, SILENT)

    passed = judge(vectors)
    assert (passed.merged.per_block, passed.merged.first_block, passed.merged.left) == (5, 2, (9, 4))
    assert passed.precision.gate == MERGED
    with pytest.raises(Failure, match=r"5 tokens .* from block 2 .*worst centred.*merge fewer"):
        judge(np.roll(vectors, 1, 0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--merge-from", "2"], "give --merge"),
        (["--merge", "-1"], "at least 1"),
        (["--merge", "2", "--merge-from", "2"], "nothing would be merged; the model has 2 blocks, and the last"),
    ],
)
def test_mistakes_are_one_line(given, said, checkpoint, tmp_path, capsys):
    assert pat.cli.run("export", [str(checkpoint), str(tmp_path / "out"), "--kernels", "none", *given]) == 2
    assert said in capsys.readouterr().err
