"""Who is most like a vector, when one person has more entries than everybody else."""

from __future__ import annotations

import time

import numpy as np

from deploy.gallery import Gallery
from deploy.service.photos import VIEWS, Limits, Photos


def test_many_entries_of_one_person_hide_nobody(tmp_path):
    first = np.eye(1, 8, dtype=np.float32)
    second = (first + np.eye(1, 8, 1, dtype=np.float32)) / 2**0.5
    with Gallery.open(tmp_path / "gallery", dimension=8, model="test") as gallery:
        gallery.add(
            np.repeat(first, 5 * VIEWS, 0), identity=["anna"] * 5 * VIEWS, camera="gate", time=time.time()
        )
        gallery.add(second, identity="bob", camera="gate", time=time.time())
        photos = Photos(gallery, None, None, most_bytes=0, most_pixels=0)
        found = photos.alike(first[0], Limits(2))
    assert [each.identity for each in found] == ["anna", "bob"]
