"""The reference against the definition in float64, and the public function: errors, autograd, compile, shards."""

import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.cases import NEAREST_PARTS_SMALL, NearestPartsCase
from kernels.nearest_parts import NearestParts, merge_nearest, nearest_parts, reference

Inputs = tuple[Tensor, Tensor, Tensor]  # query [P, B, D], bank [P, M, D], exclude [B]


def definition(
    query: Tensor, bank: Tensor, exclude: Tensor, *, k: int, scale: float, forbidden: Tensor | None = None
) -> NearestParts:
    """By the definition and in float64: every distance from the difference, every row sorted."""
    distances = (query.double()[:, :, None] - bank.double()[:, None]).square().sum(-1)  # [P, B, M]
    own = torch.arange(bank.shape[1]) == exclude[:, None]
    distances = distances.masked_fill(own if forbidden is None else own | forbidden, math.inf)
    ordered, order = distances.sort(dim=-1, stable=True)
    missing = (0, max(0, k - bank.shape[1]))
    nearest = torch.nn.functional.pad(ordered[..., :k], missing, value=math.inf)
    indices = torch.nn.functional.pad(order[..., :k], missing).masked_fill(nearest.isinf(), -1)
    return NearestParts(torch.logsumexp(-scale * distances, -1), nearest, indices)


def objective(found: NearestParts) -> Tensor:
    """A number that depends on all that is differentiable and finite, with a different weight for each entry."""
    weight = 1 / torch.arange(2, 2 + found.distances.shape[-1])
    near = torch.where(found.indices >= 0, found.distances.double(), 0.0) * weight
    total = torch.where(found.log_sum.isinf(), 0.0, found.log_sum.double())
    return (total * 3).sin().sum() + near.sum()


def make(case: NearestPartsCase, dtype: torch.dtype, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(case.parts, case.batch, case.dim, generator=generator).to(dtype)
    bank = torch.randn(case.parts, case.slots, case.dim, generator=generator).to(dtype)
    exclude = torch.randint(-1, case.slots, (case.batch,), generator=generator)
    return query, bank, exclude


def whole_numbers(case: NearestPartsCase, seed: int = 0) -> Inputs:
    """Many equal vectors, all arithmetic exact: ties are ties."""
    query, bank, exclude = make(case, torch.float32, seed)
    return query.round(), bank.round().clamp(-1, 1), exclude


def gradient(found: NearestParts, query: Tensor) -> Tensor:
    return torch.autograd.grad(objective(found), query)[0]


@pytest.fixture(params=[1 << 23, 64], ids=["one chunk", "chunks"])
def chunks(request, monkeypatch):
    """64 elements and the least chunk of 64 slots: a bank of more slots is read in several."""
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", request.param)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", NEAREST_PARTS_SMALL, ids=lambda case: case.name)
def test_output_and_gradient_match_the_definition(case, dtype):
    query, bank, exclude = make(case, dtype)
    query.requires_grad_()
    found = nearest_parts(query, bank, exclude, k=case.k, scale=0.1)
    expected = definition(query, bank, exclude, k=case.k, scale=0.1)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 * case.dim**0.5
    assert found.log_sum.dtype == found.distances.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.distances.double(), expected.distances, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.log_sum.double(), expected.log_sum, rtol=tolerance, atol=tolerance)
    rounding = max(tolerance, torch.finfo(dtype).eps)  # of the gradient to the query's dtype
    expected_gradient = gradient(expected, query).nan_to_num(0.0)
    torch.testing.assert_close(gradient(found, query), expected_gradient, rtol=2 * rounding, atol=4 * rounding)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 4, 33])
def test_ties_come_in_order_of_slot(k, seed):
    case = NearestPartsCase("ties", parts=2, batch=5, slots=3000, dim=4, k=k)
    inputs = whole_numbers(case, seed)
    found = nearest_parts(*inputs, k=k, scale=0.1)
    expected = definition(*inputs, k=k, scale=0.1)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances.double(), expected.distances)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    values=st.lists(st.integers(0, 3) | st.just(math.inf), min_size=1, max_size=700),
    k=st.integers(1, 5),
    repeat=st.integers(1, 3),
)
def test_smallest_is_the_head_of_a_stable_sort(values, k, repeat):
    row = torch.tensor(values * repeat, dtype=torch.float32)
    found, indices = reference.smallest(row[None], k)
    ordered = row[None].sort(dim=-1, stable=True)
    assert torch.equal(found, ordered.values[:, :k])
    assert torch.equal(indices, ordered.indices[:, :k])


@pytest.mark.usefixtures("chunks")
def test_nothing_allowed_gives_minus_infinity_and_no_gradient():
    query = torch.randn(2, 3, 4, requires_grad=True)
    identity = torch.tensor([7, 7, 8])
    found = nearest_parts(
        query, torch.randn(2, 100, 4), torch.tensor([-1, 5, 0]), k=2, scale=0.1,
        query_identity=identity, bank_identity=torch.full((100,), 7),
    )  # fmt: skip
    assert torch.equal(found.log_sum[:, :2], torch.full((2, 2), -math.inf))
    assert torch.equal(found.distances[:, :2], torch.full((2, 2, 2), math.inf))
    assert torch.equal(found.indices[:, :2], torch.full((2, 2, 2), -1))
    assert found.log_sum[:, 2].isfinite().all()
    # What arrives at these entries is NaN or infinite in a loss over them: it must not get through.
    poison = [torch.full_like(found.log_sum, math.nan), torch.full_like(found.distances, math.inf)]
    gradient = torch.autograd.grad([found.log_sum, found.distances], query, poison)[0]
    assert torch.equal(gradient[:, :2], torch.zeros(2, 2, 4))


@pytest.mark.usefixtures("chunks")
def test_own_identity_is_left_out():
    case = NearestPartsCase("identities", parts=2, batch=9, slots=200, dim=6, k=4)
    query, bank, exclude = make(case, torch.float64)
    identity, owners = torch.randint(0, 4, (9,)), torch.randint(0, 4, (200,))
    found = nearest_parts(query, bank, exclude, k=4, scale=0.1, query_identity=identity, bank_identity=owners)
    expected = definition(query, bank, exclude, k=4, scale=0.1, forbidden=identity[:, None] == owners)
    torch.testing.assert_close(found, expected)


def test_squared_norms_are_used():
    query, bank, exclude = make(NEAREST_PARTS_SMALL[3], torch.float64)
    norms = bank.square().sum(-1)
    expected = nearest_parts(query, bank, exclude, k=3, scale=0.1)
    torch.testing.assert_close(nearest_parts(query, bank, exclude, k=3, scale=0.1, squared_norms=norms), expected)
    shifted = nearest_parts(query, bank, exclude, k=3, scale=0.1, squared_norms=norms + 1)
    torch.testing.assert_close(shifted.distances, expected.distances + 1)


def test_far_slots_underflow_without_harm():
    """exp(-scale * d) is 0 in float32 for every slot, and so are the weights of all but the nearest."""
    query = torch.tensor([[[1e4, 0.0], [0.0, 3e4]]], requires_grad=True)
    bank = torch.tensor([[[0.0, 0.0], [0.0, -1e3], [-2e4, 0.0]]])
    found = nearest_parts(query, bank, torch.tensor([-1, 0]), k=2, scale=1.0)
    expected = definition(query, bank, torch.tensor([-1, 0]), k=2, scale=1.0)
    torch.testing.assert_close(found.log_sum.double(), expected.log_sum, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient(found, query), gradient(expected, query), rtol=1e-4, atol=1)


def test_gradcheck():
    query, bank, exclude = make(NearestPartsCase("gradcheck", 2, 3, 70, 4, k=3), torch.float64)
    query.requires_grad_()
    for chunk in (1 << 23, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "CHUNK_ELEMENTS", chunk)
            assert torch.autograd.gradcheck(
                lambda query: nearest_parts(query, bank, exclude, k=3, scale=0.3)[:2], query
            )


def test_second_derivative_is_refused():
    query, bank, exclude = make(NEAREST_PARTS_SMALL[3], torch.float64)
    query.requires_grad_()
    total = nearest_parts(query, bank, exclude, k=3, scale=0.1).log_sum.sum()
    (first,) = torch.autograd.grad(total, query, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        torch.autograd.grad(first.sum(), query)


def test_bank_changed_before_the_backward_does_no_harm():
    query, bank, exclude = make(NEAREST_PARTS_SMALL[3], torch.float32)
    query.requires_grad_()
    expected = gradient(nearest_parts(query, bank, exclude, k=3, scale=0.1), query)
    found = nearest_parts(query, bank, exclude, k=3, scale=0.1)
    bank.fill_(math.nan)
    assert torch.equal(gradient(found, query), expected)


def test_strides_do_not_matter():
    query, bank, exclude = make(NEAREST_PARTS_SMALL[3], torch.float32)
    expected = nearest_parts(query, bank, exclude, k=3, scale=0.1)
    turned = (query.mT.contiguous().mT, bank.transpose(0, 2).contiguous().transpose(0, 2), exclude)
    torch.testing.assert_close(nearest_parts(*turned, k=3, scale=0.1), expected)
    one = bank[:1].expand(3, -1, -1)
    torch.testing.assert_close(
        nearest_parts(query, one, exclude, k=3, scale=0.1),
        nearest_parts(query, one.contiguous(), exclude, k=3, scale=0.1),
    )


@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_rounded_bank_with_its_master_finds_the_exact_neighbours(impl, dtype):
    """Order and distances of the k nearest among those of the copy, and the gradient, are those of the master."""
    query, master, exclude = make(NearestPartsCase("master", 2, 5, 150, 24, k=7), torch.float32)
    master[:, :10] = query[:, :1] + 0.3 * master[:, :10]  # near the first query
    master[:, 60:70] = master[:, :10] + 1e-4 * (query[:, :1] - master[:, :10])  # a little nearer: ties in bfloat16
    query.requires_grad_()
    found = nearest_parts(
        query, master.to(dtype), exclude + 900, k=7, scale=0.1, master=master, offset=900, impl=impl
    )
    expected = definition(query, master, exclude, k=7, scale=0.1)
    assert torch.equal(found.indices, expected.indices + 900)
    torch.testing.assert_close(found.distances.double(), expected.distances, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found.log_sum.double(), expected.log_sum, rtol=0, atol=0.02)
    gradients = [
        torch.autograd.grad(one.log_sum.double().sum() + one.distances.double().sum(), query)[0]
        for one in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=0.01, atol=0.01)
    plain = nearest_parts(query, master.to(dtype), exclude, k=7, scale=0.1)
    if dtype == torch.bfloat16:
        assert not torch.equal(plain.indices, expected.indices)  # the copy alone gets them wrong


@pytest.mark.parametrize("impl", ["reference", "triton"])
def test_many_neighbours_of_a_rounded_bank_are_exact_too(impl):
    query, master, exclude = make(NearestPartsCase("many", 1, 8, 1000, 24, k=32), torch.float32)
    expected = definition(query, master, exclude, k=32, scale=0.1)
    plain = nearest_parts(query, master.bfloat16(), exclude, k=32, scale=0.1).indices.sort(-1).values
    assert not torch.equal(plain, expected.indices.sort(-1).values)  # the copy alone finds others, in any order
    found = nearest_parts(query, master.bfloat16(), exclude, k=32, scale=0.1, master=master, impl=impl)
    assert torch.equal(found.indices, expected.indices)


@pytest.mark.parametrize("impl", ["reference", "triton"])
def test_fewer_slots_than_candidates(impl):
    query, master, exclude = make(NearestPartsCase("few", 1, 3, 4, 6, k=5), torch.float32)
    found = nearest_parts(query, master.bfloat16(), exclude, k=5, scale=0.1, master=master, impl=impl)
    expected = definition(query, master, exclude, k=5, scale=0.1)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.distances.double(), expected.distances, rtol=1e-6, atol=1e-6)


def test_threads_change_nothing():
    """A bank long enough to be divided among threads; everything but the last bits of the sum is equal."""
    query, bank, exclude = whole_numbers(NearestPartsCase("threads", 3, 4, 9000, 5, k=4))
    query.requires_grad_()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found = nearest_parts(query, bank, exclude, k=4, scale=0.1)
        results.append((found, gradient(found, query)))
        assert torch.get_num_threads() == threads
    (one, one_gradient), *others = results
    for found, other_gradient in others:
        assert torch.equal(found.indices, one.indices)
        assert torch.equal(found.distances, one.distances)
        torch.testing.assert_close(found.log_sum, one.log_sum)
        torch.testing.assert_close(other_gradient, one_gradient)


@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_shards_merge_into_the_whole(scale):
    case = NearestPartsCase("shards", parts=2, batch=6, slots=90, dim=4, k=7)
    query, bank, exclude = whole_numbers(case)
    query.requires_grad_()
    whole = nearest_parts(query, bank, exclude, k=7, scale=scale)
    shards = [
        nearest_parts(query, bank[:, start:stop], exclude, k=7, scale=scale, offset=start)
        for start, stop in ((40, 90), (0, 3), (3, 40))
    ]
    merged = merge_nearest(shards)
    assert torch.equal(merged.indices, whole.indices)
    torch.testing.assert_close(merged, whole)
    torch.testing.assert_close(gradient(merged, query), gradient(whole, query))


def test_shards_without_any_allowed_slot_merge_with_zero_gradient():
    query = torch.randn(1, 1, 4, requires_grad=True)
    shard = nearest_parts(query, torch.randn(1, 1, 4), torch.tensor([0]), k=2, scale=0.1)
    merged = merge_nearest([shard, shard])
    assert merged.log_sum.item() == -math.inf
    assert merged.indices.tolist() == [[[-1, -1]]]
    assert torch.equal(torch.autograd.grad(merged.log_sum.sum(), query)[0], torch.zeros(1, 1, 4))


def test_merge_refuses_what_does_not_fit():
    query, bank, exclude = make(NEAREST_PARTS_SMALL[3], torch.float32)
    parts = [nearest_parts(query, bank, exclude, k=k, scale=0.1) for k in (3, 2)]
    with pytest.raises(ValueError, match=r"parts\[1\]: distances have shape \(3, 7, 2\), expected .*\(3, 7, 3\)"):
        merge_nearest(parts)
    with pytest.raises(ValueError, match="parts: expected at least one result"):
        merge_nearest([])


def loss(query: Tensor, bank: Tensor, exclude: Tensor) -> Tensor:
    found = nearest_parts(query, bank, exclude, k=3, scale=0.1)
    return (found.log_sum - torch.logsumexp(-0.1 * found.distances, -1)).mean()


def test_compiles_into_one_graph_and_ignores_autocast():
    query, bank, exclude = make(NEAREST_PARTS_SMALL[3], torch.float32)
    query.requires_grad_()
    expected = loss(query, bank, exclude)
    expected_gradient = torch.autograd.grad(expected, query)[0]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        for function in (loss, compiled):
            value = function(query, bank, exclude)
            assert torch.equal(value, expected)
            assert torch.equal(torch.autograd.grad(value, query)[0], expected_gradient)


def test_exports_with_a_dynamic_batch():
    class Search(torch.nn.Module):
        def forward(self, query: Tensor, bank: Tensor, exclude: Tensor) -> Tensor:
            return nearest_parts(query, bank, exclude, k=3, scale=0.1).distances

    inputs = make(NEAREST_PARTS_SMALL[3], torch.float32)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(Search(), inputs, dynamic_shapes=({1: batch}, None, {0: batch}))
    fewer = (inputs[0][:, :4], inputs[1], inputs[2][:4])
    assert torch.equal(program.module()(*fewer), Search()(*fewer))


@pytest.mark.parametrize("save", [False, True])
def test_operator_is_registered_soundly(save):
    query, bank, exclude = make(NEAREST_PARTS_SMALL[3], torch.float32)
    query.requires_grad_(save)
    torch.library.opcheck(
        torch.ops.pat_kernels.nearest_parts.default,
        (query, bank, exclude, 3, 0.1, None, None, None, None, 0, save, "reference"),
    )


GOOD = make(NEAREST_PARTS_SMALL[3], torch.float32)  # P=3, B=7, M=101, D=19


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": GOOD[0][0]}, r"query: shape \(7, 19\), expected \[P, B, D\], none of them 0"),
        ({"query": GOOD[0][:, :0]}, r"query: shape \(3, 0, 19\), expected \[P, B, D\]"),
        ({"query": GOOD[0].int()}, r"query: dtype torch.int32, expected one of torch.float16"),
        ({"bank": GOOD[1][0]}, r"bank: shape \(101, 19\), expected \[3, M, 19\] with M >= 1 to match query"),
        ({"bank": GOOD[1][:2]}, r"bank: shape \(2, 101, 19\), expected \[3, M, 19\]"),
        ({"bank": GOOD[1][..., 1:]}, r"bank: shape \(3, 101, 18\), expected \[3, M, 19\]"),
        ({"bank": GOOD[1][:, :0]}, r"bank: shape \(3, 0, 19\), expected \[3, M, 19\] with M >= 1"),
        ({"bank": GOOD[1].long()}, r"bank: dtype torch.int64, expected one of torch.float16"),
        ({"bank": GOOD[1].to("meta")}, r"bank: on meta, expected cpu, where query is"),
        ({"exclude": GOOD[2][1:]}, r"exclude: shape \(6,\), expected \(7,\)"),
        ({"exclude": GOOD[2].int()}, r"exclude: dtype torch.int32, expected one of torch.int64"),
        ({"exclude": GOOD[2].to("meta")}, r"exclude: on meta, expected cpu"),
        ({"squared_norms": torch.ones(3, 100)}, r"squared_norms: shape \(3, 100\), expected \(3, 101\)"),
        ({"squared_norms": torch.ones(3, 101).long()}, r"squared_norms: dtype torch.int64, expected one of"),
        ({"master": GOOD[1]}, r"master: given with a bank of torch.float32, expected a bank in half precision"),
        ({"master": GOOD[1].double()}, r"master: torch.float64 \(3, 101, 19\) on cpu, expected float32"),
        ({"master": GOOD[1][:, 1:]}, r"master: .*\(3, 100, 19\) on cpu, expected float32 \(3, 101, 19\)"),
        ({"query_identity": GOOD[2]}, r"bank_identity: missing, expected together with query_identity"),
        ({"bank_identity": GOOD[2]}, r"query_identity: missing, expected together with bank_identity"),
        ({"query_identity": GOOD[2], "bank_identity": GOOD[2]}, r"bank_identity: shape \(7,\), expected \(101,\)"),
        ({"k": 0}, r"k: 0, expected a whole number of neighbours, at least 1"),
        ({"k": 2.5}, r"k: 2.5, expected a whole number"),
        ({"scale": 0.0}, r"scale: 0.0, expected a positive finite number"),
        ({"scale": math.nan}, r"scale: nan, expected a positive finite number"),
        ({"offset": -1}, r"offset: -1, expected the number of the first slot, at least 0"),
        ({"impl": "cuda"}, r"impl: 'cuda', expected one of 'reference', 'triton'"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"query": GOOD[0], "bank": GOOD[1], "exclude": GOOD[2], "k": 3, "scale": 0.1} | change
    with pytest.raises(ValueError, match=message):
        nearest_parts(**arguments)


def test_each_thread_of_a_search_works_alone():
    """Each had as many helpers as the main thread has, and two of them took four threads."""
    torch.set_num_threads(2)
    workers = reference._workers(os.getpid(), 2)
    assert set(workers.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert torch.get_num_threads() == 2
