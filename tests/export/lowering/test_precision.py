"""A bundle in a lower precision: what is written, what is said, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from bundles import make_bundle
from deploy.shipped import MODELS, NAME
from export import precision as script
from export.check import check_graph, read_graph
from export.check_set import compare
from export.judge import Verdict
from export.lowering.calibration import Settings, calibrate
from export.lowering.methods import FORMS, EightBits
from export.lowering.search import Lowered
from export.manifest import MANIFEST, MODEL, Manifest, fact
from export.precision import Request, lower_bundle
from lowering import LAYERS, WIDE, in_opset
from pat.base.errors import Failure, UserError
from pat.base.progress import SILENT


@pytest.mark.parametrize(
    ("case", "kind"), [(18, "fp16"), (23, "bf16"), (23, "int8"), (18, "fp8")], indirect=["case"]
)
def test_a_bundle_is_converted_and_says_how(case, bundle, crops, kind, tmp_path):
    settings = Settings(crops, "max", tool="onnxruntime") if kind in ("int8", "fp8") else None
    gate = WIDE if settings else ()
    out = tmp_path / kind
    manifest = lower_bundle(bundle, out, Request(kind, calibration=settings, gate=gate))
    assert Manifest.load(out) == manifest
    assert manifest.precision.name == kind
    measured = manifest.precision.measured["check set"]
    assert measured["centred_worst"] >= manifest.precision.gate.centred_worst == (0.2 if settings else 0.99)
    assert measured["images"] == 6
    assert set(measured) >= {"centred_worst", "centred_p1", "same_first", "decisions"}
    assert 0.75 <= manifest.precision.share <= 1
    assert "judged on 6 images" in " ".join(manifest.checks)
    assert bool(manifest.precision.tool) == bool(settings)
    assert len(manifest.precision.sensitivity) == (len(LAYERS) if settings else 0)
    assert manifest.backends == (("tensorrt",) if kind == "fp8" else ("tensorrt", "openvino"))
    graph = read_graph(str(manifest.file(MODEL)))
    check_graph(graph, manifest)
    said = " ".join(manifest.checks)
    if kind == "bf16":  # this ONNX Runtime has no bf16 on a CPU: the manifest must not claim a run
        assert "as it stands: not run" in said
    else:
        assert "as it stands in ONNX Runtime: 6 images" in said
    with pytest.raises(UserError, match=f"is in {kind}; convert the fp32 bundle"):
        lower_bundle(out, tmp_path / "again", Request("fp16"))


@in_opset(18)
def test_a_graph_that_keeps_most_of_its_work_in_16_bits_is_not_called_int8(case, bundle, crops, tmp_path):
    """A gate that only fp16 passes leaves out layer after layer."""
    settings = Settings(crops, "max", tool="onnxruntime")
    ranges = calibrate(case.graph, case.manifest, settings, SILENT).ranges
    lowering = EightBits(case.graph, "int8", ranges, FORMS["tensorrt"])
    limit = float(case.score(lowering.build(LAYERS)).telling.centred.min()) - 1e-7
    gate = (f"centred_worst={limit}", "centred_p1=-1", "same_first=0")
    with pytest.raises(Failure, match=r"only \d+% of the multiply-adds would be in int8, 75% must be"):
        lower_bundle(bundle, tmp_path / "out", Request("int8", calibration=settings, gate=gate))
    assert not (tmp_path / "out").exists()


@in_opset(23)
def test_the_old_bundle_stays_when_the_gate_is_missed(case, bundle, tmp_path):
    out = tmp_path / "out"
    lower_bundle(bundle, out, Request("fp16"))
    before = (out / MANIFEST).read_bytes()
    # With the answers of another model no precision agrees.
    other = np.roll(case.embeddings, 1, 0)
    make_bundle(bundle, case.manifest, case.graph.SerializeToString(), case.images, other)
    with pytest.raises(Failure, match=r"with every layer excluded the gate is missed still"):
        lower_bundle(bundle, out, Request("bf16"))
    assert (out / MANIFEST).read_bytes() == before


def test_a_convolutional_stem_in_bf16_is_sent_to_another_opset(tmp_path):
    """The model in the box: two fifths of its work are convolutions, which opset 18 cannot have in bf16."""
    with pytest.raises(Failure, match=r"no bf16 convolution below opset 22, .* --opset 23"):
        lower_bundle(MODELS / NAME, tmp_path / "out", Request("bf16"))


@in_opset(18)
def test_a_graph_that_misses_the_gate_where_it_runs_is_said(case):
    """The judged figures are the declared numbers; a CPU that saturates computes others."""
    agreement = compare(case.embeddings, case.embeddings)
    for misses, ending in (("", "neighbour 100.0%"), ("crops: all", "the gate on this machine: crops: all")):
        found = Lowered(case.graph, Verdict({"crops": agreement}, None, ""), (), ())
        (said,) = script._as_it_stands(
            lambda run, misses=misses: Verdict({"crops": agreement}, None, misses), found, case.manifest
        )
        assert said.endswith(ending)


def run(*arguments: object) -> int:
    return script.main([str(argument) for argument in arguments])


@in_opset(18)
def test_the_script_prints_what_it_found(bundle, crops, tmp_path, capsys):
    assert run(bundle, tmp_path / "o", "--precision", "int8", "--calibration", crops, "--gate", *WIDE) == 0
    said = capsys.readouterr().out
    for words in (
        "most sensitive (mean centred cosine alone): ",
        "check set, 6 images: centred cosine worst ",
        "of the multiply-adds in int8",
        "for tensorrt, openvino",
        "so few images say little",
        "int8, opset",
    ):
        assert words in said


@in_opset(18)
def test_mistakes_are_one_line_with_exit_code_2(case, bundle, crops, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    whole = (crops / "0.png").read_bytes()
    (broken / "half.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    int8 = (bundle, out, "--precision", "int8", "--calibration")
    for arguments, message in (
        ((tmp_path / "nowhere", out, "--precision", "fp16"), "does not exist"),
        ((empty, out, "--precision", "fp16"), "is no bundle"),
        ((bundle, crops, "--precision", "fp16"), "holds files and is no bundle"),
        ((bundle, out, "--precision", "int8"), "int8 needs --calibration"),
        ((bundle, out, "--precision", "bf16", "--calibration", crops), "bf16 takes no --calibration"),
        ((*int8, empty), f"the folder {empty} holds no images"),
        ((*int8, tmp_path / "nowhere"), "there is no folder"),
        ((*int8, broken), f"cannot read the image {broken / 'half.png'}"),
        ((*int8, crops, "--percentile", 3), "must lie between 50 and 100"),
        ((*int8, crops, "--most", 0), "must be at least 1"),
        ((*int8, crops, "--tool", "modelopt"), "modelopt knows no percentiles"),
        ((bundle, out, "--precision", "fp16", "--gate", "same_first=2"), "at least 0 and at most 1"),
        ((bundle, out, "--precision", "fp16", "--for", "onnxruntime"), "fp16 is not for onnxruntime"),
        ((bundle, out, "--precision", "fp16", "--gate-images", empty), "holds no images"),
        ((*int8, crops, "--gate-images", crops), "was calibrated on; give others"),
        ((bundle, out, "--precision", "fp16", "--decision", empty, "--false-match-rate", 0.9), "0 and 0.5"),
        ((bundle, out, "--precision", "fp16", "--data", empty), "empty"),
    ):
        assert run(*arguments) == 2, arguments
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("precision.py: ")
        assert message in said
        assert not out.exists()


@in_opset(18)
@pytest.mark.parametrize("content", ["empty", "truncated", "text", "no graph"])
def test_an_onnx_file_that_is_none_is_one_line(case, bundle, tmp_path, content):
    """Files whose hash is right, because the manifest was made for them."""
    path = bundle / MODEL
    whole = path.read_bytes()
    nothing = onnx.ModelProto(ir_version=10, producer_name="someone").SerializeToString()
    contents = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello", "no graph": nothing}
    path.write_bytes(contents[content])
    files = {**case.manifest.files, **Manifest.load(bundle).files, MODEL: fact(path)}
    (bundle / MANIFEST).write_text(dataclasses.replace(case.manifest, files=files).to_json())
    with pytest.raises(UserError, match=r"model\.onnx (is empty|is no complete ONNX model)") as caught:
        lower_bundle(bundle, tmp_path / "out", Request("fp16"))
    assert "\n" not in str(caught.value)
