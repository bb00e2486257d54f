"""The manifest and the bundle folder: round trip, tampering, and what is written when the disk refuses."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import bundles
from export import bundle
from export.bundle import write_bundle
from export.check_set import read_check_set
from export.manifest import CHECK_SET, MANIFEST, MODEL, Manifest, Precision, sealed
from export.precisions import EIGHT
from fresh import python
from pat.base.errors import Failure, UserError

ROOT = Path(__file__).resolve().parents[2]
IMAGES = np.arange(2 * 8 * 4 * 3, dtype=np.uint8).reshape(2, 8, 4, 3)
VECTORS = np.eye(2, 5, dtype=np.float32)


def described(**changes) -> Manifest:
    values = dict(
        model={"backbone": "vit_tiny_patch16_224", "parts": 3, "bands": [[0.0, 0.5]]},
        training={"source": ["market1501"]},
        weights={"file": "model.safetensors"},
        tools={"onnx": "1.20"},
        precision=Precision(
            "int8", tool="someone", excluded=("blocks.0.mlp.fc2",), gate=EIGHT, share=0.93,
            measured={"check set": {"centred_worst": 0.995}},
            sensitivity=({"layer": "blocks.0.mlp.fc2", "cosine": 0.98},),
        ),
        checks=("compared",),
    )  # fmt: skip
    return bundles.described((8, 4), 5, **values | changes)


@pytest.fixture
def folder(tmp_path):
    """A bundle whose model is not looked at."""
    write_bundle(tmp_path / "bundle", described(), b"the model", IMAGES, VECTORS)
    return tmp_path / "bundle"


def edit(folder: Path, **values) -> None:
    """Change a manifest as a newer writer would: with its hash."""
    path = folder / MANIFEST
    before = json.loads(path.read_text())
    del before["sha256"]
    path.write_text(sealed({**before, **values}))


def test_what_is_written_is_read_back(folder):
    manifest = Manifest.load(folder)
    assert dataclasses.replace(manifest, files={}) == described()
    assert sorted(path.name for path in folder.iterdir()) == [CHECK_SET, MANIFEST, MODEL]
    assert manifest.file(MODEL).read_bytes() == b"the model"
    assert Manifest.load(folder / MANIFEST) == manifest
    images, vectors = read_check_set(manifest)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(vectors, VECTORS)


def test_facts_of_a_newer_writer_are_ignored(folder):
    edit(folder, colour_of_the_box="blue")
    assert Manifest.load(folder).opset == 18


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pat-reid-bundle/9"}, "has the format 'pat-reid-bundle/9', not 'pat-reid-bundle/2'"),
        ({"opset": "18"}, "opset = '18' is not a whole number"),
        ({"opset": True}, "opset = True is not a whole number"),
        ({"input": {"name": "crops"}}, "input.dtype, input.layout, input.height, input.width is missing"),
        ({"input": [1]}, "input must be a table"),
        ({"precision": {"name": "int4"}}, "'int4' is not one of fp32, fp16"),
        ({"files": {"../model.onnx": {"sha256": "", "bytes": 0}}}, "is not the name of a file in the bundle"),
        ({"files": {"model.onnx": {"sha256": ""}}}, "files.model.onnx.bytes is missing"),
    ],
)
def test_a_manifest_that_does_not_fit_is_named(folder, change, message):
    edit(folder, **change)
    with pytest.raises(UserError, match=MANIFEST) as caught:
        Manifest.load(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [('"centred_worst": 0.95', '"centred_worst": 0.095'), ('"sha256"', '"sha1"'), ("0.93", "0.94")],
)
def test_an_edited_manifest_is_refused(folder, before, after):
    """A gate that is lowered by hand would let everything pass."""
    text = (folder / MANIFEST).read_text()
    assert before in text
    (folder / MANIFEST).write_text(after.join(text.rsplit(before, 1)))
    with pytest.raises(UserError, match=r"manifest\.json was edited after it was written"):
        Manifest.load(folder)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        Manifest.load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        Manifest.load(tmp_path / "nowhere")
    for text in ("", "{", "[]", '"words"'):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(UserError, match="export the bundle again"):
            Manifest.load(tmp_path)


def test_a_changed_truncated_or_missing_file_is_noticed(folder):
    manifest = Manifest.load(folder)
    (folder / MODEL).write_bytes(b"The model")
    with pytest.raises(UserError, match="SHA-256 differs"):
        manifest.file(MODEL)
    (folder / MODEL).write_bytes(b"the mod")
    with pytest.raises(UserError, match="has 7 bytes, the manifest says 9"):
        manifest.file(MODEL)
    (folder / MODEL).unlink()
    with pytest.raises(UserError, match="is missing"):
        manifest.file(MODEL)
    with pytest.raises(UserError, match=r"lists no file model\.plan"):
        manifest.file("model.plan")


def test_a_check_set_of_another_shape_is_refused(tmp_path):
    manifest = write_bundle(tmp_path / "b", described(), b"x", IMAGES[:, :7], VECTORS)
    with pytest.raises(UserError, match="does not describe"):
        read_check_set(manifest)


def test_a_bundle_replaces_a_bundle_and_nothing_else(folder, tmp_path):
    write_bundle(folder, described(opset=23), b"another", IMAGES, VECTORS)
    assert Manifest.load(folder).opset == 23
    assert Manifest.load(folder).file(MODEL).read_bytes() == b"another"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(UserError, match="holds files and is no bundle"):
        write_bundle(tmp_path / "letters", described(), b"x", IMAGES, VECTORS)
    with pytest.raises(UserError, match="is a file"):
        write_bundle(tmp_path / "letters" / "mother.txt", described(), b"x", IMAGES, VECTORS)
    assert (tmp_path / "letters" / "mother.txt").read_text() == "dear"


@pytest.mark.parametrize("where", ["model", "check set", "rename"])
def test_a_full_disk_leaves_the_old_bundle(folder, tmp_path, monkeypatch, where):
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*args, **kwargs):
        raise full

    if where == "model":  # a real one: /dev/full takes no byte
        monkeypatch.setattr(bundle, "MODEL", "/dev/full")
    elif where == "check set":
        monkeypatch.setattr(bundle.np, "savez_compressed", refuse)
    else:
        rename = Path.rename
        monkeypatch.setattr(
            Path, "rename", lambda old, new: refuse() if old.suffix == ".part" else rename(old, new)
        )
    with pytest.raises(Failure, match="No space left on device; what was there is untouched"):
        write_bundle(folder, described(), b"x", IMAGES, VECTORS)
    monkeypatch.undo()
    assert Manifest.load(folder).file(MODEL).read_bytes() == b"the model"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_oldest_python_reads_it_too(folder):
    oldest = shutil.which("python3.10")
    works = oldest is not None and subprocess.run([oldest, "-c", ""], capture_output=True).returncode == 0
    if not works:
        pytest.skip("there is no Python 3.10 here")
    program = (
        "import sys; from export.manifest import Manifest; import deploy.runtime; "
        "found = Manifest.load(sys.argv[1]); print(found.precision.excluded, found.file('model.onnx').name)"
    )
    done = subprocess.run([oldest, "-c", program, folder], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "('blocks.0.mlp.fc2',) model.onnx", done.stderr


def test_the_manifest_needs_the_floor_alone():
    program = (
        "import sys; before = set(sys.modules); import export.manifest; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names) - {'export', 'pat'}))"
    )
    done = python("-c", program)
    assert done.stdout.strip() == "[]", done.stderr
