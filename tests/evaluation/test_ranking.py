"""Ranking against two independent implementations, and its edge cases."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fresh import python
from pat.base.errors import Failure, UserError
from pat.evaluation.ranking import Features, RankingResult, evaluate_ranking, rank_list

DEVICES = ["cpu", "cpu:0"]  # numpy; and the GPU's code, on the device that torch calls cpu:0


def features(vectors, identities, cameras) -> Features:
    return Features(np.asarray(vectors, np.float32), np.asarray(identities), np.asarray(cameras))


def random_features(rng, size: int, *, identities: int = 12, cameras: int = 3, dim: int = 16) -> Features:
    labels = rng.integers(-1, identities, size)  # -1 junk; 0 is a distractor where no query has it
    vectors = rng.standard_normal((size, dim)) + 2 * np.sin(np.outer(labels, np.arange(dim)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return features(vectors, labels, rng.integers(0, cameras, size))


def by_sorting(query: Features, gallery: Features, max_rank: int) -> tuple[np.ndarray, float, float, int]:
    """The field's usual loop: order everything, drop what does not count, cumulate."""
    curves, precisions, penalties = [], [], []
    for vector, identity, camera in zip(query.vectors, query.identities, query.cameras, strict=True):
        distances = ((gallery.vectors.astype(np.float64) - vector) ** 2).sum(axis=1)
        order = np.argsort(distances, kind="stable")
        keep = (gallery.identities[order] != -1) & ~(
            (gallery.identities[order] == identity) & (gallery.cameras[order] == camera)
        )
        hit = (gallery.identities[order] == identity)[keep]
        if identity == -1 or not hit.any():
            continue
        found = hit.cumsum()
        curve = np.minimum(found, 1)[:max_rank]
        curves.append(np.pad(curve, (0, max_rank - len(curve)), mode="edge"))
        precisions.append((found / np.arange(1, len(hit) + 1))[hit].mean())
        penalties.append(hit.sum() / (np.flatnonzero(hit)[-1] + 1))
    return np.mean(curves, axis=0), float(np.mean(precisions)), float(np.mean(penalties)), len(curves)


def average_precision_by_thresholds(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Area under the step-wise precision-recall curve, one step a distinct score: no ranks involved."""
    area = recall_before = 0.0
    for threshold in np.unique(scores)[::-1]:
        retrieved = scores >= threshold
        recall = (relevant & retrieved).sum() / relevant.sum()
        area += (recall - recall_before) * (relevant & retrieved).sum() / retrieved.sum()
        recall_before = recall
    return area


def assert_equal(result: RankingResult, expected: tuple[np.ndarray, float, float, int]) -> None:
    cmc, mean_average_precision, mean_inverse_penalty, valid = expected
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)
    assert result.mAP == pytest.approx(mean_average_precision, abs=1e-12)
    assert result.mINP == pytest.approx(mean_inverse_penalty, abs=1e-12)
    assert result.valid_queries == valid


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("slab_bytes", [1, 5000, 64 << 20])
def test_equals_sorting_everything(device: str, slab_bytes: int) -> None:
    rng = np.random.default_rng(0)
    query, gallery = random_features(rng, 60), random_features(rng, 300)
    result = evaluate_ranking(query, gallery, max_rank=20, device=device, slab_bytes=slab_bytes)
    assert_equal(result, by_sorting(query, gallery, 20))
    assert 0.1 < result.mAP < 0.95  # the case is neither trivial nor hopeless


def test_average_precision_equals_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(1)
    query, gallery = random_features(rng, 40), random_features(rng, 200)
    result = evaluate_ranking(query, gallery)
    checked = 0
    for i, measured in enumerate(result.average_precision):
        same = gallery.identities == query.identities[i]
        allowed = (gallery.identities != -1) & ~(same & (gallery.cameras == query.cameras[i]))
        if query.identities[i] == -1 or not (same & allowed).any():
            assert np.isnan(measured)
            continue
        scores = (gallery.vectors @ query.vectors[i]).astype(np.float64)
        assert measured == pytest.approx(average_precision_by_thresholds(same[allowed], scores[allowed]))
        checked += 1
    assert checked == result.valid_queries > 20


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.data())
def test_any_small_case_with_ties(device: str, data: st.DataObject) -> None:
    """Vectors on a coarse grid tie all the time, and their float32 distances are exact."""

    def draw(size: int) -> Features:
        grid = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=size, max_size=size)
        labels = st.lists(st.integers(-1, 3), min_size=size, max_size=size)
        cameras = st.lists(st.integers(0, 2), min_size=size, max_size=size)
        return features(data.draw(grid), data.draw(labels), data.draw(cameras))

    query, gallery = draw(data.draw(st.integers(1, 6))), draw(data.draw(st.integers(1, 12)))
    max_rank = data.draw(st.integers(1, 15))
    matches = (query.identities[:, None] == gallery.identities) & (query.identities[:, None] != -1)
    if not (matches & (query.cameras[:, None] != gallery.cameras)).any():
        with pytest.raises(UserError, match="nothing can be scored"):
            evaluate_ranking(query, gallery, max_rank=max_rank, device=device)
        return
    result = evaluate_ranking(query, gallery, max_rank=max_rank, device=device, slab_bytes=64)
    assert_equal(result, by_sorting(query, gallery, max_rank))


@pytest.mark.parametrize("device", DEVICES)
def test_ties_follow_the_gallery(device: str) -> None:
    query = features([[1, 0]], [7], [0])
    for position in range(4):
        identities = np.full(4, 8)
        identities[position] = 7
        result = evaluate_ranking(query, features([[0, 1]] * 4, identities, [1] * 4), device=device)
        assert result.mAP == pytest.approx(1 / (position + 1))


@pytest.mark.parametrize("exact", [True, False], ids=["small whole numbers", "any numbers"])
def test_copies_of_an_image_stand_together(exact: bool) -> None:
    """They tie, in the gallery's order, where float32 holds every sum exactly. Elsewhere rounding separates them.

    A BLAS may sum the last columns of a product in another order than the rest.
    """
    rng = np.random.default_rng(2)
    draw = (lambda shape: rng.integers(-8, 9, shape).astype(np.float32)) if exact else rng.standard_normal
    vectors = draw((1013, 384)).astype(np.float32)
    places = np.sort(rng.choice(1013, 40, replace=False))
    vectors[places] = vectors[places[0]]
    query = features(draw((33, 384)), np.ones(33, int), np.zeros(33, int))
    gallery = features(vectors, np.arange(1013), np.ones(1013, int))
    indices, distances = rank_list(query, gallery, k=1013)
    for order, row in zip(indices, distances, strict=True):
        at = np.flatnonzero(np.isin(order, places))
        if exact:
            assert np.ptp(row[at]) == 0
            np.testing.assert_array_equal(order[at], places)
        np.testing.assert_allclose(row[at], row[at[0]], rtol=1e-5)


def test_many_matches_take_the_sorted_way() -> None:
    """More matches a query than are counted one by one, on a grid where they tie."""
    rng = np.random.default_rng(3)
    query = features(rng.integers(-2, 3, (8, 3)), rng.integers(0, 2, 8), rng.integers(0, 2, 8))
    gallery = features(rng.integers(-2, 3, (2000, 3)), rng.integers(0, 2, 2000), rng.integers(0, 2, 2000))
    assert_equal(evaluate_ranking(query, gallery), by_sorting(query, gallery, 50))


def test_junk_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    query, gallery = random_features(rng, 30), random_features(rng, 200)
    clean = evaluate_ranking(query[query.identities != -1], gallery[gallery.identities != -1])
    assert (gallery.identities == -1).any()
    assert_equal(evaluate_ranking(query, gallery), (clean.cmc, clean.mAP, clean.mINP, clean.valid_queries))


def test_a_distractor_stays_in_the_ranking() -> None:
    query = features([[1, 0]], [5], [0])
    gallery = features([[1, 0], [0.9, 0.1], [0, 1]], [0, 5, 6], [0, 1, 1])
    result = evaluate_ranking(query, gallery, max_rank=3)
    np.testing.assert_array_equal(result.cmc, [0, 1, 1])
    assert result.mAP == 0.5


def test_identity_zero_is_a_person_where_a_query_has_it() -> None:
    query = features([[1, 0]], [0], [0])
    gallery = features([[0, 1], [1, 0]], [1, 0], [1, 1])
    assert evaluate_ranking(query, gallery).mAP == 1


def test_hand_counted_case() -> None:
    """Ranks 1 and 4 after the same-camera image is left out: AP = (1/1 + 2/4) / 2, INP = 2/4."""
    query = features([[0.0]], [1], [0])
    gallery = features([[0.1], [0.2], [0.3], [0.4], [0.5]], [1, 1, 2, 2, 1], [0, 1, 1, 0, 2])
    result = evaluate_ranking(query, gallery, max_rank=2)
    assert (result.mAP, result.mINP) == (0.75, 0.5)
    np.testing.assert_array_equal(result.cmc, [1, 1])


@pytest.mark.parametrize("device", DEVICES)
def test_a_small_gallery_keeps_the_last_value(device: str) -> None:
    query = features([[0.0], [0.0]], [1, 2], [0, 0])
    gallery = features([[0.1], [0.2]], [1, 2], [1, 1])
    result = evaluate_ranking(query, gallery, max_rank=5, device=device)
    np.testing.assert_array_equal(result.cmc, [0.5, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("query", "gallery", "reason"),
    [
        (([[0.0]], [1], [0]), ([[1.0]], [1], [0]), "from the same camera"),
        (([[0.0]], [1], [0]), ([[1.0]], [2], [1]), "none of the 1 query identities"),
        (([[0.0]], [-1], [0]), ([[1.0]], [-1], [1]), "none has an identity"),
        (([[0.0]], [1], [0]), ([[1.0]], [-1], [1]), "gallery is empty"),
        (([[0.0]], [1], [0]), (np.zeros((0, 1)), [], []), "gallery is empty"),
        ((np.zeros((0, 1)), [], []), ([[1.0]], [1], [1]), "0 query images"),
        (([[0.0, 1.0]], [1], [0]), ([[1.0]], [1], [1]), "same model"),
    ],
)
@pytest.mark.parametrize("device", DEVICES)
def test_what_cannot_be_scored_says_why(query, gallery, reason: str, device: str) -> None:
    with pytest.raises(UserError, match=reason) as raised:
        evaluate_ranking(features(*query), features(*gallery), device=device)
    assert "\n" not in str(raised.value)


def test_bad_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floats \[N, D\], not float32 \[3\]"):
        Features(np.zeros(3, np.float32), np.zeros(3, int), np.zeros(3, int))
    with pytest.raises(ValueError, match="not uint8"):
        Features(np.zeros((3, 2), np.uint8), np.zeros(3, int), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"cameras must be whole numbers \[3\]"):
        features(np.zeros((3, 2)), [1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="identities must be whole"):
        features(np.zeros((2, 2)), [1.5, 2], [1, 2])
    vectors = np.zeros((3, 2))
    vectors[1, 1] = np.nan
    with pytest.raises(Failure, match="1 of 3 embeddings are NaN or infinite, the first at index 1"):
        features(vectors, [1, 2, 3], [0, 0, 0])


def test_rank_list_agrees_with_the_ranking() -> None:
    rng = np.random.default_rng(5)
    query, gallery = random_features(rng, 20), random_features(rng, 100)
    result = evaluate_ranking(query, gallery, max_rank=10)
    indices, distances = rank_list(query, gallery, k=10)
    first = gallery.identities[indices[:, 0]] == query.identities
    valid = np.isfinite(result.average_precision)
    assert result.cmc[0] == pytest.approx(first[valid].mean())
    exact = np.linalg.norm(query.vectors[:, None] - gallery.vectors[indices], axis=2)
    np.testing.assert_allclose(distances, exact, atol=1e-3)  # a small distance loses digits to cancellation
    assert (np.diff(distances, axis=1) >= 0).all()


def test_rank_list_leaves_out_and_pads() -> None:
    query = features([[0.0]], [1], [0])
    gallery = features([[0.3], [0.1], [0.2]], [2, 1, -1], [0, 0, 1])
    indices, distances = rank_list(query, gallery, k=3)
    np.testing.assert_array_equal(indices, [[0, -1, -1]])
    np.testing.assert_allclose(distances, [[0.3, np.inf, np.inf]], rtol=1e-5)
    np.testing.assert_array_equal(rank_list(query, gallery, k=3, leave_out=False)[0], [[1, 2, 0]])


def test_result_is_ready_for_json() -> None:
    query, gallery = features([[0.0]], [1], [0]), features([[0.1], [0.2]], [2, 1], [1, 1])
    mapping = json.loads(json.dumps(evaluate_ranking(query, gallery, max_rank=5).to_mapping()))
    expected = {"rank1": 0.0, "rank5": 1.0, "mAP": 0.5, "mINP": 0.5, "valid_queries": 1}
    assert mapping == expected | {"cmc": [0.0, 1.0, 1.0, 1.0, 1.0]}


def test_scoring_on_a_cpu_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from pat.evaluation.ranking import Features, evaluate_ranking\n"
        "one = lambda camera: Features(np.ones((1, 2), np.float32), np.ones(1, int), np.array([camera]))\n"
        "print(evaluate_ranking(one(0), one(1)).mAP)"
    )
    done = python("-c", code)
    assert done.stdout.strip() == "1.0", done.stderr


def test_gpu_agrees_with_cpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    rng = np.random.default_rng(6)
    query, gallery = random_features(rng, 200, dim=768), random_features(rng, 3000, dim=768)
    on_cpu, on_gpu = (evaluate_ranking(query, gallery, device=d) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu.cmc, on_cpu.cmc, atol=1e-6)
    assert on_gpu.mAP == pytest.approx(on_cpu.mAP, abs=1e-6)
