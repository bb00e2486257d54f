"""The thread that owns the model: batches across cameras, latency bound, failures of the model and recovery."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from deploy import runtime
from deploy.embedder import SPOILED_BATCHES, Embedder
from deploy.metrics import Metrics
from pat.base.errors import Failure, UserError


class Flaky:
    """A real runtime whose calls can be made to fail, as a lost GPU's do."""

    def __init__(self, bundle, log):
        self._session = runtime.open(bundle)
        self.name, self.manifest, self.log = self._session.name, self._session.manifest, log
        self.log.append(("open", threading.get_ident()))
        self.fail = False

    def self_test(self):
        return self._session.self_test()

    def embed_boxes(self, frames, boxes):
        self.log.append(("embed", sum(map(len, boxes))))
        if self.fail:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self._session.embed_boxes(frames, boxes)

    def close(self):
        self.log.append(("close", threading.get_ident()))
        self._session.close()


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)


BOXES = np.array([[10, 10, 60, 110], [80, 5, 140, 115]], dtype=np.float32)


def make(bundle, log, **options):
    opened = []

    def open_runtime():
        opened.append(Flaky(bundle, log))
        return opened[-1]

    metrics = Metrics()
    options = {"max_batch": 8, "max_wait": 0.0, "retry": (0.01, 0.05), **options}
    return Embedder(open_runtime, metrics, **options), metrics, opened


def test_vectors_are_the_runtimes_own(colour_bundle, frame):
    embedder, metrics, _ = make(colour_bundle, [])
    with embedder, runtime.open(colour_bundle) as session:
        embedder.start()
        found = embedder.submit(frame, BOXES).result(timeout=60)
        np.testing.assert_allclose(found, session.embed_boxes([frame], [BOXES]), atol=1e-6)
    assert metrics.value("pat_batch_crops_sum") == 2


def test_one_thread_opens_runs_and_closes_the_model(colour_bundle, frame):
    log = []
    embedder, _, _ = make(colour_bundle, log)
    with embedder:
        embedder.start()
        embedder.submit(frame, BOXES).result(timeout=60)
    threads = {thread for what, thread in log if what in ("open", "close")}
    assert [what for what, _ in log] == ["open", "embed", "close"]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_cameras_share_a_batch_and_get_their_own_vectors(colour_bundle, frame):
    log = []
    embedder, metrics, _ = make(colour_bundle, log, max_wait=0.5)
    dark = frame // 4
    with embedder, runtime.open(colour_bundle) as session:
        embedder.start()
        waiting = [
            embedder.submit(frame, BOXES),
            embedder.submit(dark, BOXES[:1]),
            embedder.submit(frame, BOXES[1:]),
        ]
        found = [each.result(timeout=60) for each in waiting]
        expected = [
            session.embed_boxes([p], [b]) for p, b in ((frame, BOXES), (dark, BOXES[:1]), (frame, BOXES[1:]))
        ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert [crops for what, crops in log if what == "embed"] == [4]
    assert metrics.value("pat_batch_crops_count") == 1


def test_a_full_batch_does_not_wait(colour_bundle, frame):
    embedder, _, _ = make(colour_bundle, [], max_batch=2, max_wait=3600.0)
    with embedder:
        embedder.start()
        assert len(embedder.submit(frame, BOXES).result(timeout=60)) == 2


def test_a_failing_model_is_opened_again(colour_bundle, frame, caplog):
    log = []
    embedder, metrics, opened = make(colour_bundle, log)
    with embedder:
        embedder.start()
        opened[0].fail = True
        with pytest.raises(Failure, match="illegal memory access"):
            embedder.submit(frame, BOXES).result(timeout=60)
        deadline = time.monotonic() + 60
        while True:
            try:
                vectors = embedder.submit(frame, BOXES).result(timeout=60)
                break
            except Failure:
                assert time.monotonic() < deadline
                time.sleep(0.005)
        assert np.isfinite(vectors).all()
        assert embedder.broken_for == 0
    assert len(opened) == 2
    assert [what for what, _ in log].count("close") == 2
    assert metrics.value("pat_engine_failures_total") == 1
    assert "opened again" in caplog.text


def test_while_the_model_is_away_requests_fail_at_once(colour_bundle, frame):
    embedder, metrics, opened = make(colour_bundle, [], retry=(3600.0, 3600.0))
    with embedder:
        embedder.start()
        opened[0].fail = True
        for _ in range(5):
            with pytest.raises(Failure):
                embedder.submit(frame, BOXES).result(timeout=60)
        assert embedder.broken_for > 0
    assert metrics.value("pat_engine_failures_total") == 1


def test_a_model_is_opened_again_while_nobody_asks(colour_bundle, frame):
    embedder, _, opened = make(colour_bundle, [])
    with embedder:
        embedder.start()
        opened[0].fail = True
        with pytest.raises(Failure):
            embedder.submit(frame, BOXES).result(timeout=60)
        deadline = time.monotonic() + 60
        while embedder.broken_for:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert len(opened) == 2


def test_what_opening_raises_reaches_the_caller(tmp_path):
    embedder = Embedder(lambda: runtime.open(tmp_path / "none"), Metrics(), max_batch=1, max_wait=0)
    with embedder, pytest.raises(UserError, match="does not exist"):
        embedder.start()


def test_a_model_that_fails_its_self_test_is_not_used(colour_bundle):
    class Wrong(Flaky):
        def self_test(self):
            raise Failure("worst cosine 0.3 to the check set")

    log = []
    embedder = Embedder(lambda: Wrong(colour_bundle, log), Metrics(), max_batch=1, max_wait=0)
    with embedder, pytest.raises(Failure, match=r"0\.3"):
        embedder.start()
    assert [what for what, _ in log] == ["open", "close"]


def test_requests_after_the_end_fail(colour_bundle, frame):
    embedder, _, _ = make(colour_bundle, [])
    with embedder:
        embedder.start()
    with pytest.raises(Failure):
        embedder.submit(frame, BOXES).result(timeout=60)


def spoiled(row):
    """A runtime whose vectors of `row` (a number or a slice) are not finite, as an overflow in fp16 makes them."""

    class Spoiled(Flaky):
        def embed_boxes(self, frames, boxes):
            self.log.append(("embed", sum(map(len, boxes))))
            vectors = self._session.embed_boxes(frames, boxes)
            vectors[row] = np.nan
            return self._session._finite(vectors)

    return Spoiled


def test_a_crop_without_an_answer_spoils_no_other(colour_bundle, frame, caplog):
    log, metrics = [], Metrics()
    embedder = Embedder(lambda: spoiled(0)(colour_bundle, log), metrics, max_batch=8, max_wait=0.5)
    with embedder, runtime.open(colour_bundle) as session:
        embedder.start()
        first, second = embedder.submit(frame, BOXES), embedder.submit(frame, BOXES[1:])
        found = first.result(timeout=60)
        expected = session.embed_boxes([frame], [BOXES])
        assert np.isnan(found[0]).all()
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
        np.testing.assert_allclose(second.result(timeout=60), expected[1:], atol=1e-6)
        assert embedder.broken_for == 0
    assert [what for what, _ in log] == ["open", "embed", "close"]
    assert metrics.value("pat_crops_spoiled_total") == 1
    assert "not finite" in caplog.text


def test_a_model_that_gives_nothing_else_is_broken(colour_bundle, frame):
    log, metrics = [], Metrics()
    embedder = Embedder(
        lambda: spoiled(slice(None))(colour_bundle, log), metrics, max_batch=8, max_wait=0, retry=(3600.0, 3600.0)
    )
    with embedder:
        embedder.start()
        for _ in range(SPOILED_BATCHES - 1):
            assert np.isnan(embedder.submit(frame, BOXES).result(timeout=60)).all()
        with pytest.raises(Failure, match="not finite"):
            embedder.submit(frame, BOXES).result(timeout=60)
        assert embedder.broken_for > 0
    assert metrics.value("pat_engine_failures_total") == 1


def test_a_request_that_comes_in_time_shares_the_batch(colour_bundle, frame):
    log = []
    embedder, _, _ = make(colour_bundle, log, max_wait=5.0, max_batch=3)
    with embedder:
        embedder.start()
        first = embedder.submit(frame, BOXES)
        later = threading.Timer(0.2, lambda: embedder.submit(frame, BOXES[:1]))
        later.start()
        first.result(timeout=60)
        later.join()
    assert [crops for what, crops in log if what == "embed"] == [3]


def test_a_model_that_stays_broken_is_tried_less_and_less(colour_bundle, frame, caplog):
    class Broken(Flaky):
        def embed_boxes(self, frames, boxes):
            raise RuntimeError("device lost")

    embedder = Embedder(lambda: Broken(colour_bundle, []), Metrics(), max_batch=8, max_wait=0, retry=(0.01, 0.04))
    with embedder:
        embedder.start()
        deadline = time.monotonic() + 60
        while caplog.text.count("opened again in") < 4 and time.monotonic() < deadline:
            with pytest.raises(Failure):
                embedder.submit(frame, BOXES).result(timeout=60)
            time.sleep(0.005)
    pauses = [record.args[1] for record in caplog.records if "opened again in" in record.msg]
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.04]
