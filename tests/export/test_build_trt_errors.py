"""What build_trt.py answers to mistakes: one line and exit code 2, and nothing written."""

from __future__ import annotations

import dataclasses
import errno
import re

import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("tensorrt_rtx_bindings", reason="the RTX builder is not installed")

from export.build_trt import main
from export.manifest import Manifest
from export.trt import build as build_module


@pytest.fixture
def refused(tmp_path, capsys):
    """Run the command, expect it to refuse, and give its one line."""

    def run(*arguments: object, code: int = 2) -> str:
        before = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".plan", ".json"))
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stopped:  # argparse
            status = stopped.code
        out, err = capsys.readouterr()
        assert status == code, err
        assert not out
        assert sorted(path for path in tmp_path.rglob("*") if path.suffix in (".plan", ".json")) == before
        complaints = [line for line in err.splitlines() if line.startswith("build_trt.py: ")]
        # Beside the complaint: the flavour, and how far the build came.
        others = [
            line for line in err.splitlines() if not line.startswith(("build_trt.py: ", "tensorrt-rtx ", "buil"))
        ]
        assert len(complaints) == 1, err
        assert not others
        return complaints[0]

    return run


def graph_file(path, *nodes: onnx.NodeProto, shape=("batch", 4)):
    """A graph of one input "x" and one output "y"."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_a_path_that_does_not_exist_and_a_folder_that_is_no_bundle(refused, tmp_path):
    assert "does not exist" in refused(tmp_path / "nowhere")
    assert "holds no manifest.json" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("photo.jpg", b"\xff\xd8", "neither a bundle"),
        ("model.plan", b"\xff\xd8", "is an engine already"),
        ("model.onnx", b"", "is empty"),
        ("model.onnx", b"\x08\x0a", "is no embedding model: it has 0 inputs and 0 outputs"),
        ("model.onnx", b"hello\n", "is no embedding model: it has 0 inputs and 0 outputs"),
    ],
)
def test_a_file_that_is_no_model(refused, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in refused(tmp_path / name)


def test_a_truncated_file(refused, trt_graph, tmp_path):
    whole = trt_graph("fp16", 18).read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    assert "copy or export it again" in refused(tmp_path / "model.onnx")


def test_a_bundle_whose_graph_was_changed(refused, trt_bundle):
    model = trt_bundle / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert "SHA-256 differs" in refused(trt_bundle)
    assert "SHA-256 differs" in refused(model)  # the manifest beside it counts here too
    model.write_bytes(content[:-1])
    assert "bytes, the manifest says" in refused(trt_bundle)


def test_a_bundle_whose_manifest_was_edited(refused, trt_bundle):
    manifest = trt_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"size": 192', '"size": 384'))
    assert "manifest.json was edited after it was written" in refused(trt_bundle)


def test_a_bundle_whose_manifest_describes_another_graph(refused, trt_bundle):
    told = Manifest.load(trt_bundle)
    other = dataclasses.replace(told, output=dataclasses.replace(told.output, size=384))
    (trt_bundle / "manifest.json").write_text(other.to_json())
    assert "its manifest says" in refused(trt_bundle)


@pytest.mark.parametrize(
    ("operator", "shape", "words"),
    [
        ("Relu", (), "no batch of crops"),
        ("Relu", (2, 4), "fixed batch 2"),
        ("Relu", ("batch", "width"), "only the batch may be dynamic"),
        ("Sharpen", ("batch", 4), "(?=.*odd).*Sharpen"),
    ],
)
def test_a_graph_that_tensorrt_cannot_take(refused, tmp_path, operator, shape, words):
    node = helper.make_node(operator, ["x"], ["y"], name="odd")
    assert re.search(words, refused(graph_file(tmp_path / "model.onnx", node, shape=shape)))


def test_a_file_that_cannot_be_read(refused, tmp_path, monkeypatch):
    path = graph_file(tmp_path / "model.onnx", helper.make_node("Relu", ["x"], ["y"]))
    monkeypatch.setattr(build_module, "open", deny, raising=False)  # permissions do not stop root
    assert "cannot read" in refused(path)


def deny(path, mode):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_manifest_nested_without_end(refused, tmp_path):
    (tmp_path / "manifest.json").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert "nested too deep" in refused(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--min-batch", "8", "--opt-batch", "4"), "min <= opt <= max"),
        (("--opt-batch", "64", "--max-batch", "32"), "min <= opt <= max"),
        (("--max-batch", "0"), "min <= opt <= max"),
        (("--min-batch", "0"), "at least 1 crop"),
        (("--min-batch", "many"), "invalid int value"),
        (("--profile", "1,8,4"), "min <= opt <= max"),
        (("--profile", "1,8"), "is not MIN,OPT,MAX"),
        (("--profile", "a,b,c"), "--profile"),
        (("--workspace", "0"), "--workspace 0"),
        (("--workspace", "99999999999999"), "give 1 to 1048576 MiB"),
        (("--max-batch", "100000000"), "more than a tensor holds"),
        (("--version-compatible",), "unrecognized arguments"),
        (("--optimisation-level", "9"), "choose 0"),
        (("--precision", "fp4"), "only fp32"),
        (("--device", "sm87"), "it knows sm75"),
        (("--device", "orin"), "is not a target"),
        (("--dla", "0"), "0 DLA cores"),
        (("--hardware-compatible", "ampere-plus"), "builds no AMPERE_PLUS plans"),
        (("--output", "/no/such/folder/model.plan"), "is no folder"),
        (("--log", "/no/such/folder/log.txt"), "cannot write the log"),
    ],
)
def test_a_setting_that_cannot_be(refused, trt_bundle, arguments, words):
    assert words in refused(trt_bundle, *arguments)


@pytest.mark.parametrize(("precision", "target"), [("fp8", "sm86"), ("bf16", "sm75")])
def test_a_precision_that_the_target_lacks(refused, trt_graph, tmp_path, precision, target):
    line = refused(trt_graph(precision, 18), "--device", target, "--output", tmp_path / "model.plan")
    assert f"{precision} needs" in line
    assert target.replace("sm", "sm_") in line


def test_a_precision_that_the_bundle_or_graph_does_not_have(refused, trt_bundle, trt_graph, tmp_path):
    assert "is in fp16, not in int8" in refused(trt_bundle, "--precision", "int8")
    line = refused(trt_graph("fp32", 18), "--precision", "fp16", "--output", tmp_path / "model.plan")
    assert "computes in fp32, not in fp16" in line


def test_a_builder_that_gives_up_is_a_failure_in_one_line(refused, trt_graph, tmp_path):
    """With a megabyte of scratch memory no kernel is left."""
    line = refused(trt_graph("fp16", 18), "--workspace", "1", "--output", tmp_path / "model.plan", code=1)
    assert "could not build it" in line
    assert "--workspace 1 may be too little: allow more" in line
