"""Bundles run by OpenVINO, and the choice between what is installed."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from bundles import make_bundle

pytest.importorskip("openvino", reason="OpenVINO is not installed")

from deploy import assembly, runtime
from deploy.runtime import choice
from deploy.runtime.__main__ import main
from deploy.settings import ProcessSettings
from export.check_set import read_check_set, why_untelling
from export.manifest import CHECKPOINT, MANIFEST, MODEL, Manifest, sha256
from pat.base.errors import UserError

COUNT = 16


@pytest.fixture
def bundle(colour_bundle, tmp_path, monkeypatch):
    """The colours' bundle with a check set of eight people, twice each, that tells models apart."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    people = np.repeat(np.random.default_rng(1).integers(0, 256, (COUNT // 2, 8, 4, 3)), 2, axis=0)
    images = np.kron(people, np.ones((1, 32, 32, 1), int)) + np.random.default_rng(2).integers(
        -9, 9, (COUNT, 256, 128, 3)
    )
    images = images.clip(0, 255).astype(np.uint8)
    with runtime.open(colour_bundle, threads=1) as session:
        vectors = session.embed(images)
    manifest = Manifest.load(colour_bundle)
    content = manifest.file(MODEL).read_bytes()
    return make_bundle(tmp_path / "bundle", manifest, content, images, vectors, identities=np.arange(COUNT) // 2)


def test_openvino_says_what_onnxruntime_says(bundle):
    crops = np.random.default_rng(0).integers(0, 256, (5, 90, 40, 3), dtype=np.uint8)
    with (
        runtime.open(bundle, "openvino", threads=1, batch_size=2) as session,
        runtime.open(bundle, threads=1) as expected,
    ):
        np.testing.assert_allclose(session.embed(crops), expected.embed(crops), atol=1e-4)
        assert session.self_test() > 0.9999
        assert session.name.startswith("OpenVINO ")
        assert session.embed(crops[:0]).shape == (0, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "NPU.7"}, "OpenVINO finds no device NPU.7 here; it finds CPU"),
        ({"arithmetic": "f8"}, "choose one of f32, bf16, f16"),
        ({"batch_size": 0}, "must be at least 1"),
    ],
)
def test_what_is_not_here_is_refused(bundle, options, message):
    with pytest.raises(UserError, match=message):
        runtime.open(bundle, "openvino", **options)


def test_a_bundle_for_another_backend_is_opened_with_a_warning(bundle, tmp_path, caplog):
    manifest = dataclasses.replace(Manifest.load(bundle), backends=("tensorrt",))
    content = manifest.file(MODEL).read_bytes()
    make_bundle(tmp_path / "other", manifest, content, *read_check_set(manifest))
    with runtime.open(tmp_path / "other", threads=1):
        assert "was made for tensorrt; onnxruntime may run it slower than the fp32 bundle" in caplog.text


def test_the_fastest_within_the_gate_is_written_down_and_used(bundle, capsys, caplog):
    caplog.set_level("INFO")
    found, settings = assembly.chosen_way(bundle, ProcessSettings())
    assert (found, settings.runtime.backend) == (bundle, "onnxruntime")
    assert assembly.chosen_way(found, settings) == (found, settings)
    assert caplog.text.count("nothing is chosen") == 1
    assert main(["pick", str(bundle), "--seconds", "0.2", "--batch", "2", "--threads", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sum(" ms a crop; " in line and "centred cosine worst" in line for line in said) >= 2
    assert said[-1].startswith("chosen: bundle ")
    chosen = choice.read_choice(bundle)
    assert chosen is not None
    assert chosen.backend in ("onnxruntime", "openvino")
    found, settings = assembly.chosen_way(bundle, ProcessSettings())
    assert found == chosen.bundle == bundle.resolve()
    assert settings.runtime.backend == chosen.backend
    # Said on the command line, a backend is used whatever was chosen.
    own = ProcessSettings(runtime=dataclasses.replace(ProcessSettings().runtime, backend="onnxruntime"))
    assert assembly.chosen_way(bundle, own) == (bundle, own)


def test_a_choice_of_another_machine_or_for_another_export_does_not_count(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    choice.pick([bundle], batch=1, seconds=0.01, threads=1)
    path = choice.choice_file(bundle)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "machine": "another"}))
    assert choice.read_choice(bundle) is None
    path.write_text(json.dumps(values))
    assert choice.read_choice(bundle) is not None
    manifest = dataclasses.replace(Manifest.load(bundle), checks=("again",))
    make_bundle(bundle, manifest, manifest.file(MODEL).read_bytes(), *read_check_set(manifest))
    assert choice.read_choice(bundle) is None
    # Another bundle of the model was the fastest, and then this one became another model's.
    path.write_text(json.dumps({**values, "bundle": str(copied), "manifest": sha256(copied / MANIFEST)}))
    assert choice.read_choice(bundle) is None
    path.write_text(json.dumps({**json.loads(path.read_text()), "asked": sha256(bundle / MANIFEST)}))
    assert choice.read_choice(bundle) is not None


def test_a_check_set_that_an_untrained_model_could_pass_decides_nothing(bundle, colour_bundle, tmp_path, capsys):
    assert why_untelling(Manifest.load(bundle)) == ""
    assert main(["pick", str(colour_bundle)]) == 2  # four images of noise
    assert "it holds 4 images, too few" in capsys.readouterr().err
    manifest = Manifest.load(bundle)
    images, vectors = read_check_set(manifest)
    content = manifest.file(MODEL).read_bytes()
    flat = np.zeros_like(vectors) + vectors[0] + 0.01 * vectors
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    make_bundle(tmp_path / "flat", manifest, content, images, flat)
    assert main(["pick", str(tmp_path / "flat")]) == 2
    assert "nearly parallel" in capsys.readouterr().err
    strangers = np.arange(COUNT) % (COUNT // 2)
    make_bundle(tmp_path / "strangers", manifest, content, images, vectors, identities=strangers)
    assert main(["pick", str(tmp_path / "strangers")]) == 2
    assert "finds the same person first for 0% of the images" in capsys.readouterr().err


def test_what_misses_the_gate_is_not_chosen(bundle, capsys, tmp_path):
    manifest = Manifest.load(bundle)
    images, vectors = read_check_set(manifest)
    wrong = np.roll(vectors, 2, 0)
    content = manifest.file(MODEL).read_bytes()
    make_bundle(tmp_path / "wrong", manifest, content, images, wrong, identities=np.arange(COUNT) // 2)
    assert main(["pick", str(tmp_path / "wrong"), "--seconds", "0.01"]) == 1
    assert "misses the gate: worst centred cosine" in capsys.readouterr().err
    other = dataclasses.replace(manifest, weights={"sha256": "another"})
    make_bundle(tmp_path / "other", other, content, images, vectors, identities=np.arange(COUNT) // 2)
    assert main(["pick", str(bundle), str(tmp_path / "other")]) == 2
    assert "give bundles of one model" in capsys.readouterr().err


def test_a_bundle_made_of_the_model_file_in_another_holds_the_same_model(bundle, capsys, tmp_path):
    manifest = Manifest.load(bundle)
    images, vectors = read_check_set(manifest)
    content, people = manifest.file(MODEL).read_bytes(), np.arange(COUNT) // 2
    carried = {CHECKPOINT: b"weights"}
    make_bundle(tmp_path / "box", manifest, content, images, vectors, kernels=carried, identities=people)
    made_of_it = {"sha256": Manifest.load(tmp_path / "box").files[CHECKPOINT].sha256}
    other = dataclasses.replace(manifest, weights=made_of_it)
    make_bundle(tmp_path / "other", other, content, images, vectors, identities=people)
    assert main(["pick", str(tmp_path / "box"), str(tmp_path / "other"), "--seconds", "0.01"]) == 0
    assert "holds another model" not in capsys.readouterr().err
