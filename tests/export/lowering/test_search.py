"""The layers that cost the most, and those that are excluded so that a gate is passed."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from export.lowering.calibration import Settings
from export.lowering.methods import FORMS, EightBits, SixteenBits
from export.lowering.quantise import activations
from export.lowering.search import find_graph
from lowering import LAYERS, Case, in_opset
from pat.base.errors import Failure
from pat.base.progress import SILENT


def spoiled(case: Case, layer: str) -> dict[str, float]:
    """Ranges that are right for all layers but one, whose input is clipped to almost nothing."""
    run = calibrate_max(case)
    return {name: value / (100 if name == activations(case.graph)[layer] else 1) for name, value in run.items()}


def calibrate_max(case: Case) -> dict[str, float]:
    from export.lowering.calibration import _with_onnxruntime

    return _with_onnxruntime(case.graph, case.manifest, case.images, Settings(None, "max"), SILENT)


@in_opset(23)
def test_the_layer_that_breaks_the_target_is_found_and_excluded(case):
    layer = "blocks.0.mlp.fc2"
    lowering = EightBits(case.graph, "int8", spoiled(case, layer), FORMS["tensorrt"])

    plain = case.score(lowering.build(())).telling.centred.min()
    without = case.score(lowering.build([layer])).telling.centred.min()
    assert plain < without
    limit = float(plain + without) / 2
    score = functools.partial(case.score, centred_worst=limit)
    found = find_graph(lowering, score, case.score, SILENT, always_rank=True)
    assert found.sensitivity[0].layer == layer
    assert [each.centred for each in found.sensitivity] == sorted(each.centred for each in found.sensitivity)
    assert {each.layer for each in found.sensitivity} == set(LAYERS)
    assert found.excluded == (layer,)
    assert found.verdict.telling.centred.min() >= limit
    readers = {node.name: node.input[0] for node in found.graph.graph.node}
    made = {output: node.op_type for node in found.graph.graph.node for output in node.output}
    assert made.get(readers[layer]) != "DequantizeLinear"
    assert made[readers["blocks.1.mlp.fc2"]] == "DequantizeLinear"


@in_opset(23)
def test_a_gate_out_of_reach_is_a_failure(case):
    lowering = SixteenBits(case.graph, "bf16")
    other = dataclasses.replace(case, embeddings=np.roll(case.embeddings, 1, 0))
    score = functools.partial(other.score, centred_worst=0.9)
    with pytest.raises(Failure, match="excluded the gate is missed still: check set: worst cent"):
        find_graph(lowering, score, score, SILENT, always_rank=False)


@in_opset(18)
def test_blocks_are_excluded_from_16_bits_until_the_gate_is_passed(case):
    lowering = SixteenBits(case.graph, "bf16")
    assert list(lowering.units) == ["patch_embed", "blocks.0", "blocks.1"]

    everything, none = (
        float(case.score(lowering.build(excluded)).telling.centred.min()) for excluded in ((), lowering.units)
    )
    assert none > everything
    limit = (everything + none) / 2
    found = find_graph(
        lowering, functools.partial(case.score, centred_worst=limit), case.score, SILENT, always_rank=False
    )
    assert 1 <= len(found.excluded) <= 3
    assert found.verdict.telling.centred.min() >= limit
