"""Several ways to embed and rank: what they are called, and how often an image is embedded for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from pat.base.progress import Progress
from pat.data.pixels import Images
from pat.data.sample import JUNK, Sample
from pat.evaluation.camera_bias import without_camera_bias
from pat.evaluation.kinds import Kind, every_kind
from pat.evaluation.ranking import evaluate_ranking
from pat.evaluation.rerank import reranked
from pat.evaluation.rerank_cameras import camera_reranked
from pat.evaluation.scoring import EvaluationSet, score_kinds
from pat.evaluation.table import table_of

PEOPLE = 15


def images_of(camera: int) -> Images:
    """An image of each person by one camera: the person's own colours, and noise of the camera."""
    own = np.random.default_rng(0).integers(0, 256, (PEOPLE, 8, 4, 3))
    noise = np.random.default_rng(camera).integers(0, 256, own.shape)
    samples = tuple(Sample(f"{camera}/{n}", n, camera, "x") for n in range(1, PEOPLE + 1))
    return Images(samples, ((own + 2 * noise) // 3).astype(np.uint8), np.arange(PEOPLE))


class Embedders:
    """Counts what it embeds."""

    def __init__(self) -> None:
        self.calls: list[bool] = []

    def __call__(self, parts: bool):
        def embed(pixels: np.ndarray) -> np.ndarray:
            self.calls.append(parts)
            vectors = pixels.reshape(len(pixels), -1)[:, :: 1 + parts].astype(np.float32)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        return embed


def test_kinds_are_named_and_plain_rankings_come_first() -> None:
    names = [kind.named("cls+parts") for kind in every_kind(parts=True, flip=True, debias=False, rerank=True)]
    plain = ["cls+parts", "cls+parts, flip", "cls + parts", "cls + parts, flip"]
    ranked = [f"{name}, {how}" for how in ("re-ranked", "re-ranked by camera") for name in plain]
    assert names == [*plain, *ranked]
    assert every_kind(parts=False, flip=False, debias=False, rerank=False) == [Kind()]


def test_each_image_is_embedded_once_for_kinds_of_one_vector() -> None:
    images, embedders = EvaluationSet("x", images_of(1), images_of(2)), Embedders()
    kinds = every_kind(parts=True, flip=False, debias=False, rerank=True)
    scores = score_kinds(embedders, images, kinds, Progress(), max_rank=10)
    assert embedders.calls == [False, False, True, True]  # query and gallery of each
    ways = ("", ", re-ranked", ", re-ranked by camera")
    assert list(scores) == [f"{vectors}{way}" for way in ways for vectors in ("cls", "cls + parts")]
    plain, again, apart = (scores[f"cls{way}"] for way in ways)
    cameras = plain.query.cameras, plain.gallery.cameras
    assert apart.result.mAP == evaluate_ranking(plain.query, plain.gallery, slabs=camera_reranked(*cameras)).mAP
    assert again.result.mAP == evaluate_ranking(plain.query, plain.gallery, slabs=reranked()).mAP
    assert again.result.mAP != plain.result.mAP
    assert score_kinds(Embedders(), images, kinds, Progress(), embed_only=True) == {}


def test_the_bar_of_a_ranking_fills_though_there_is_junk() -> None:
    bars: dict[str, list[int]] = {}

    class Counting(Progress):
        @contextmanager
        def bar(self, label: str, total: int) -> Iterator[Callable[..., None]]:
            bars[label] = [total, 0]

            def advance(count: int, _text: str = "", _total: int | None = None) -> None:
                bars[label][1] += count

            yield advance

    query, gallery = images_of(1), images_of(2)
    junk = tuple(Sample(f"junk/{n}", JUNK, 2, "x") for n in range(3))
    gallery = Images(
        (*gallery.samples, *junk), np.concatenate([gallery.pixels, gallery.pixels[:3]]), np.arange(PEOPLE + 3)
    )
    score_kinds(
        Embedders(),
        EvaluationSet("x", query, gallery),
        every_kind(parts=False, flip=False, debias=False, rerank=True),
        Counting(),
        max_rank=10,
    )
    assert len(bars) == 3
    assert all(total == done for total, done in bars.values())


def test_kinds_rank_by_their_own_vectors_and_by_the_cameras_of_people_alone() -> None:
    query, people = images_of(1), images_of(2)
    junk = tuple(Sample(f"junk/{n}", JUNK, 7, "x") for n in range(3))  # first, so that the people's rows move
    pixels = np.concatenate([people.pixels[:3], people.pixels])
    gallery = Images((*junk, *people.samples), pixels, np.arange(PEOPLE + 3))
    kinds = every_kind(parts=False, flip=True, debias=True, rerank=True)
    mixed, alone = (
        score_kinds(Embedders(), EvaluationSet("x", query, each), kinds, Progress(), max_rank=10)
        for each in (gallery, people)
    )
    assert [each.result.mAP for each in mixed.values()] == [each.result.mAP for each in alone.values()]
    assert not np.array_equal(mixed["cls"].query.vectors, mixed["cls, flip"].query.vectors)


def test_vectors_without_camera_bias_are_ranked_and_each_split_by_itself() -> None:
    one, two = images_of(1), images_of(2)
    kinds = every_kind(parts=False, flip=False, debias=True, rerank=False)
    scores = score_kinds(Embedders(), EvaluationSet("x", one, two), kinds, Progress(), max_rank=10)
    assert list(scores) == ["cls", "cls, debiased"]
    plain, debiased = scores.values()
    expected = without_camera_bias(plain.query, plain.gallery)
    np.testing.assert_array_equal(debiased.query.vectors, expected[0].vectors)
    assert debiased.result.mAP == evaluate_ranking(*expected).mAP != plain.result.mAP

    both = Images((*one.samples, *two.samples), np.concatenate([one.pixels, two.pixels]), np.arange(2 * PEOPLE))
    splits = ((np.arange(8), np.arange(15, 25)), (np.arange(15), np.arange(15, 30)))
    apart = score_kinds(Embedders(), EvaluationSet("x", both, both, splits), kinds, Progress(), max_rank=10)
    first = evaluate_ranking(*without_camera_bias(plain.query[np.arange(8)], plain.gallery[np.arange(10)]))
    assert [each.mAP for each in apart["cls, debiased"].results] == [first.mAP, debiased.result.mAP]


def test_splits_share_the_vectors_of_their_images() -> None:
    one, two = images_of(1), images_of(2)
    both = Images((*one.samples, *two.samples), np.concatenate([one.pixels, two.pixels]), np.arange(2 * PEOPLE))
    first = np.arange(PEOPLE)
    splits = ((first, first + PEOPLE), (first + PEOPLE, first), (first[:5], first + PEOPLE))
    embedders = Embedders()
    score = score_kinds(embedders, EvaluationSet("x", both, both, splits), [Kind()], Progress())["cls"]
    assert embedders.calls == [False]
    apart = score_kinds(Embedders(), EvaluationSet("x", one, two), [Kind()], Progress())["cls"]
    assert [each.valid_queries for each in score.results] == [15, 15, 5]
    assert score.result.mAP == pytest.approx(apart.result.mAP)


def test_a_table_has_the_figures_that_all_results_have() -> None:
    class Result:
        def __init__(self, **figures: object) -> None:
            self.figures = lambda: figures

    columns, rows = table_of({"a": Result(mAP=0.5, rank=0.25, n=3), "b": Result(mAP=0.125, n=4, other="-")})
    assert columns == ["", "mAP", "n"]
    assert rows == [["a", 50.0, 3], ["b", 12.5, 4]]
