"""export/build_trt.py with a real builder: TensorRT for RTX, which builds engines without a GPU."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from bundles import make_bundle

pytest.importorskip("tensorrt_rtx_bindings", reason="the RTX builder is not installed")

from export.build_trt import load, main
from export.check_set import read_check_set
from export.lowering.cast import cast_graph
from export.lowering.quantise import activations, layers, quantise_graph
from export.manifest import Manifest, Precision
from export.trace import to_graph
from export.trt.build import BuildOptions, build_plan, graph_precision, load_timing_cache, parse_onnx
from export.trt.flavour import load_flavour
from export.trt.inspect import engine_report, inspect, products_asked
from pat.base.errors import Failure
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.weights import save

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "export" / "build_trt.py"
KEYS = {
    "fused_attention", "precision", "layers", "profiles", "weights_bytes", "scratch_bytes", "tensorrt", "flavour",
    "device", "checked", "plan",
}  # fmt: skip


def built(path: Path, options: BuildOptions | None = None):
    """Build a graph; returns the flavour, the network's precision, the inspection and the builder's report."""
    flavour = load_flavour("tensorrt-rtx")
    options = options or BuildOptions()
    network = parse_onnx(flavour, path)
    plan = build_plan(flavour, network, options, lambda share, phase: None).plan
    said = flavour.messages.texts()
    asked, attentions = products_asked(flavour.trt, network.definition)
    inspection = inspect(flavour.trt, asked, attentions, said, len(options.profiles))
    return graph_precision(flavour.trt, network.definition), inspection, engine_report(flavour.trt, said), plan


@pytest.mark.parametrize(
    ("precision", "opset"),
    [*((name, 18) for name in ("fp32", "fp16", "bf16", "int8", "fp8")), ("fp32", 23), ("fp16", 23), ("int8", 23)],
)
def test_every_precision_builds_with_its_types_and_fuses_attention(trt_graph, precision, opset):
    options = BuildOptions(targets=(89,)) if precision == "fp8" else BuildOptions()
    found, inspection, report, _ = built(trt_graph(precision, opset), options)
    assert found == precision
    assert inspection.attentions == 2
    # fp32 has no fused kernel: the graph builds all the same, also with the Attention nodes of opset 23
    assert inspection.fused_attention == (0 if precision == "fp32" else 2)
    assert report.count("\nName: _gemm_mha_v2") + report.count("\nName: _gemv_mha") == inspection.fused_attention
    products = {product.onnx: product for product in inspection.products}
    weighted = layers(onnx.load(trt_graph("fp32", opset)))
    assert len(weighted) == 10  # patches; qkv, output, two of the MLP; the last block's queries stand alone
    for name in weighted[1:]:
        assert (products[name].asked, products[name].runs_in) == (precision, precision)
    inside = {products[name].runs_in for name in products if name not in weighted}
    assert inside <= {"fp16" if precision in ("int8", "fp8") else precision}
    assert inspection.weights_bytes > 1e6
    assert inspection.scratch_bytes > 0


def test_a_layer_that_falls_back_is_named(trt_graph):
    """The builder has no FP8 convolution: it dequantises first, and the engine's record says so."""
    _, inspection, _, _ = built(trt_graph("fp8", 18), BuildOptions(targets=(89,)))
    assert [(each.onnx, each.asked, each.runs_in) for each in inspection.fell_back()] == [
        ("patch_embed.proj", "fp8", "fp16")
    ]


def test_names_types_and_profiles_are_those_asked_for(trt_graph):
    options = BuildOptions(profiles=((1, 4, 16), (1, 1, 1)))
    _, inspection, report, _ = built(trt_graph("fp16", 18), options)
    assert [(each["name"], each["mode"], each["dtype"], each["shape"]) for each in inspection.tensors] == [
        ("crops", "input", "UInt8", "-1,256,128,3"),
        ("embeddings", "output", "Float", "-1,192"),
    ]
    for batch in (16, 4, 1):
        assert f"Shape: [{batch},256,128,3]" in report
    assert report.count("MinShape: ") == 2
    assert inspection.fused_attention == 2  # in each of the two profiles


def test_builds_are_identical(trt_graph):
    path = trt_graph("fp16", 18)
    assert built(path)[3] == built(path)[3]


def test_a_bundle_becomes_a_plan_with_its_facts_beside_it(trt_bundle, capsys):
    assert main([str(trt_bundle), "--precision", "fp16", "--max-batch", "16", "--device", "sm86,8.9"]) == 0
    facts = json.loads((trt_bundle / "engine.json").read_text())
    plan = (trt_bundle / "model.plan").read_bytes()
    assert set(facts) >= KEYS
    assert facts["plan"] == {"file": "model.plan", "bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest()}
    assert facts["source"]["sha256"] == hashlib.sha256((trt_bundle / "model.onnx").read_bytes()).hexdigest()
    assert (facts["precision"], facts["fused_attention"], facts["attention"]) == ("fp16", 2, 2)
    assert facts["profiles"] == [[1, 8, 16]]
    assert (facts["flavour"], facts["device"]) == ("tensorrt-rtx", "sm_86, sm_89")
    assert facts["input"] == {"name": "crops", "dtype": "UINT8", "shape": [-1, 256, 128, 3]}
    assert facts["output"] == {"name": "embeddings", "dtype": "FLOAT", "shape": [-1, 192]}
    out, err = capsys.readouterr()
    assert "2 of 2 fused" in out
    assert "tensorrt-rtx" in err.splitlines()[0]
    if not facts["checked"]["ran"]:  # a machine without a GPU
        assert "NOT run" in out
        assert facts["checked"]["passed"] is None


def test_an_fp32_bundle_is_converted_to_16_bits_once(trt_graph, trt_bundle, tmp_path, capsys):
    manifest = Manifest.load(trt_bundle)
    fp32 = dataclasses.replace(manifest, precision=Precision())
    inputs, embeddings = read_check_set(manifest)
    make_bundle(tmp_path / "fp32", fp32, trt_graph("fp32", 18).read_bytes(), inputs, embeddings)
    assert main([str(tmp_path / "fp32"), "--precision", "fp16"]) == 0
    assert "converting" in capsys.readouterr().err
    facts = json.loads((tmp_path / "fp32-fp16" / "engine.json").read_text())
    assert (facts["precision"], facts["fused_attention"]) == ("fp16", 2)
    assert main([str(tmp_path / "fp32"), "--precision", "fp16"]) == 0
    assert "converting" not in capsys.readouterr().err


def test_a_checkpoint_is_exported_first(tmp_path):
    config = ModelConfig(
        backbone="vit_tiny_patch16_224",
        image_size=(32, 16),
        patch_size=8,
        width=64,
        depth=2,
        heads=1,
        attention="sdpa",
    )
    save(PartAwareTransformer(config), tmp_path / "model.safetensors")
    assert main([str(tmp_path / "model.safetensors"), "--precision", "fp16"]) == 0
    facts = json.loads((tmp_path / "model-fp16" / "engine.json").read_text())
    assert (facts["precision"], facts["input"]["shape"]) == ("fp16", [-1, 32, 16, 3])
    assert (tmp_path / "model-fp16" / "model.plan").is_file()


def test_fp32_warns_that_attention_is_not_fused(trt_graph, tmp_path, capsys):
    assert main([str(trt_graph("fp32", 23)), "--output", str(tmp_path / "model.plan")]) == 0
    assert "2 of 2 attentions are not fused" in capsys.readouterr().err


def test_several_profiles_and_everything_said_on_the_command_line(trt_graph, tmp_path):
    log, plan = tmp_path / "log.txt", tmp_path / "large.plan"
    arguments = ["--profile", "1,1,1", "--profile", "2,8,64", "--optimisation-level", "2", "--workspace", "512"]
    source = str(trt_graph("fp16", 23))
    assert main([source, *arguments, "--log", str(log), "--output", str(plan)]) == 0
    facts = json.loads((tmp_path / "large.engine.json").read_text())
    assert facts["profiles"] == [[1, 1, 1], [2, 8, 64]]
    assert facts["options"] == {"workspace_mib": "512", "optimisation_level": "2"}
    text = log.read_text()
    assert "[V] Layers:" in text
    assert "_gemm_mha_v2" in text


@pytest.mark.filterwarnings("ignore:.*no-ops in TensorRT-RTX:DeprecationWarning")
def test_a_timing_cache_is_given_to_the_builder_and_kept(trt_graph, tmp_path):
    """TensorRT for RTX keeps no timings, but takes and gives caches through the same calls."""
    flavour = load_flavour("tensorrt-rtx")
    network = parse_onnx(flavour, trt_graph("fp16", 18))
    kept = build_plan(flavour, network, BuildOptions(timing_cache=tmp_path / "none"), lambda *_: None).timing_cache
    assert kept
    for content in (kept, b"not a cache" * 20):  # a damaged cache is replaced, not fatal
        path = tmp_path / "cache"
        path.write_bytes(content)
        config = network.builder.create_builder_config()
        load_timing_cache(config, path)
        assert config.get_timing_cache() is not None


BLOCKER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path = [Blocked(), *(each for each in sys.meta_path if "__editable__" not in repr(each))]
"""


def clone(folder: Path, *blocked: str) -> dict[str, str]:
    """A bare clone in `folder`, and an environment in which it alone is the project and `blocked` is missing."""
    for part in ("export", "deploy", "pat"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BLOCKER.format(blocked=("torch", "triton", "kernels", *blocked)))
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**ours, "PYTHONPATH": str(site)}


def test_it_works_from_a_bare_clone_with_numpy_and_tensorrt_alone(trt_bundle, tmp_path):
    blocked = ("timm", "onnx", "onnx_ir", "onnxruntime", "ml_dtypes", "PIL", "rich", "tyro")
    environment = clone(tmp_path / "clone", *blocked)
    command = [sys.executable, str(tmp_path / "clone/export/build_trt.py"), str(trt_bundle), "--log", "log.txt"]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "2 of 2 fused" in result.stdout
    assert (tmp_path / "clone/export/__pycache__").is_dir()  # these files ran, not installed ones
    assert (trt_bundle / "model.plan").is_file()


def test_a_checkpoint_without_torch_is_refused_in_one_line(tmp_path):
    environment = clone(tmp_path / "clone")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    command = [sys.executable, str(tmp_path / "clone/export/build_trt.py"), str(tmp_path / "model.safetensors")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert "needs PyTorch" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_without_tensorrt_it_says_what_to_install(trt_bundle, tmp_path):
    environment = clone(tmp_path / "clone", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
    command = [sys.executable, str(tmp_path / "clone/export/build_trt.py"), str(trt_bundle)]
    for flavour in ((), ("--flavour", "tensorrt"), ("--flavour", "tensorrt-rtx")):
        result = subprocess.run([*command, *flavour], env=environment, capture_output=True, text=True)
        assert result.returncode == 2, flavour
        (line,) = result.stderr.splitlines()
        assert "is not installed" in line, flavour
        assert "install" in line.split("is not installed")[1], flavour


def run_until_building(bundle: Path, **options) -> subprocess.Popen[str]:
    """Start the script and return when it is about to build."""
    command = [sys.executable, str(SCRIPT), str(bundle), "--profile", "1,1,1", "--profile", "1,8,64"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("building "):
            return process
    raise AssertionError("nothing was built")


def test_ctrl_c_stops_the_builder_and_leaves_the_old_plan(trt_bundle):
    (trt_bundle / "model.plan").write_bytes(b"the old plan")
    before = sorted(trt_bundle.iterdir())
    process = run_until_building(trt_bundle)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "build_trt.py: stopped"
    assert "Traceback" not in err
    assert not out
    assert sorted(trt_bundle.iterdir()) == before
    assert (trt_bundle / "model.plan").read_bytes() == b"the old plan"


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_leaves_the_old_plan(trt_bundle):
    """The kernel refuses to write past the limit in the midst of the plan, as it does on a full disk."""
    import resource

    (trt_bundle / "model.plan").write_bytes(b"the old plan")
    (trt_bundle / "engine.json").write_text("{}")
    before = sorted(trt_bundle.iterdir())
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(trt_bundle)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert result.returncode == 1
    assert "cannot write" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert sorted(trt_bundle.iterdir()) == before
    assert (trt_bundle / "model.plan").read_bytes() == b"the old plan"
    assert (trt_bundle / "engine.json").read_text() == "{}"


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23])
def test_vit_b_fuses_every_attention(tmp_path, opset):
    """The default model, ViT-B/16 on 256x128: 12 of 12 attentions in fp16, bf16 and INT8, nothing falls back."""
    fp32 = to_graph(PartAwareTransformer(ModelConfig()).eval(), opset=opset)
    path = tmp_path / "model.onnx"
    weighted = layers(fp32)
    quantised = quantise_graph(fp32, "int8", dict.fromkeys(activations(fp32).values(), 8.0), weighted)
    graphs = {
        "fp16": cast_graph(fp32, "fp16"),
        "bf16": cast_graph(fp32, "bf16"),
        "int8": cast_graph(quantised, "fp16"),
    }
    for precision, graph in graphs.items():
        path.write_bytes(graph.SerializeToString())
        assert path.stat().st_size < (100e6 if precision == "int8" else 175e6)  # no weight is stored twice
        found, inspection, _, plan = built(path)
        assert found == precision
        assert (inspection.attentions, inspection.fused_attention) == (12, 12)
        assert inspection.fell_back() == []
        # ONNX has no bf16 convolution before opset 22: the patch projection stays in fp32 there
        assert inspection.precisions()[precision] >= len(weighted) - (precision == "bf16" and opset < 22)
        assert len(plan) < 1.15 * path.stat().st_size


def test_a_plan_that_cannot_be_loaded_where_it_was_built_is_a_failure():
    """Bytes that are no plan are refused by the real runtime, with or without a GPU."""
    flavour = load_flavour("tensorrt-rtx")
    with pytest.raises(Failure, match="cannot be loaded"):
        load(flavour, b"no plan" * 100, BuildOptions())
    assert load(flavour, b"no plan" * 100, BuildOptions(targets=(89,))) is None
