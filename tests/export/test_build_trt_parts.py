"""The parts of build_trt.py that need no builder: check, progress, devices, reports, whole files."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from deploy import runtime
from deploy.runtime.session import NotFinite
from deploy.runtime.trt_library import Messages
from export.check_set import compare, read_check_set
from export.manifest import Manifest
from export.precisions import EIGHT
from export.trt.check import Checked, check_engine, judge, why_not_run
from export.trt.device import Gpu, check_precision, find_gpu, parse_targets
from export.trt.inspect import precision_of, read_layers
from export.trt.progress import PhaseTree, run_interruptibly
from export.trt.report import publish
from pat.base.errors import Failure, UserError
from pat.base.files import write_files


def vectors(count: int = 8) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_the_same_embeddings_pass():
    checked = judge(compare(vectors(), vectors()), EIGHT)
    assert checked.passed
    assert (checked.measured["images"], checked.measured["same_first"]) == (8, 1.0)
    assert checked.measured["centred_worst"] == pytest.approx(1)
    assert checked.facts()["gate"]["centred_worst"] == EIGHT.centred_worst


def test_one_wrong_image_among_many_fails():
    found = vectors()
    found[3] = found[4]
    checked = judge(compare(vectors(), found), EIGHT)
    assert not checked.passed
    assert "FAILED on the check set: worst centred cosine" in checked.sentence()


def test_numbers_that_are_none_fail():
    found = vectors()
    found[0, 0] = np.nan
    checked = judge(compare(vectors(), found), EIGHT)
    assert not checked.passed
    assert checked.measured["worst"] == -1


def test_it_says_why_the_engine_was_not_run():
    assert "no GPU" in why_not_run(None, None, ())
    assert "sm_120" in why_not_run(None, Gpu("RTX 4090", 89), (120,))
    assert "bare ONNX" in why_not_run(None, Gpu("RTX 4090", 89), (89,))


def test_a_failed_engine_is_written_only_when_accepted_and_under_another_name(tmp_path):
    failed = Checked(
        ran=True, passed=False, why="worst centred cosine 0.1, 0.95 needed"
    )
    with pytest.raises(Failure, match="nothing was written"):
        publish(tmp_path / "model.plan", b"plan", {}, failed, accept=False)
    assert not list(tmp_path.iterdir())
    publish(tmp_path / "model.plan", b"plan", {}, failed, accept=True)
    assert {path.name for path in tmp_path.iterdir()} == {"model.rejected.plan", "model.rejected.engine.json"}


def test_a_log_on_a_full_disk_stops_nothing_and_is_told():
    messages = Messages()
    messages.file = open("/dev/full", "w")  # noqa: SIM115 - close_file closes it
    for _ in range(3):
        messages.add(4, "x" * 20_000)
    assert len(messages.texts()) == 3
    assert messages.close_file() == "No space left on device"
    assert messages.close_file() == ""


@pytest.mark.parametrize(
    ("error", "ran"), [(UserError("PyCUDA finds no driver"), False), (NotFinite("NaN", np.zeros(1)), True)]
)
def test_only_a_wrong_answer_is_a_failed_engine(trt_bundle, monkeypatch, error, ran):
    """A runtime that cannot start on this machine says nothing of the engine."""

    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(runtime, "open", refuse)
    checked = check_engine(Manifest.load(trt_bundle), b"plan", {})
    assert (checked.ran, checked.why) == (ran, str(error))
    assert checked.passed is (False if ran else None)


def test_an_engine_is_wrong_that_answers_wrongly_in_one_of_its_batches(trt_bundle, monkeypatch):
    """Each profile has kernels of its own, at its smallest, usual and largest batch."""
    manifest = Manifest.load(trt_bundle)
    images, expected = read_check_set(manifest)

    def passes(wrong: int) -> bool:
        def embed(crops: np.ndarray) -> np.ndarray:
            found = np.stack([expected[(images == crop).all((1, 2, 3))][0] for crop in crops])
            return -found if len(crops) == wrong else found

        engine = contextlib.nullcontext(SimpleNamespace(embed=embed))
        monkeypatch.setattr(runtime, "open", lambda *arguments, **options: engine)
        return check_engine(manifest, b"plan", {"profiles": [[1, 2, 2], [2, 3, 16]]}).passed

    assert [batch for batch in range(6) if not passes(batch)] == [1, 2, 3, 4]  # 16, as there are four images


def test_files_appear_together_or_not_at_all(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(Failure, match="what was there is untouched"):
        write_files({tmp_path / "a": b"new", tmp_path / "a" / "b": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
    write_files({tmp_path / "a": b"new", tmp_path / "b": b"more"})
    assert (tmp_path / "a").read_bytes() == b"new"


def test_progress_never_goes_back_and_ends_at_the_end():
    """Phases in phases, as the builder opens them, with steps that come late and phases that are cut short."""
    tree, shares, draw = PhaseTree(), [], random.Random(0)
    tree.start("build", None, 4)
    for step in range(4):
        tree.start("part", "build", 5)
        for inner in range(draw.randint(1, 5)):
            tree.start("detail", "part", 3)
            tree.step("detail", 1)
            shares.append(tree.share("detail"))
            tree.finish("detail")
            tree.step("part", inner)
            shares.append(tree.share("part"))
        tree.finish("part")
        tree.step("build", step)
        shares.append(tree.share("build"))
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.25
    assert shares[-1] == 1


def test_work_in_a_thread_gives_its_result_or_its_error():
    assert run_interruptibly(lambda: 42, threading.Event()) == 42
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda: 1 / 0, threading.Event())
    stopped = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(stopped.set, stopped)


def test_no_driver_is_no_gpu():
    assert find_gpu("libno-such-driver.so") is None


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return FAIL; }
int cuDeviceGet(int *device, int ordinal) { *device = 5; return ordinal == 0 ? 0 : 1; }
int cuDeviceGetName(char *name, int room, int device) { strncpy(name, "Orin", room); return device == 5 ? 0 : 1; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return device == 5 ? 0 : 1;
}
"""


@pytest.mark.skipif(not shutil.which("gcc") or sys.platform == "win32", reason="no C compiler")
@pytest.mark.parametrize("fail", [0, 100], ids=["with a device", "CUDA_ERROR_NO_DEVICE"])
def test_the_driver_is_asked_as_cuda_h_declares_it(tmp_path, fail):
    source, library = tmp_path / "driver.c", tmp_path / f"libdriver{fail}.so"
    source.write_text(DRIVER)
    subprocess.run(["gcc", "-shared", "-fPIC", f"-DFAIL={fail}", "-o", library, source], check=True)
    gpu = find_gpu(str(library))
    assert gpu == (None if fail else Gpu("Orin", 87))
    assert fail or str(gpu) == "Orin (sm_87)"


def test_targets_are_refused_where_the_library_builds_for_its_own_gpu():
    plain = SimpleNamespace(IBuilderConfig=type("IBuilderConfig", (), {}))
    assert parse_targets(plain, None) == []
    with pytest.raises(UserError, match="run it on the target"):
        parse_targets(plain, "sm86")


def test_a_precision_is_compared_with_the_gpu_that_is_here():
    check_precision("fp8", [], Gpu("L4", 89))
    check_precision("fp8", [], None)
    with pytest.raises(UserError, match="sm_87"):
        check_precision("fp8", [], Gpu("Orin", 87))
    with pytest.raises(UserError, match="use fp16"):
        check_precision("bf16", [], Gpu("T4", 75))


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("Half", "fp16"), ("HALF", "fp16"), ("Float", "fp32"), ("Int8", "int8"), ("FP8", "fp8"),
        ("BFloat16", "bf16"), ("BF16", "bf16"),
        ("Row major linear FP16 format", "fp16"), ("Row major linear FP32", "fp32"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("UInt8", None), ("Int32", None), ("Int64", None), ("Bool", None),
    ],
)  # fmt: skip
def test_types_as_tensorrt_writes_them(written, ours):
    assert precision_of(written) == ours


def test_reports_of_older_versions_are_read_too():
    """They say Format/Datatype, and name the ONNX nodes in the layer's own name outside of Myelin."""
    report = (
        "Layers:\n"
        "Name: stem + relu, LayerType: CaskConvolution, Inputs: [ { Name: x, Location: Device, Dimensions: "
        "[-1,3,8,8], Format/Datatype: Row major linear FP16 format }], Outputs: [ { Name: y, Location: Device, "
        "Dimensions: [-1,4,8,8], Format/Datatype: Row major linear FP32 }], ParameterType: Convolution\n"
        "Name: _gemm_mha_v2_myl0_4, LayerType: kgen, Inputs: [ { Name: q, Dimensions: [12,132,64], "
        "Format/Datatype: Half }], Outputs: [ { Name: o, Dimensions: [12,132,64], Format/Datatype: Half }], "
        "TacticName: t, StreamId: 0, Metadata: [ONNX Layer: a]\x1f[ONNX Layer: b]\n"
        "Bindings:\nx\ny\n"
    )
    stem, attention = read_layers(report)
    assert (stem.kind, stem.precision, stem.onnx, stem.fused_attention) == (
        "CaskConvolution", "fp16", ("stem", "relu"), False,
    )  # fmt: skip
    assert (attention.precision, attention.onnx, attention.fused_attention) == ("fp16", ("a", "b"), True)


def test_what_engine_json_says_of_the_check_is_plain():
    assert set(Checked(ran=False, why="no GPU").facts()) == {each.name for each in dataclasses.fields(Checked)}
