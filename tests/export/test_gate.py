"""The gate: what it lets through and what it does not, thresholds, and shares of the arithmetic."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.check_set import _nearest, compare, moved_threshold, pair_cosines
from export.judge import Images, Judge
from export.labelled import Decide, Ranked
from export.lowering.methods import FORMS
from export.lowering.share import multiply_adds, share_in
from export.precision import eight_bits
from export.precisions import EIGHT, PRECISIONS, Gate
from pat.base.errors import UserError
from pat.base.progress import SILENT

COUNT = 64
OPEN = Gate(centred_worst=-1, centred_p1=-1, same_first=0, decisions=1)


def people(spread: float = 1.0, noise: float = 0.0) -> np.ndarray:
    """COUNT embeddings of COUNT / 4 people around a common direction, and what rounding makes of them."""
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(COUNT // 4, 32)), 4, axis=0)
    vectors = 3 / spread + centres + 0.3 * generator.normal(size=(COUNT, 32))
    vectors += noise * np.random.default_rng(1).normal(size=vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_embeddings_that_are_nearly_parallel_are_judged_by_what_tells_them_apart():
    """Their plain cosines say 0.999, and the nearest neighbours of a third of them are other ones."""
    agreement = compare(people(0.05), people(0.05, noise=0.5))
    assert agreement.worst > 0.999
    assert agreement.same_first < 0.7
    missed = agreement.misses(EIGHT)
    assert "worst centred cosine" in missed
    assert "same first neighbour for" in missed
    assert compare(people(), people(noise=0.01)).misses(EIGHT) == ""


def test_what_all_embeddings_are_moved_by_is_seen():
    expected = people(0.05)
    moved = expected + np.float32(0.01) * np.eye(32, dtype=np.float32)[0]
    found = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    assert compare(expected, found).worst > 0.9999
    assert "worst centred cosine" in compare(expected, found).misses(EIGHT)


@pytest.mark.parametrize("ignorant", ["constant", "next", "nan"])
def test_a_model_that_knows_nothing_passes_no_gate(ignorant):
    expected = people()
    found = {
        "constant": np.broadcast_to(expected.mean(0), expected.shape).copy(),
        "next": np.roll(expected, 4, 0),
        "nan": expected * np.float32("nan"),
    }[ignorant]
    for facts in PRECISIONS.values():
        assert compare(expected, found, (0.9, 0.9)).misses(facts.gate)


def test_no_gate_is_so_wide_that_a_broken_vector_passes():
    expected = people()
    found = expected.copy()
    assert compare(expected, found).misses(OPEN) == ""
    found[3] = np.nan
    found[5] *= 1.02  # cosines do not see it, and a camera that takes products for cosines does
    assert compare(expected, found).misses(OPEN).startswith("2 embeddings are not finite, or their length")


def test_a_share_just_at_its_limit_passes():
    expected = people()[:30]
    found = expected.copy()
    found[[0, 10, 20]] = expected[[29, 1, 2]]
    agreement = compare(expected, found)
    limit = round(agreement.same_first, 12)
    assert agreement.misses(OPEN.changed([f"same_first={limit}"])) == ""
    assert "same first" in agreement.misses(OPEN.changed([f"same_first={limit + 1 / 30}"]))
    for changed in range(2, 30):  # whatever 1 - limit is rounded to
        at = dataclasses.replace(agreement, changed_first=changed, decided=30, changed=changed)
        gate = OPEN.changed([f"same_first={1 - changed / 30}", f"decisions={changed / 30}"])
        assert at.misses(gate) == ""


def test_one_image_and_one_pair_may_always_change():
    expected = people()
    found = expected.copy()
    agreement = compare(expected, found, (0.9, 0.9))
    assert agreement.misses(PRECISIONS["fp32"].gate) == ""
    assert agreement.decided == int((pair_cosines(expected) >= 0.9).sum())
    limit = np.sort(pair_cosines(expected))[-10]
    one = compare(expected, found, (float(limit), float(np.nextafter(limit, np.float32(2)))))
    assert (one.decided, one.changed) == (10, 1)
    assert one.misses(EIGHT) == ""
    many = compare(expected, found, (float(limit), 0.0))
    assert "decisions changed, 10.0% allowed" in many.misses(EIGHT)


@pytest.mark.parametrize("decided", [10, 1000])
def test_the_share_of_changed_decisions_is_that_of_the_pairs_decided(decided):
    """Not of the images, nor of all pairs."""
    agreement = dataclasses.replace(compare(people(), people()), decided=decided, changed=decided // 5)
    gate = OPEN.changed(["decisions=0.2"])
    assert agreement.decisions == agreement.summary()["decisions"] == 0.2
    assert agreement.misses(gate) == ""
    missed = dataclasses.replace(agreement, changed=agreement.changed + 1).misses(gate)
    assert missed.endswith(f"% of {decided} decisions changed, 20.0% allowed")


def test_a_lower_precision_gets_the_nearest_threshold_with_as_many_matches():
    expected, threshold = people(), 0.9
    count = int((pair_cosines(expected) >= threshold).sum())
    assert moved_threshold(expected, expected, threshold) == threshold
    for found in (people(noise=0.2), people(spread=0.5), people(spread=2)):
        moved = moved_threshold(expected, found, threshold)
        assert int((pair_cosines(found) >= np.float32(moved)).sum()) == count
    assert moved_threshold(expected, people(spread=2), 1.0) == 1.0  # nothing matches, and nothing need move
    verdict = Judge([Images("check set", np.zeros((COUNT, 1, 1, 3), np.uint8), expected, threshold)], EIGHT)(
        lambda pixels: people(spread=0.5)
    )
    assert verdict.threshold is not None
    assert verdict.threshold > threshold
    assert "judged on 64 images" in verdict.sentences()[-1]


def test_every_set_is_judged_and_the_largest_tells():
    expected, numbers = people(), np.arange(COUNT, dtype=np.uint8)
    few, many = numbers[:16], numbers[16:]
    sets = [
        Images(name, np.broadcast_to(rows[:, None, None, None], (len(rows), 1, 1, 3)), expected[rows], 0.9)
        for name, rows in (("check set", few), ("crops", many))
    ]
    for rows, name in ((few, "check set"), (many, "crops")):
        found = people(noise=0.01)
        found[rows] = np.roll(expected[rows], 4, 0)
        for order in (sets, sets[::-1]):
            verdict = Judge(order, EIGHT)(lambda pixels: found[pixels[:, 0, 0, 0]])  # noqa: B023
            assert verdict.misses.startswith(f"{name}: worst centred cosine")
            assert len(verdict.telling.cosines) == len(many)
            assert verdict.threshold == moved_threshold(expected[many], found[many], 0.9)


def test_blocks_make_no_difference_to_who_is_nearest():
    np.testing.assert_array_equal(_nearest(people(), block=7), _nearest(people()))


def test_rank_1_and_mAP_may_each_fall_by_the_points_of_the_gate_and_one_query_may_be_lost():
    def score(rank1, mAP):
        result = SimpleNamespace(cmc=np.array([rank1, 1.0]), mAP=mAP)
        return SimpleNamespace(query=SimpleNamespace(vectors=np.zeros((100, 1))), result=result)

    for rank1, mAP, said in (
        (0.89, 0.796, ""), (0.95, 0.85, ""), (0.88, 0.8, "rank-1 falls by 2.00"), (0.9, 0.79, "mAP falls by 1.00"),
        (0.9, np.nan, "mAP falls by nan"),
    ):  # fmt: skip
        missed = Ranked(score(0.9, 0.8), score(rank1, mAP)).misses(EIGHT)
        assert missed.startswith(said)
        assert bool(missed) == bool(said)


def test_a_threshold_is_chosen_on_labelled_images(market):
    def colours(pixels: np.ndarray) -> np.ndarray:
        means = pixels.reshape(len(pixels), 2, -1, 3).mean(2).reshape(len(pixels), 6).astype(np.float32)
        means -= means.mean(1, keepdims=True)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    decision = Decide(str(market), 0.05).choose(colours, (32, 16), SILENT)
    assert -1 < decision.threshold < 1
    assert decision.false_match_rate <= 0.05
    assert "pairs of different people and 16 of one by two cameras" in decision.chosen_on
    with pytest.raises(UserError, match=r"too few to show a false-match rate of 0\.001: ask for"):
        Decide(str(market)).choose(colours, (32, 16), SILENT)
    noise = np.random.default_rng(0)

    def guessed(images: np.ndarray) -> np.ndarray:
        return _unit(noise.normal(size=(len(images), 9)))

    with pytest.raises(UserError, match=r"no threshold can be chosen on .*: the equal error rate is"):
        Decide(str(market), 0.05).choose(guessed, (32, 16), SILENT)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_multiply_adds_are_counted_by_the_type_of_their_factors():
    weight = np.ones((8, 4), np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),  # 5 x 8 x 4
        helper.make_node("DequantizeLinear", ["v8", "scale", "zero"], ["v"]),
        helper.make_node("MatMul", ["y", "v"], ["z"]),  # 5 x 4 x 2, by an fp32 factor
    ]
    constants = [
        ("scale", np.float32(1)), ("zero", np.int8(0)), ("w8", weight.astype(np.int8)),
        ("v8", np.ones((4, 2), np.int8)),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 5, 2])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    assert multiply_adds(model) == {8: 160, 32: 40}
    assert share_in(model, "int8") == 0.8
    assert share_in(model, "fp32") == 1


def test_attention_multiplies_queries_by_keys_and_weights_by_values():
    sizes = {"q": (2, 3, 8), "k": (2, 5, 8), "v": (2, 5, 8), "y": (2, 3, 8)}  # heads, tokens, width
    told = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *size]) for name, size in sizes.items()
    ]
    graph = helper.make_graph([helper.make_node("Attention", ["q", "k", "v"], ["y"])], "one", told[:3], told[3:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    onnx.checker.check_model(model, full_check=True)
    assert multiply_adds(model) == {32: 2 * (2 * 3 * 5 * 8)}


@pytest.mark.parametrize(("width", "convolutions"), [(4, True), (200, False)])
def test_onnx_runtime_gets_convolutions_in_8_bits_only_where_they_are_most_of_the_work(width, convolutions):
    nodes = [
        helper.make_node("Identity", ["crops"], ["pixels"], "input"),
        helper.make_node("Conv", ["pixels", "kernel"], ["stem"], "stem"),
        helper.make_node("Flatten", ["stem"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "weight"], ["out"], "head"),
    ]
    constants = {"kernel": np.ones((8, 3, 3, 3), np.float32), "weight": np.ones((8 * 6 * 6, width), np.float32)}
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    lowering = eight_bits(model, "int8", {"pixels": 1.0, "flat": 1.0}, FORMS["onnxruntime"], SILENT)
    assert lowering.form.convolutions is convolutions
    assert share_in(lowering.build(()), "int8") >= 0.75
