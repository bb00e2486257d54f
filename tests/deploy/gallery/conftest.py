"""A gallery by a clock that the test sets."""

from __future__ import annotations

import pytest

from deploy.gallery import Gallery
from galleries import DIMENSION, HOUR, Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reopen(tmp_path, clock):
    """Opens one and the same gallery again and again; the values given replace the usual ones."""

    def again(**values):
        chosen = {"dimension": DIMENSION, "model": "model-a", "retention": 24 * HOUR, **values}
        return Gallery.open(tmp_path / "gallery", clock=clock, **chosen)

    return again


@pytest.fixture
def gallery(reopen):
    with reopen() as opened:
        yield opened
