"""deploy.runtime with TensorRT: everything but GPU and library, for which others stand in (fake_gpu.py)."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import bundles as made
from bundles import noise
from deploy import runtime
from deploy.runtime import tensorrt, trt_library
from deploy.runtime.crops import cut
from export.check_set import compare
from export.manifest import MODEL, Manifest
from export.trt.check import check_engine
from export.verify import embed_both, opened
from fake_gpu import Machine, interpreted_kernel
from fake_tensorrt import TensorRT, write_plan
from pat.base.errors import Failure, UserError

pytest.importorskip("triton")
NOTHING = Machine().alive


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for each type of input, with a kernel for sm_87."""
    folder = tmp_path_factory.mktemp("bundles")
    bare = {dtype: made.projection(folder / f"bare-{dtype}", dtype) for dtype in ("uint8", "float32")}
    kernels = made.compiled_kernels(tmp_path_factory.mktemp("kernels"), list(bare.values()))
    found = {}
    for dtype, short in (("uint8", "_u8."), ("float32", "_fp32.")):
        own = {name: content for name, content in kernels.items() if short in name}
        found[dtype] = made.projection(folder / dtype, dtype, own)
    return found


@pytest.fixture(params=["uint8"])
def bundle(request, bundles, tmp_path):
    """A copy of a bundle, with a plan for batches of 1 to 4."""
    shutil.copytree(bundles[request.param], tmp_path / "bundle")
    write_plan(tmp_path / "bundle", [[1, 2, 4]])
    return tmp_path / "bundle"


@pytest.fixture
def machine(monkeypatch):
    """A computer with a GPU, without the hardware."""
    made = Machine()
    monkeypatch.setattr(tensorrt, "Gpu", made)
    return made


@pytest.fixture
def trt(machine, monkeypatch):
    made = TensorRT(machine)
    monkeypatch.setattr(tensorrt, "load_library", lambda name: trt_library.Library(name, made))
    return made


@pytest.fixture
def launches(bundle, machine):
    """The arguments of every launch of the kernel, which runs in Triton's interpreter."""
    found: list[dict] = []
    (facts,) = bundle.glob("crop_resize_*.sm_87.json")
    interpreted_kernel(json.loads(facts.read_text()), machine, found)
    return found


BOXES = np.array(
    [[3.3, 5.7, 28.2, 40.4], [30, 21, 60, 46], [10, 10, 12, 13.5], [20, 10, 36, 42], [59, 45, 60, 46]], np.float32
)
FRAME = noise(46, 60, 3)


def names(said: list[tuple[str, object]], kind: str) -> list[object]:
    return [value for name, value in said if name == kind]


def test_crops_are_embedded_in_batches_like_onnx_runtime_does_it(bundle, trt, machine):
    crops = noise(11, 32, 16, 3)
    with runtime.open(bundle, "tensorrt") as session, runtime.open(bundle, threads=1) as expected:
        assert session.name == "TensorRT 10.3, Double sm_87, crops on GPU"
        for count in (11, 4, 1, 0, 3):
            vectors = session.embed(crops[:count])
            np.testing.assert_allclose(vectors, expected.embed(crops[:count]), atol=1e-6)
    assert names(trt.said, "batch") == [4, 4, 3, 4, 1, 3]  # split at the maximum, never padded
    assert machine.alive == NOTHING


def test_profiles_take_the_batches_that_fit_them(bundle, trt):
    write_plan(bundle, [[1, 1, 1], [4, 8, 16]])
    crops = noise(20, 32, 16, 3)
    with runtime.open(bundle, "tensorrt") as session, runtime.open(bundle, threads=1) as expected:
        for count in (1, 2, 20):
            np.testing.assert_allclose(session.embed(crops[:count]), expected.embed(crops[:count]), atol=1e-6)
    # One profile is of 1 alone and the next begins at 4: a batch of 2 needs two rows that nobody reads.
    assert names(trt.said, "batch") == [1, 4, 16, 4]


@pytest.mark.parametrize("bundle", ["uint8", "float32"], indirect=True)
def test_boxes_are_cut_on_the_gpu_as_pillow_does_it(bundle, trt, machine, launches):
    pitched = noise(70, 100, 3, seed=1)[:64, :90]  # rows with padding
    mirrored = noise(46, 60, 3, seed=2)[:, ::-1]  # no rows to speak of
    frames, boxes = [FRAME, FRAME, pitched, mirrored], [BOXES, BOXES[:0], BOXES[:3], BOXES[1:2]]
    with runtime.open(bundle, "tensorrt") as session:
        vectors = session.embed_boxes(frames, boxes)
        again = session.embed_boxes(frames, boxes)
        wide = session._rows.dtype
    with runtime.open(bundle, "tensorrt", preprocess="cpu") as session:
        expected = session.embed_boxes(frames, boxes)
    with runtime.open(bundle, threads=1) as session:
        np.testing.assert_allclose(session.embed_boxes(frames, boxes), expected, atol=1e-6)
    assert vectors.shape == (9, 8)
    assert (vectors * expected).sum(1).min() > 0.9995
    np.testing.assert_array_equal(again, vectors)  # nothing is left of the batch before
    # Five boxes of the first frame fill a batch of four and begin the next.
    assert [len(each) for each in trt.fed] == [4, 4, 1] * 3
    on_gpu, on_cpu = np.concatenate(trt.fed[:3]), np.concatenate(trt.fed[6:])
    assert on_gpu.dtype == wide
    assert np.abs(on_gpu.astype(float) - on_cpu).max() <= (1 if wide == np.uint8 else 1.2)
    cuts = [cut(frame, box, 16, 32) for frame, some in zip(frames, boxes, strict=True) for box in some.tolist()]
    rows = np.stack(cuts) if wide == np.uint8 else np.stack(cuts).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(on_cpu, rows)
    assert [each["stride_y"] for each in launches[:4]] == [180, 180, 300, 180]
    assert machine.alive == NOTHING


def test_memory_is_allocated_once_but_for_larger_frames(bundle, trt, machine, launches):
    with runtime.open(bundle, "tensorrt") as session:
        fixed = dict(machine.alive)
        for _ in range(3):
            session.embed_boxes([FRAME], [BOXES[:1]])
            session.embed(noise(9, 32, 16, 3))
        grown = dict(machine.alive)
        session.embed_boxes([noise(80, 90, 3), FRAME], [BOXES[:1], BOXES[:1]])
        assert machine.alive == grown
    assert fixed | {"device": fixed["device"] + 1} == grown  # the frame
    assert (fixed["device"], fixed["host"], fixed["gpus"], fixed["entered"]) == (3, 3, 1, 0)


def test_a_thousand_calls_leave_nothing_behind(bundle, trt, machine):
    crops = noise(1, 32, 16, 3)
    with runtime.open(bundle, "tensorrt") as session:
        session.embed_boxes([FRAME], [BOXES[:1]])
        before = dict(machine.alive)
        for _ in range(500):
            session.embed(crops)
            session.embed_boxes([FRAME], [BOXES[:1]])
        assert machine.alive == before
        assert len(trt_library.logger_of(trt).messages.texts()) == 0
        trt.fed.clear()
    assert machine.alive == NOTHING


def test_all_profiles_share_the_memory_of_the_hungriest(bundle, trt):
    write_plan(bundle, [[1, 1, 1], [2, 4, 8]])
    with runtime.open(bundle, "tensorrt"):
        (first, size), second = trt.scratch
        assert first > 0
        assert (first, size) == second == (first, 4096)


def test_the_self_test_goes_the_way_of_the_camera(bundle, trt, launches):
    with runtime.open(bundle, "tensorrt") as session:
        assert session.self_test() > 0.999999
        assert len(launches) == 4
        trt.spoil = "-3"
        with pytest.raises(Failure, match=r"TensorRT 10.3, Double .* fails the self test on the 4 images"):
            session.self_test()
    np.testing.assert_array_equal(trt.fed[0], np.load(bundle / "check_set.npz")["inputs"])  # not resampled


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_numbers_that_are_not_finite_are_a_failure(bundle, trt, number):
    with runtime.open(bundle, "tensorrt") as session:
        trt.spoil = number
        with pytest.raises(Failure, match="the embedding of crop 0 of 3 is not finite"):
            session.embed(noise(3, 32, 16, 3))


def test_everything_is_freed_before_the_context(bundle, trt, machine):
    with runtime.open(bundle, "tensorrt") as session:
        session.embed(noise(2, 32, 16, 3))
    session.close()
    assert [each for each in trt.said if each[0] != "batch"] == [
        ("freed Context", 1), ("freed Engine", 1), ("freed Runtime", 1),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="closed"):
        session.embed(noise(1, 32, 16, 3))


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (
            "plan",
            r"refuses .*model.plan: The engine plan file is not compatible .*; run python export/build_trt.py",
        ),
        ("context", "gives no execution context for profile 0"),
        ("profile", "gives no execution context for profile 0"),
        ("address", "does not take an address for crops"),
    ],
)
def test_an_engine_that_does_not_open_leaves_nothing_behind(bundle, trt, machine, refuse, message):
    trt.refuse = refuse
    with pytest.raises((UserError, Failure), match=message) as caught:
        runtime.open(bundle, "tensorrt")
    assert machine.alive == NOTHING  # while the exception, and all it remembers, is still here
    assert all(contexts == 1 for name, contexts in trt.said if name.startswith("freed"))
    assert names(trt.said, "freed Runtime")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("allocation", range(1, 7))
def test_memory_that_runs_out_half_way_leaves_nothing_behind(bundle, trt, machine, allocation):
    """Rows, vectors and boxes on the host; input, output and boxes on the device."""
    machine.fail_allocation = allocation
    with pytest.raises(Failure, match=r"Double \(sm_87\): .*out of memory"):
        runtime.open(bundle, "tensorrt")
    assert machine.alive == NOTHING
    assert names(trt.said, "freed Runtime") == [1]


def test_a_batch_that_does_not_run_is_a_failure_in_tensorrts_words(bundle, trt, machine):
    with runtime.open(bundle, "tensorrt") as session:
        trt.refuse = "execute"
        with pytest.raises(Failure, match=r"model.plan does not run: .*illegal memory access"):
            session.embed(noise(1, 32, 16, 3))
        trt.refuse = "shape"
        with pytest.raises(Failure, match="does not take a batch of 1: it gave no reason"):
            session.embed(noise(1, 32, 16, 3))
        trt.refuse = ""
        assert session.embed(noise(1, 32, 16, 3)).shape == (1, 8)
    assert machine.alive == NOTHING


def test_a_session_belongs_to_its_thread(bundle, trt, machine):
    caught: list[str] = []

    def other(call, *arguments):
        try:
            call(*arguments)
        except ValueError as error:
            caught.append(str(error))

    with runtime.open(bundle, "tensorrt") as session:
        uses = (session.embed, noise(1, 32, 16, 3)), (session.embed_boxes, [FRAME], [BOXES]), (session.close,)
        for use in uses:
            thread = threading.Thread(target=other, args=use)
            thread.start()
            thread.join()
        assert session.embed(noise(1, 32, 16, 3)).shape == (1, 8)
    assert caught == ["the session belongs to the thread that opened it; open one in this thread"] * 3


def test_an_unknown_option_is_refused(bundle, trt, machine):
    with pytest.raises(UserError, match="preprocess is 'auto'; choose gpu or cpu"):
        runtime.open(bundle, "tensorrt", preprocess="auto")


def change(bundle: Path, **changes: object) -> None:
    write_plan(bundle, [[1, 2, 4]], **changes)


def tensors(**changes: list) -> dict[str, dict]:
    """The tensors of the engine, one of them changed or another beside them."""
    usual = {"crops": ["INPUT", "UINT8", [-1, 32, 16, 3]], "embeddings": ["OUTPUT", "FLOAT", [-1, 8]]}
    return {"tensors": {**usual, **changes}}


ANOTHER_NAME = {"tensors": {"x": ["INPUT", "UINT8", [-1, 32, 16, 3]], "embeddings": ["OUTPUT", "FLOAT", [-1, 8]]}}
REFUSED = {
    "no plan": (
        lambda b: (b / "model.plan").unlink(),
        "model.plan does not exist; run python export/build_trt.py",
    ),
    "no facts": (
        lambda b: (b / "engine.json").unlink(),
        "engine.json is missing, so nobody knows what the plan is",
    ),
    "no JSON": (lambda b: (b / "engine.json").write_text("{"), "engine.json does not parse"),
    "other JSON": (lambda b: (b / "engine.json").write_text("{}"), "does not have the format 'pat-reid-engine/1'"),
    "facts gone": (lambda b: change(b, tensorrt=None), "says None for tensorrt"),
    "damaged": (
        lambda b: (b / "model.plan").write_bytes(b"x" + (b / "model.plan").read_bytes()[1:]),
        r"is not the plan that engine.json describes \(SHA-256 differs\)",
    ),
    "another model": (
        lambda b: change(b, source={"sha256": "0"}),
        "was built from another model than .*model.onnx",
    ),
    "another flavour": (
        lambda b: change(b, flavour="tensorrt-rtx"),
        "was built with tensorrt-rtx 10.3.0, this is tensorrt 10.3.0; run python",
    ),
    "another version": (
        lambda b: change(b, tensorrt="10.16.1"),
        "was built with tensorrt 10.16.1, this is tensorrt 10.3.0; run python .*build_trt.py .* on this device",
    ),
    "another GPU": (
        lambda b: change(b, device="NVIDIA H100 (sm_90)"),
        r"was built for NVIDIA H100 \(sm_90\), this is Double \(sm_87\); run python",
    ),
    "another name": (
        lambda b: change(b, device="Orin (sm_87)"),
        r"built for Orin \(sm_87\), this is Double \(sm_87\)",
    ),
    "another capability": (
        lambda b: change(b, device="A100 (sm_80)", options={"hardware_compatible": "SAME_COMPUTE_CAPABILITY"}),
        r"built for A100 \(sm_80\)",
    ),
    "another size": (
        lambda b: change(b, **tensors(crops=["INPUT", "UINT8", [-1, 64, 32, 3]])),
        r"the shape of the input is \[64, 32, 3\], the manifest",
    ),
    "a tensor more": (
        lambda b: change(b, **tensors(more=["OUTPUT", "FLOAT", [-1]])),
        "has the tensors crops, embeddings, more, expected two",
    ),
    "another name of the input": (
        lambda b: change(b, **ANOTHER_NAME),
        "the name of the input is x, the manifest says crops",
    ),
    "half embeddings": (
        lambda b: change(b, **tensors(embeddings=["OUTPUT", "HALF", [-1, 8]])),
        "the dtype of the output is HALF, the manifest says FLOAT",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_engine_that_does_not_belong_here_is_refused_with_the_reason(case, bundle, trt, machine):
    spoil, message = REFUSED[case]
    spoil(bundle)
    with pytest.raises(UserError, match=message) as caught:
        runtime.open(bundle, "tensorrt", flavour="tensorrt")
    assert "\n" not in str(caught.value)
    assert machine.alive == NOTHING


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "A10 (sm_86)", "options": {"hardware_compatible": "AMPERE_PLUS"}},
        {"device": "Orin NX (sm_87)", "options": {"hardware_compatible": "SAME_COMPUTE_CAPABILITY"}},
        {"flavour": "tensorrt-rtx", "device": "sm_86, sm_87"},
        {"flavour": "tensorrt-rtx", "device": "the builder's default targets"},
    ],
)
def test_plans_that_were_built_to_travel_are_let_in(changes, bundle, trt):
    change(bundle, **changes)
    with runtime.open(bundle, "tensorrt") as session:
        assert session.embed(noise(1, 32, 16, 3)).shape == (1, 8)


def test_kernels_of_the_bundle_are_checked(bundles, bundle, trt, machine):
    (cubin,) = bundle.glob("*.cubin")
    cubin.write_bytes(cubin.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"SHA-256 differs"):
        runtime.open(bundle, "tensorrt")
    with runtime.open(bundle, "tensorrt", preprocess="cpu") as session:
        assert session.name.endswith("crops on CPU")
        assert len(session.embed_boxes([FRAME], [BOXES])) == 5
    bare = made.projection(bundle.parent / "bare")
    change(bare)
    with pytest.raises(UserError, match=r"has no kernel crop_resize_rgb_u8.sm_87 .*--kernels sm_87, or .*'cpu'"):
        runtime.open(bare, "tensorrt")
    (facts,) = bundles["uint8"].glob("crop_resize_*.json")
    wrong = json.loads(facts.read_text())
    wrong["cubin_sha256"] = hashlib.sha256(b"text").hexdigest()
    files = {facts.name: json.dumps(wrong).encode(), facts.with_suffix(".cubin").name: b"text"}
    text = made.projection(bundle.parent / "text", "uint8", files)
    change(text)
    with pytest.raises(UserError, match=r"the driver does not load the kernel crop_resize_kernel"):
        runtime.open(text, "tensorrt")
    wrong = json.loads(facts.read_text())
    wrong["tile"]["OUT_WIDTH"] = 24
    wrong["arguments"].append({"name": "sharpness", "type": "fp32"})
    files = {
        facts.name: json.dumps(wrong).encode(),
        facts.with_suffix(".cubin").name: facts.with_suffix(".cubin").read_bytes(),
    }
    other = made.projection(bundle.parent / "other", "uint8", files)
    change(other)
    with pytest.raises(UserError, match=r"does not fit this bundle \(OUT_WIDTH, sharpness\)"):
        runtime.open(other, "tensorrt")
    assert machine.alive == NOTHING


def test_the_check_after_a_build_runs_the_engine_here(bundle, trt, machine):
    """What build_trt.py does with a plan before it publishes it."""
    facts, plan = write_plan(bundle, [[1, 2, 4]]), (bundle / "model.plan").read_bytes()
    manifest = Manifest.load(bundle)
    checked = check_engine(manifest, plan, facts)
    assert (checked.ran, checked.passed) == (True, True)
    assert (checked.measured["images"], checked.measured["same_first"]) == (4, 1.0)
    trt.spoil = "-3"
    assert "worst centred cosine " in check_engine(manifest, plan, facts).why
    trt.spoil = "nan"
    assert "not finite" in check_engine(manifest, plan, facts).why
    trt.spoil, trt.spoiled_batch = "-3", 1  # wrong in one of the sizes alone
    assert "worst centred cosine " in check_engine(manifest, plan, facts).why
    failed = check_engine(manifest, plan, {**facts, "device": "NVIDIA H100 (sm_90)"})
    assert (failed.ran, failed.passed) == (False, None)  # nobody has seen a wrong answer
    assert "was built for NVIDIA H100 (sm_90)" in failed.why
    assert machine.alive == NOTHING


def test_an_engine_is_compared_with_its_bundle_by_verify(bundle, trt):
    change(bundle)
    (bundle / "model.plan").rename(bundle / "large.plan")  # not the name that a bundle's plan has by itself
    (bundle / "engine.json").rename(bundle / "large.engine.json")
    with opened(bundle) as first, opened(bundle / "large.plan") as second:
        assert compare(*embed_both(first, second, noise(5, 32, 16, 3))).worst > 0.999999
    assert names(trt.said, "batch") == [4, 1]


def test_a_plan_that_was_not_checked_is_a_warning(bundle, trt, caplog):
    change(bundle, checked={"ran": False, "passed": None})
    with runtime.open(bundle, "tensorrt"):
        assert "was not checked when it was built" in caplog.text


def test_the_manifest_lists_the_kernels(bundle):
    files = Manifest.load(bundle).files
    assert sorted(files) == [
        "check_set.npz", "crop_resize_rgb_u8.sm_87.cubin", "crop_resize_rgb_u8.sm_87.json", MODEL,
    ]  # fmt: skip
    assert files["crop_resize_rgb_u8.sm_87.cubin"].bytes < 40_000
