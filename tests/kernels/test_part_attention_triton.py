"""The Triton kernels against float64: output and all gradients, in Triton's interpreter or on a GPU."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.cases import PART_ATTENTION_LARGE, PART_ATTENTION_SMALL, PartAttentionCase
from kernels.part_attention import api as operators
from kernels.part_attention import part_attention
from kernels.part_attention.tiles import MOST_SPECIAL, backward_candidates, cut, forward_candidates

pytest.importorskip("kernels.part_attention.triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Fresh memory holds NaN, so that what a kernel forgets to write shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.zeros(1).new_empty(100).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def random_regions(case: PartAttentionCase, generator: torch.Generator) -> Tensor:
    """Any regions, empty ones among them: int32 [B, P, 4]."""
    edges = [
        torch.randint(0, side + 1, (case.batch, case.parts, 2), generator=generator).sort(-1).values
        for side in case.grid
    ]
    return torch.cat(edges, -1).int()


def inputs(case: PartAttentionCase, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A packed projection [B, N, 3, H, D] with numbers of `dtype`, and regions."""
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(case.batch, case.tokens, 3, case.heads, case.dim, generator=generator)
    return qkv.to(dtype), random_regions(case, generator)


def attend(qkv: Tensor, regions: Tensor, case: PartAttentionCase, impl: str, scale: float | None = None) -> Tensor:
    """q and kv as views of one projection, as in the model."""
    q, kv = qkv.split([1, 2], 2)
    return part_attention(
        q[:, : case.queries, 0], kv, regions, case.grid, registers=case.registers, scale=scale, impl=impl
    )


def with_gradient(function: Callable[[Tensor], Tensor], qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Output and gradient of the projection, for an upstream gradient without structure."""
    qkv = qkv.detach().clone().requires_grad_()
    out = function(qkv)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    (gradient,) = torch.autograd.grad(out, qkv, upstream)
    return out.detach(), gradient


def assert_as_exact_as_eager(
    qkv: Tensor, regions: Tensor, case: PartAttentionCase, scale: float | None = None
) -> None:
    """The kernel's largest error against float64 is at most twice eager torch's in the same dtype, plus rounding.

    Two roundings of the largest number to the dtype (in bfloat16 the interpreter cuts off instead, which does not
    average out), and a few in float32, where eager torch is lucky to be exact over a handful of keys.
    """
    exact = with_gradient(lambda x: attend(x, regions, case, "reference", scale), qkv.double())
    eager = with_gradient(lambda x: attend(x, regions, case, "reference", scale), qkv)
    on_device = qkv.to(DEVICE), regions.to(DEVICE)
    ours = with_gradient(lambda x: attend(x, on_device[1], case, "triton", scale), on_device[0])
    for what, truth, theirs, mine in zip(("output", "gradient"), exact, eager, ours, strict=True):
        assert mine.isfinite().all(), what
        rounding = (2 * torch.finfo(qkv.dtype).eps + 8 * torch.finfo(torch.float32).eps) * truth.abs().max()
        allowed = 2 * (theirs - truth).abs().max() + rounding
        assert (mine.cpu() - truth).abs().max() <= allowed, what


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*product(PART_ATTENTION_SMALL, DTYPES[:2]), *product(PART_ATTENTION_SMALL[:2], DTYPES[2:])],
    ids=lambda value: value.name if isinstance(value, PartAttentionCase) else str(value),
)
def test_as_exact_as_eager(case: PartAttentionCase, dtype: torch.dtype) -> None:
    assert_as_exact_as_eager(*inputs(case, dtype), case)


REGIONS = {
    "bands": [(0, 4, 0, 5), (2, 6, 0, 5), (4, 8, 0, 5)],
    "edges": [(0, 1, 0, 5), (7, 8, 0, 5), (0, 8, 0, 1), (0, 8, 4, 5)],
    "one patch at each corner": [(0, 1, 0, 1), (0, 1, 4, 5), (7, 8, 0, 1), (7, 8, 4, 5)],
    "empty": [(0, 0, 0, 5), (8, 8, 5, 5), (3, 4, 2, 2)],
    "whole grid": [(0, 8, 0, 5)] * 2,
    "overlapping": [(0, 6, 0, 3), (2, 8, 1, 5), (3, 5, 2, 3)],
}


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("queries", [1, "1+P", None])
def test_regions(name: str, queries: int | str | None) -> None:
    """40 patches: a body of 32 and a head with the other 8, so that regions cross from one to the other."""
    parts = len(REGIONS[name])
    asking = 1 + parts if queries == "1+P" else queries
    case = PartAttentionCase(name, 1, 1, 32, (8, 5), parts=parts, queries=asking)  # type: ignore[arg-type]
    qkv, _ = inputs(case, torch.float32)
    assert_as_exact_as_eager(qkv, torch.tensor([REGIONS[name]], dtype=torch.int32), case)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_logits(dtype: torch.dtype) -> None:
    """Logits of +-1e4: rows decided by one key, and rows where all keys but the hidden ones are out of reach."""
    case = PartAttentionCase("logits", 1, 1, 32, (8, 5))
    qkv, regions = inputs(case, dtype)
    qkv[:, :, :2] = qkv[:, :, :2].sign() * 42.0  # 32 * 42 * 42 * 32 ** -0.5 is 9978
    assert_as_exact_as_eager(qkv, regions, case)


@st.composite
def cases(draw: st.DrawFn) -> PartAttentionCase:
    grid = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    batch, dim = draw(st.integers(1, 2)), draw(st.sampled_from([32, 48]))
    parts, registers = draw(st.integers(0, 8)), draw(st.integers(0, 9))
    case = PartAttentionCase("drawn", batch, 1, dim, grid, parts, registers)
    return replace(case, queries=draw(st.integers(1, case.tokens)))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(cases(), st.integers(0, 1000), st.sampled_from([torch.float32, torch.float16]))
def test_any_layout(case: PartAttentionCase, seed: int, dtype: torch.dtype) -> None:
    assert_as_exact_as_eager(*inputs(case, dtype, seed), case, scale=0.3)


def test_strides_of_any_kind() -> None:
    """Heads before tokens, the last dimension not dense, images repeated: read where they lie."""
    case = PartAttentionCase("strides", 2, 2, 32, (5, 4))
    qkv, regions = inputs(case, torch.float32)
    qkv = qkv[:1].expand(2, -1, -1, -1, -1)
    dense = attend(qkv.contiguous().to(DEVICE), regions.to(DEVICE), case, "triton")
    q, kv = qkv[:, :, 0], qkv[:, :, 1:]
    odd_q = q.transpose(1, 2).contiguous().transpose(1, 2)
    odd_kv = kv.unsqueeze(-1).repeat(1, 1, 1, 1, 1, 3).flatten(-2)[..., ::3]
    assert odd_kv.stride(-1) == 3
    odd = part_attention(odd_q.to(DEVICE), odd_kv.to(DEVICE), regions.to(DEVICE), case.grid, impl="triton")
    assert torch.equal(odd, dense)
    assert torch.equal(attend(qkv.to(DEVICE), regions.to(DEVICE), case, "triton"), dense)


@pytest.mark.parametrize("far", ["tokens", "heads", "dimensions"])
def test_addresses_beyond_32_bits(far: str) -> None:
    """Each stride fits 32 bits and its multiples do not, in memory that is reserved but never touched between."""
    case = PartAttentionCase("far", 1, 3, 32, (4, 4))
    qkv, regions = inputs(case, torch.float16)
    dense = attend(qkv.to(DEVICE), regions.to(DEVICE), case, "triton")
    axis = {"tokens": 1, "heads": 3, "dimensions": 4}[far]
    strides = list(qkv.movedim(axis, 0).contiguous().movedim(0, axis).stride())
    strides[axis] = (2**31 - 1) // (qkv.shape[axis] - 1) + 100
    reach = sum((size - 1) * stride for size, stride in zip(qkv.shape, strides, strict=True)) + 1
    assert strides[axis] < 2**31 < reach
    storage = torch.UntypedStorage(2 * reach, device=DEVICE)
    apart = torch.tensor([], dtype=torch.float16, device=DEVICE).set_(storage, 0, qkv.shape, strides)
    apart.copy_(qkv)
    assert torch.equal(attend(apart, regions.to(DEVICE), case, "triton"), dense)


def test_shared_regions_and_same_bits_in_every_run() -> None:
    case = PartAttentionCase("shared", 2, 1, 32, (8, 5))
    qkv, regions = inputs(case, torch.float16)
    qkv, shared = qkv.to(DEVICE), regions[:1].to(DEVICE)
    once = with_gradient(lambda x: attend(x, shared, case, "triton"), qkv)
    again = with_gradient(lambda x: attend(x, shared.expand(2, -1, -1), case, "triton"), qkv)
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))


def test_hidden_patches_weigh_exactly_nothing() -> None:
    case = PartAttentionCase("hidden", 1, 1, 32, (8, 5))
    qkv, _ = inputs(case, torch.float32)
    regions = torch.tensor([REGIONS["bands"]], dtype=torch.int32, device=DEVICE)
    changed = qkv.clone()
    changed[:, 4 + 20 :, 1:] = 1e30  # from row 4 on, outside the first part's band
    before, after = (attend(x.to(DEVICE), regions, case, "triton") for x in (qkv, changed))
    assert torch.equal(before[:, 1], after[:, 1])
    assert not torch.equal(before[:, 2], after[:, 2])


def test_is_an_operator_of_torch() -> None:
    """Schema, fake implementation, autograd and tracing, as torch checks custom operators; no graph break."""
    case = PartAttentionCase("operator", 2, 1, 32, (4, 4))
    qkv, regions = (x.to(DEVICE) for x in inputs(case, torch.float32))
    q, kv = qkv[:, :, 0], qkv[:, :, 1:]
    leaves = q.clone().requires_grad_(), kv.clone().requires_grad_()
    torch.library.opcheck(operators._forward, (*leaves, regions, 4, 0, 0.2))
    out, sums = operators._forward(q, kv, regions, 4, 0, 0.2)
    torch.library.opcheck(operators._backward, (out, q, kv, regions, out, sums, 4, 0, 0.2))

    def function(qkv: Tensor) -> Tensor:
        return attend(qkv, regions, case, "triton")

    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    for one, other in zip(with_gradient(compiled, qkv), with_gradient(function, qkv), strict=True):
        assert torch.equal(one, other)


def test_autocast() -> None:
    case = PartAttentionCase("autocast", 1, 1, 32, (4, 4))
    qkv, regions = (x.to(DEVICE) for x in inputs(case, torch.float32))
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        narrow, gradient = with_gradient(lambda x: attend(x, regions, case, "triton"), qkv)
    assert narrow.dtype == torch.bfloat16
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(narrow.float(), attend(qkv, regions, case, "reference"), rtol=0.03, atol=0.03)


def test_empty_batch() -> None:
    case = PartAttentionCase("empty", 0, 1, 32, (4, 4))
    qkv, regions = (x.to(DEVICE) for x in inputs(case, torch.float32))
    out, gradient = with_gradient(lambda x: attend(x, regions, case, "triton"), qkv)
    assert out.shape == (0, 20, 32)
    assert gradient.shape == qkv.shape


@pytest.mark.parametrize(
    ("case", "dtype", "message"),
    [
        (PartAttentionCase("dim", 1, 1, 40, (2, 2)), torch.float32, "q has head size 40; expected one of"),
        (PartAttentionCase("dtype", 1, 1, 32, (2, 2)), torch.float64, "q has dtype torch.float64; expected"),
        (PartAttentionCase("parts", 1, 1, 32, (2, 2), parts=9), torch.float32, "regions has 9 parts; expected at"),
    ],
    ids=lambda value: value.name if isinstance(value, PartAttentionCase) else "",
)
def test_refuses(case: PartAttentionCase, dtype: torch.dtype, message: str) -> None:
    qkv, regions = (x.to(DEVICE) for x in inputs(case, dtype))
    with pytest.raises(ValueError, match=message):
        attend(qkv, regions, case, "triton")


WASTE = {"16x8": 0.160, "14x14": 0.075, "16x16": 0.086, "24x8": 0.112}


@pytest.mark.parametrize("case", PART_ATTENTION_LARGE, ids=lambda case: case.name)
def test_little_padding_at_the_standard_shapes(case: PartAttentionCase) -> None:
    """As README.md says; tiles of 64 without a head of their own would waste 53 % of the work at 132 tokens."""
    waste = cut(case.tokens, 1 + case.parts + case.registers).waste
    assert waste == pytest.approx(WASTE[f"{case.grid[0]}x{case.grid[1]}"], abs=0.001)


def test_every_token_is_in_one_tile() -> None:
    for special in (1, 4, 13, MOST_SPECIAL):
        for patches in range(1, 600):
            one = cut(special + patches, special)
            assert one.head + one.body == special + patches
            assert special <= one.head <= one.rows
            assert one.rows <= 32
            for dim, bits in product((32, 64, 128), (16, 32)):
                for tiles in forward_candidates(dim, bits, one) + backward_candidates(dim, bits, one, "sm_90"):
                    assert one.body % tiles.block == one.body % tiles.step == 0
                    assert not tiles.whole or (tiles.block == one.body and special + patches <= 144)


def test_too_many_tokens_before_the_patches() -> None:
    case = PartAttentionCase("registers", 1, 1, 32, (4, 4), registers=MOST_SPECIAL)
    qkv, regions = (x.to(DEVICE) for x in inputs(case, torch.float16))
    with pytest.raises(ValueError, match="21 tokens are cls, parts and registers; expected at most 17"):
        attend(qkv, regions, case, "triton")


@pytest.mark.parametrize("grid", [(16, 8), (8, 8), (8, 4)], ids=str)
@pytest.mark.parametrize("queries", [None, 4, 20])
def test_one_program_for_a_whole_head(grid: tuple[int, int], queries: int | None) -> None:
    """Up to 144 tokens in half precision; every choice of tiles gives what the others give."""
    case = PartAttentionCase("whole", 1, 1, 32, grid, registers=2, queries=queries)
    where = cut(case.tokens, 6)
    assert where.whole
    assert forward_candidates(32, 16, where)[0].whole
    assert backward_candidates(32, 16, where, "sm_90")[0].whole
    assert not backward_candidates(32, 16, where, "sm_87")[0].whole
    assert not any(
        tiles.whole for tiles in backward_candidates(128, 16, where, "sm_90") + forward_candidates(64, 32, where)
    )
    assert_as_exact_as_eager(*inputs(case, torch.float16), case)


@pytest.mark.parametrize("patches", [(8, 4), (8, 10)], ids=["one step", "three steps"])
def test_weights_are_exact_at_logits_of_ten_thousand(patches: tuple[int, int]) -> None:
    """The sums are kept as a row's largest score and what remains: one logarithm of both is off by 1e-3 there."""
    case = PartAttentionCase("logits", 1, 1, 32, patches, parts=2)
    qkv, regions = inputs(case, torch.float32)
    qkv[:, :, :2] = qkv[:, :, :2].sign() * 42.0  # products are whole numbers, exact in float32
    qkv[:, ::3, 1] *= -1
    exact, eager, ours = (
        with_gradient(lambda x, impl=impl: attend(x, regions.to(x.device), case, impl), leaf)  # type: ignore[misc]
        for impl, leaf in (("reference", qkv.double()), ("reference", qkv), ("triton", qkv.to(DEVICE)))
    )
    for truth, theirs, mine in zip(exact, eager, ours, strict=True):
        allowed = 2 * (theirs - truth).norm() + 1e-6 * truth.norm()
        assert (mine.cpu() - truth).norm() <= allowed


def test_no_gradient_of_zeros_is_made_for_the_sums() -> None:
    """What makes the weights again is an output of the operator that nobody outside uses."""
    case = PartAttentionCase("zeros", 1, 1, 32, (4, 4))
    qkv, regions = (x.to(DEVICE) for x in inputs(case, torch.float32))
    real, seen = operators._gradient, []

    def watched(ctx, *gradients):
        seen.extend(gradients)
        return real(ctx, *gradients)

    operators._forward.register_autograd(watched, setup_context=operators._save)
    try:
        with_gradient(lambda x: operators._forward(x[:, :, 0], x[:, :, 1:], regions, 4, 0, 0.2)[0], qkv)
    finally:
        operators._forward.register_autograd(real, setup_context=operators._save)
    assert [gradient is None for gradient in seen] == [False, True]


def test_a_second_derivative_is_refused() -> None:
    case = PartAttentionCase("twice", 1, 1, 32, (4, 4))
    qkv, regions = (x.to(DEVICE) for x in inputs(case, torch.float32))
    qkv.requires_grad_()
    (gradient,) = torch.autograd.grad(attend(qkv, regions, case, "triton").sum(), qkv, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        gradient.sum().backward()
