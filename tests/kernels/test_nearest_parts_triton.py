"""The Triton kernels against float64: on a GPU where there is one, else in Triton's interpreter (conftest.py)."""

import math
from itertools import product

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

triton_kernels = pytest.importorskip("kernels.nearest_parts.triton")

from kernels.cases import NEAREST_PARTS_SMALL, NearestPartsCase  # noqa: E402
from kernels.nearest_parts import NearestParts, merge_nearest, nearest_parts  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ODD = NearestPartsCase("odd", parts=2, batch=5, slots=77, dim=19, k=3)


@pytest.fixture(autouse=True)
def poisoned_buffers(monkeypatch):
    """Whatever a kernel forgets to write shows as NaN or an absurd number."""
    empty = torch.empty

    def poisoned(*size, **options):
        buffer = empty(*size, **options)
        return buffer.fill_(math.nan if buffer.is_floating_point() else -(2**62))

    monkeypatch.setattr(triton_kernels.torch, "empty", poisoned)


def make(case: NearestPartsCase, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(case.parts, case.batch, case.dim, generator=generator)
    bank = torch.randn(case.parts, case.slots, case.dim, generator=generator)
    exclude = torch.randint(-1, case.slots, (case.batch,), generator=generator)
    return query.to(DEVICE), bank.to(DEVICE, dtype), exclude.to(DEVICE)


def whole_numbers(case: NearestPartsCase, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Many equal vectors, all arithmetic exact: ties are ties, and results equal to the bit."""
    query, bank, exclude = make(case, torch.float32, seed)
    return query.round(), bank.round().clamp(-1, 1), exclude


def eager(query: Tensor, bank: Tensor, exclude: Tensor, *, k: int, scale: float) -> NearestParts:
    """What one writes without a kernel, in the bank's dtype, by the expansion of the square."""
    query = query.to(bank.dtype)
    square = query.square().sum(-1)[:, :, None] + bank.square().sum(-1)[:, None]
    distances = (square - 2 * query @ bank.mT).clamp_min(0)  # [P, B, M]
    own = torch.arange(bank.shape[1], device=bank.device) == exclude[:, None]
    distances = distances.masked_fill(own, math.inf)
    ordered, order = distances.sort(dim=-1, stable=True)
    missing = (0, max(0, k - bank.shape[1]))
    nearest = torch.nn.functional.pad(ordered[..., :k], missing, value=math.inf)
    indices = torch.nn.functional.pad(order[..., :k], missing).masked_fill(nearest.isinf(), -1)
    return NearestParts(torch.logsumexp(-scale * distances, -1), nearest, indices)


def objective(found: NearestParts) -> Tensor:
    """A number that depends on all that is differentiable, and on no order of the neighbours."""
    near = torch.where(found.distances.isinf(), 0.0, found.distances)
    total = torch.where(found.log_sum.isinf(), 0.0, found.log_sum)
    return (total * 3).sum() + near.sum()


def results(search, query: Tensor, bank: Tensor, exclude: Tensor, k: int) -> list[Tensor]:
    """log_sum, distances and gradient, in float64."""
    query = query.detach().requires_grad_()
    found = search(query, bank, exclude, k=k, scale=0.1)
    (gradient,) = torch.autograd.grad(objective(found), query)
    return [found.log_sum.double(), found.distances.double(), gradient.double().nan_to_num(0.0)]


def triton(*arguments: Tensor, **options) -> NearestParts:
    return nearest_parts(*arguments, **options, impl="triton")


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*product(NEAREST_PARTS_SMALL, DTYPES[:2]), *product(NEAREST_PARTS_SMALL[:2], DTYPES[2:])],
    ids=lambda value: value.name if isinstance(value, NearestPartsCase) else str(value),
)
def test_error_is_no_larger_than_that_of_eager_torch(case, dtype):
    query, bank, exclude = make(case, dtype)
    exact_inputs = (query.to(dtype).double(), bank.double(), exclude)
    exact = results(eager, *exact_inputs, k=case.k)
    plain = results(eager, query, bank, exclude, k=case.k)
    found = results(triton, query, bank, exclude, k=case.k)
    for name, truth, reached, allowed in zip(
        ("log_sum", "distances", "gradient"), exact, found, plain, strict=True
    ):
        finite = truth.isfinite()
        assert torch.equal(reached[~finite], truth[~finite]), name
        largest = worst(truth, torch.zeros_like(truth), finite)
        # The bank's rounding enters the gradient through the weights only; float32 sums through everything.
        rounding = 4 * (torch.finfo(dtype).eps if name == "gradient" else torch.finfo(torch.float32).eps)
        bound = worst(allowed, truth, finite) + rounding * (largest + case.dim)
        assert worst(reached, truth, finite) <= bound, name


def worst(value: Tensor, truth: Tensor, where: Tensor) -> float:
    error = (value - truth)[where].abs()
    return error.max().item() if error.numel() else 0.0


@pytest.mark.parametrize("k", [1, 4, 20])
def test_ties_come_in_the_order_of_the_reference(k):
    case = NearestPartsCase("ties", parts=2, batch=3, slots=230, dim=3, k=k)
    inputs = whole_numbers(case)
    found, expected = triton(*inputs, k=k, scale=0.1), nearest_parts(*inputs, k=k, scale=0.1)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)
    torch.testing.assert_close(found.log_sum, expected.log_sum)


def rounding(query: Tensor, found: NearestParts, *, slots: int, scale: float) -> Tensor:
    """How far float32 may bring the gradient of `objective` off, [P, B, D], for a bank of numbers up to 1.

    The average's weights are exp(-scale * d) over their sum. Whoever rounds scale * d before the nearest is
    subtracted rounds to eps of its own size: half of it in a tile and twice more where log_sum is put together for
    the splits, and by as much each weight is wrong, however small the difference is. Weights wrong by so much move
    the average of numbers up to 1 by no more. Adding them up rounds half an eps for each slot, in the sum and in
    the average of either implementation. The gradient has the average 3 * 2 * scale times: it is off by the square
    of the scale, and by the roundings of its own terms.
    """
    eps = torch.finfo(torch.float32).eps
    nearest = found.distances[..., :1].nan_to_num(posinf=0.0)
    average = 2 * eps * (scale * nearest + slots)
    terms = (6 * scale + 2 * found.distances.shape[-1]) * (query.abs() + 1)
    return 6 * scale * average + 8 * eps * terms


# No shrinking: a failure in the interpreter would take minutes to shrink.
@settings(derandomize=True, deadline=None, max_examples=8, phases=[Phase.generate])
@given(data=st.data())
def test_any_small_search_equals_the_reference(data):
    """Whole numbers, so that neighbours must agree to the bit; sizes, k, exclusion, norms and offset at will."""
    draw = data.draw
    case = NearestPartsCase(
        "drawn",
        parts=draw(st.integers(1, 2)),
        batch=draw(st.integers(1, 20)),
        slots=draw(st.integers(1, 90)),
        dim=draw(st.integers(1, 70)),
        k=draw(st.integers(1, 6)),
    )
    query, bank, exclude = whole_numbers(case)
    offset = draw(st.integers(0, 2**40))
    options = {"k": case.k, "scale": draw(st.floats(1e-3, 10.0)), "offset": offset}
    if draw(st.booleans()):
        options["squared_norms"] = bank.square().sum(-1)
    if draw(st.booleans()):
        options["query_identity"] = torch.arange(case.batch, device=DEVICE) % 3
        options["bank_identity"] = torch.arange(case.slots, device=DEVICE) % draw(st.integers(1, 4))
    query.requires_grad_()
    found = triton(query, bank, exclude + offset, **options)
    expected = nearest_parts(query, bank, exclude + offset, **options)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)
    torch.testing.assert_close(found.log_sum, expected.log_sum, rtol=1e-5, atol=1e-4)
    one, other = (torch.autograd.grad(objective(result), query)[0] for result in (found, expected))
    allowed = rounding(query, expected, slots=case.slots, scale=options["scale"])
    assert ((one - other).abs() <= allowed).all()


@pytest.mark.parametrize("most", [4096, 24], ids=["at once", "in three ranges"])
def test_long_bank(most, monkeypatch):
    """More tiles than neighbours are asked for, in one split; nothing is allowed in the first of them."""
    monkeypatch.setattr(triton_kernels, "INTERPRETED_PROGRAMS", 1)
    monkeypatch.setattr(triton_kernels, "MOST_TILES", most)
    case = NearestPartsCase("long", parts=1, batch=3, slots=1000, dim=4, k=5)
    query, bank, exclude = whole_numbers(case)
    query.requires_grad_()
    order = torch.arange(case.slots, device=DEVICE)
    options = {"query_identity": torch.zeros_like(exclude), "bank_identity": (order >= 64).long()}
    found = triton(query, bank, exclude, k=case.k, scale=0.1, **options)
    expected = nearest_parts(query, bank, exclude, k=case.k, scale=0.1, **options)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)
    torch.testing.assert_close(found.log_sum, expected.log_sum)
    gradients = [torch.autograd.grad(objective(result), query)[0] for result in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_nothing_allowed_gives_minus_infinity_and_no_gradient():
    query, bank, exclude = make(ODD, torch.float32)
    query.requires_grad_()
    identity = torch.tensor([1, 1, 0, 2, 2], device=DEVICE)
    found = triton(
        query, bank, exclude, k=3, scale=0.1,
        query_identity=identity, bank_identity=torch.ones(77, dtype=torch.int64, device=DEVICE),
    )  # fmt: skip
    assert (found.log_sum[:, :2] == -math.inf).all()
    assert (found.distances[:, :2] == math.inf).all()
    assert (found.indices[:, :2] == -1).all()
    poison = [torch.full_like(found.log_sum, math.nan), torch.full_like(found.distances, math.inf)]
    poison[0][:, 2:], poison[1][:, 2:] = 1.0, 1.0
    (gradient,) = torch.autograd.grad([found.log_sum, found.distances], query, poison)
    assert (gradient[:, :2] == 0).all()
    assert gradient[:, 2:].isfinite().all()
    assert (gradient[:, 2:] != 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_far_slots_underflow_without_harm(dtype):
    query = torch.tensor([[[1e4, 0.0], [0.0, 3e4]]], device=DEVICE)
    bank = torch.tensor([[[0.0, 0.0], [0.0, -1e3], [-2e4, 0.0]]], device=DEVICE, dtype=dtype)
    exclude = torch.tensor([-1, 0], device=DEVICE)
    found = triton(query, bank, exclude, k=2, scale=1.0)
    expected = nearest_parts(query, bank, exclude, k=2, scale=1.0)
    assert found.log_sum.max() < -9e7
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.log_sum, expected.log_sum, rtol=1e-6, atol=0)


def test_bank_of_any_strides_is_read_in_place():
    query, bank, exclude = whole_numbers(ODD)
    expected = nearest_parts(query, bank, exclude, k=3, scale=0.1)
    turned = bank.transpose(0, 2).contiguous().transpose(0, 2)
    torch.testing.assert_close(triton(query.mT.contiguous().mT, turned, exclude, k=3, scale=0.1), expected)
    one = bank[:1].expand(2, -1, -1)
    expected = nearest_parts(query, one, exclude, k=3, scale=0.1)
    torch.testing.assert_close(triton(query, one, exclude, k=3, scale=0.1), expected)


@pytest.mark.parametrize(
    "strides",
    [(2**30 + 1, 7, 1), (3, 2**27 + 1, 1), (20, 1, 2**30 + 7)],
    ids=["parts", "slots", "dimensions"],
)
def test_addresses_beyond_32_bits(strides):
    """Slots more than 2^31 elements apart, in memory that is reserved but never touched between them.

    Each stride fits 32 bits (where it can) and its multiples do not. The queries ask for the farthest slots.
    """
    _, bank, exclude = whole_numbers(NearestPartsCase("far", parts=3, batch=2, slots=20, dim=3, k=2))
    query, exclude = bank[:, -2:].clone(), torch.full_like(exclude, -1)
    reach = sum((size - 1) * stride for size, stride in zip(bank.shape, strides, strict=True)) + 1
    assert reach > 2**31
    storage = torch.UntypedStorage(2 * reach, device=DEVICE)
    apart = torch.tensor([], dtype=torch.float16, device=DEVICE).set_(storage, 0, bank.shape, strides)
    apart.copy_(bank)
    query.requires_grad_()
    found = triton(query, apart, exclude, k=2, scale=0.1)
    expected = nearest_parts(query, bank, exclude, k=2, scale=0.1)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)
    gradients = [torch.autograd.grad(objective(result), query)[0] for result in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_shards_merge_into_the_whole():
    query, bank, exclude = whole_numbers(ODD)
    whole = triton(query, bank, exclude, k=3, scale=0.1)
    shards = [
        triton(query, bank[:, start:stop], exclude, k=3, scale=0.1, offset=start)
        for start, stop in ((2, 77), (0, 2))
    ]
    merged = merge_nearest(shards)
    assert torch.equal(merged.indices, whole.indices)
    torch.testing.assert_close(merged, whole)


@pytest.mark.parametrize(("queries", "slots"), [(16, 16), (64, 32), (64, 64)])
def test_tile_sizes_change_nothing(queries, slots):
    query, bank, exclude = whole_numbers(ODD)
    arguments = dict.fromkeys(("squared_norms", "master", "query_identity", "bank_identity"))
    arguments |= dict(k=3, scale=0.1, offset=0, save=True)
    tiles = triton_kernels.Tiles(queries=queries, slots=slots, chunk=16, warps=4, stages=1)
    found, saved = triton_kernels.nearest_parts_triton(query, bank, exclude, **arguments, tiles=tiles)
    expected, expected_saved = triton_kernels.nearest_parts_triton(query, bank, exclude, **arguments)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(saved, expected_saved)


def test_repeated_searches_are_equal_to_the_bit():
    query, bank, exclude = make(ODD, torch.bfloat16)
    query.requires_grad_()
    first, second = (triton(query, bank, exclude, k=3, scale=0.1) for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert torch.equal(*(torch.autograd.grad(objective(found), query)[0] for found in (first, second)))


def test_compiles_into_one_graph():
    query, bank, exclude = make(ODD, torch.float32)

    def loss(query: Tensor) -> Tensor:
        return objective(triton(query, bank, exclude, k=3, scale=0.1))

    query.requires_grad_()
    expected = loss(query)
    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(query)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(value, query)[0] for value in (found, expected)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 33}, "k: 33, expected at most 32 with impl='triton'"),
        ({"query": torch.zeros(1, 2, 3).double()}, "query: dtype torch.float64, expected float32 or less"),
        ({"bank": torch.zeros(1, 4, 3).double()}, "bank: dtype torch.float64, expected float32 or less"),
        ({"query": torch.zeros(1, 2, 1537), "bank": torch.zeros(1, 4, 1537)},
         "query: D: 1537, expected at most 1536 with impl='triton'"),
        ({"bank": torch.zeros(1, 1, 3).expand(1, 2**30 + 1, 3)},
         "bank: M: 1073741825, expected at most 1073741824 with impl='triton'"),
    ],
)  # fmt: skip
def test_limits_are_named(change, message):
    arguments = {"query": torch.zeros(1, 2, 3), "bank": torch.zeros(1, 4, 3), "exclude": torch.tensor([0, 1])}
    arguments = {name: value.to(DEVICE) for name, value in (arguments | change).items() if name != "k"}
    with pytest.raises(ValueError, match=message):
        triton(**arguments, k=change.get("k", 2), scale=0.1)
