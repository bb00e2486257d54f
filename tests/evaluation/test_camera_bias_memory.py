"""What is taken from large galleries is taken a camera at a time."""

import tracemalloc

import numpy as np

from pat.evaluation.camera_bias import without_camera_bias
from pat.evaluation.ranking import Features


def test_it_holds_a_few_copies_of_the_features() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6000, 128), dtype=np.float32)
    both = Features(vectors, rng.integers(0, 300, 6000), rng.integers(0, 20, 6000))
    tracemalloc.start()
    try:
        without_camera_bias(both[:1000], both[1000:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4.5 * vectors.nbytes
