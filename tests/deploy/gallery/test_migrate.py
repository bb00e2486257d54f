"""Galleries of the first version, made here as that version made them."""

from __future__ import annotations

import json
import struct
import sys
import zlib

import numpy as np
import pytest

from deploy.gallery import Gallery, facts_of
from pat.base.errors import UserError
from vectors import units

qdrant = pytest.importorskip("qdrant_edge")
DIMENSION, NOW = 16, 1_700_000_000.0
ENTRY = "8e0a2b4c-0000-4000-8000-00000000000{}"


@pytest.fixture
def old(tmp_path):
    """Two entries in the store and one in the journal, behind it half a line of a process that was killed."""
    folder = tmp_path / "gallery"
    (folder / "store").mkdir(parents=True)
    facts = {"format": "pat-reid-gallery/1", "dimension": DIMENSION, "model": "model-a", "retention": 86400.0}
    (folder / "gallery.json").write_text(json.dumps(facts))
    config = qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(size=DIMENSION, distance=qdrant.Distance.Cosine), wal_enabled=False
    )
    shard = qdrant.EdgeShard.create(str(folder / "store"), config)
    points = [
        qdrant.Point(ENTRY.format(row), vector.tolist(), {"identity": name, "camera": "gate", "time": NOW})
        for row, (name, vector) in enumerate(zip(["anna", "bob"], units(2), strict=True))
    ]
    shard.update(qdrant.UpdateOperation.upsert_points(points))
    shard.flush()
    shard.close()
    text = json.dumps({"id": ENTRY.format(2), "identity": "anna", "camera": "hall", "time": NOW, "note": "late"})
    body = text.encode() + units(3)[2].tobytes()
    line = struct.pack("<III", len(text), DIMENSION * 4, zlib.crc32(body)) + body
    (folder / "journal").write_bytes(line + line[:-5])
    return folder


def opened(folder, **values) -> Gallery:
    return Gallery.open(folder, **{"dimension": DIMENSION, "model": "model-a", "clock": lambda: NOW, **values})


def test_a_gallery_of_the_first_version_is_read_once(old):
    for _ in range(2):
        with opened(old) as gallery:
            found = {record.id[-1]: record for record in gallery.export()}
        assert [(found[each].identity, found[each].camera, found[each].note) for each in "012"] == [
            ("anna", "gate", ""),
            ("bob", "gate", ""),
            ("anna", "hall", "late"),
        ]
        np.testing.assert_allclose([found[each].vector for each in "012"], units(3), atol=1e-6)
        assert [file.name for file in old.iterdir()] == ["gallery.sqlite"]  # so that forgetting is forgetting
    assert facts_of(old).retention == 86400.0


def test_another_models_gallery_is_left_alone(old):
    with pytest.raises(UserError, match="of the model model-a"):
        opened(old, model="model-b")
    assert (old / "gallery.json").exists()


def test_what_migrating_needs_is_said(old, monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    with pytest.raises(UserError, match="pip install qdrant-edge-py"):
        opened(old)
    monkeypatch.undo()
    with opened(old) as gallery:  # it is as it was
        assert gallery.count() == 3
