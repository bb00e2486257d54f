"""The definition of part-masked attention, against a loop that spells it out, and what the door refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.part_attention import part_attention, visibility

Region = tuple[int, int, int, int]
TORCH_ONLY = ["reference", "sdpa"]


def sees(i: int, j: int, regions: list[Region], columns: int, registers: int) -> bool:
    """Visibility of one pair, in the words of the design."""
    parts = len(regions)
    kind = ["cls"] + ["part"] * parts + ["register"] * registers
    one, other = (kind[token] if token < len(kind) else "patch" for token in (i, j))
    if one == "cls" or other == "cls" or i == j:
        return True
    if one != "part" and other != "part":
        return True
    if {one, other} == {"part", "patch"}:
        part, patch = (i, j) if one == "part" else (j, i)
        row, column = divmod(patch - len(kind), columns)
        top, bottom, left, right = regions[part - 1]
        return top <= row < bottom and left <= column < right
    return False


def by_hand(q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float) -> Tensor:
    """One query at a time, over the keys that it sees and no others. [B, n, H*D]"""
    batch, queries, heads, dim = q.shape
    out = torch.empty(batch, queries, heads, dim, dtype=q.dtype)
    for b in range(batch):
        areas = [tuple(region) for region in regions[b % len(regions)].tolist()]
        for i in range(queries):
            keys = [j for j in range(kv.shape[1]) if sees(i, j, areas, columns, registers)]
            for h in range(heads):
                scores = [scale * math.fsum((q[b, i, h] * kv[b, j, 0, h]).tolist()) for j in keys]
                weights = [math.exp(score - max(scores)) for score in scores]
                values = kv[b, keys, 1, h]  # [keys, D]
                out[b, i, h] = (torch.tensor(weights, dtype=q.dtype) / sum(weights)) @ values
    return out.flatten(2)


def projection(batch: int, tokens: int, heads: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """q, k and v side by side, as a linear layer leaves them: [B, N, 3, H, D]."""
    generator = torch.Generator().manual_seed(tokens)
    return torch.randn(batch, tokens, 3, heads, dim, generator=generator, dtype=torch.float64).to(dtype)


REGIONS = {
    "bands": [(0, 2, 0, 3), (1, 3, 0, 3), (2, 4, 0, 3)],
    "edges": [(0, 1, 0, 3), (3, 4, 0, 3), (0, 4, 0, 1), (0, 4, 2, 3)],
    "corners": [(0, 1, 0, 1), (0, 1, 2, 3), (3, 4, 0, 1), (3, 4, 2, 3)],
    "empty": [(0, 0, 0, 3), (4, 4, 3, 3), (2, 3, 1, 1)],
    "whole grid": [(0, 4, 0, 3)],
    "overlapping": [(0, 3, 0, 2), (1, 4, 1, 3), (1, 3, 0, 3)],
    "no parts": [],
}


def as_tensor(*sets: list[Region]) -> Tensor:
    return torch.tensor(sets, dtype=torch.int32).reshape(len(sets), -1, 4)


@pytest.mark.parametrize("impl", TORCH_ONLY)
@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("name", REGIONS)
def test_equals_the_loop_over_pairs(impl: str, registers: int, name: str) -> None:
    regions = as_tensor(REGIONS[name])
    parts = regions.shape[1]
    qkv = projection(1, 1 + parts + registers + 12, 2, 4)
    for queries in {1, 1 + parts, qkv.shape[1]}:
        q, kv = qkv[:, :queries, 0], qkv[:, :, 1:]
        out = part_attention(q, kv, regions, (4, 3), registers=registers, scale=0.7, impl=impl)
        torch.testing.assert_close(out, by_hand(q, kv, regions, 3, registers, 0.7), rtol=1e-12, atol=1e-12)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, int], int, list[list[Region]]]:
    """Grid, registers, and the regions of one or two images."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    parts, images = draw(st.integers(0, 4)), draw(st.integers(1, 2))

    def edges(most: int) -> st.SearchStrategy[list[int]]:
        return st.lists(st.integers(0, most), min_size=2, max_size=2).map(sorted)

    sets = [
        [(*draw(edges(rows)), *draw(edges(columns))) for _ in range(parts)]  # type: ignore[misc]
        for _ in range(images)
    ]
    return (rows, columns), draw(st.integers(0, 3)), sets


@settings(derandomize=True, deadline=None, max_examples=60)
@given(layouts())
def test_visibility_of_any_layout(layout: tuple[tuple[int, int], int, list[list[Region]]]) -> None:
    grid, registers, sets = layout
    regions = as_tensor(*sets)
    tokens = 1 + regions.shape[1] + registers + grid[0] * grid[1]
    expected = torch.tensor(
        [[[sees(i, j, areas, grid[1], registers) for j in range(tokens)] for i in range(tokens)] for areas in sets]
    )
    for queries in {1, 1 + regions.shape[1], tokens}:
        seen = visibility(regions, grid, queries, registers=registers)
        assert torch.equal(seen, expected[:, :queries])


@pytest.mark.parametrize("impl", TORCH_ONLY)
def test_regions_per_image_and_shared(impl: str) -> None:
    qkv = projection(2, 16, 1, 4)
    q, kv = qkv[:, :, 0], qkv[:, :, 1:]
    own = as_tensor(REGIONS["bands"], REGIONS["overlapping"])
    torch.testing.assert_close(
        part_attention(q, kv, own, (4, 3), impl=impl), by_hand(q, kv, own, 3, 0, 0.5), rtol=1e-12, atol=1e-12
    )
    shared = as_tensor(REGIONS["bands"])
    assert torch.equal(
        part_attention(q, kv, shared, (4, 3), impl=impl),
        part_attention(q, kv, shared.expand(2, -1, -1), (4, 3), impl=impl),
    )


@pytest.mark.parametrize("impl", TORCH_ONLY)
def test_gradients_in_float64(impl: str) -> None:
    regions = as_tensor(REGIONS["overlapping"], REGIONS["empty"])
    qkv = projection(2, 1 + 3 + 1 + 12, 1, 2)
    for queries in (1, 4, 17):
        q, kv = qkv[:, :queries, 0].clone().requires_grad_(), qkv[:, :, 1:].clone().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda q, kv: part_attention(q, kv, regions, (4, 3), registers=1, impl=impl), (q, kv)
        )


@pytest.mark.parametrize("impl", TORCH_ONLY)
def test_hidden_patches_weigh_exactly_nothing(impl: str) -> None:
    regions = as_tensor(REGIONS["bands"])
    qkv = projection(1, 16, 2, 8, torch.float32)
    q, kv = qkv[:, :, 0], qkv[:, :, 1:].clone()
    before = part_attention(q, kv, regions, (4, 3), impl=impl)
    kv[:, 4 + 6 :] = 1e30  # rows 2 and 3, outside the first part's band
    after = part_attention(q, kv, regions, (4, 3), impl=impl)
    assert torch.equal(before[:, 1], after[:, 1])
    assert not torch.equal(before[:, 2], after[:, 2])


@pytest.mark.parametrize("impl", TORCH_ONLY)
def test_large_logits(impl: str) -> None:
    regions = as_tensor(REGIONS["empty"])
    qkv = 80 * projection(1, 16, 1, 4, torch.float32).sign()
    out = part_attention(qkv[:, :, 0], qkv[:, :, 1:], regions, (4, 3), impl=impl)
    exact = by_hand(qkv[:, :, 0].double(), qkv[:, :, 1:].double(), regions, 3, 0, 0.5)
    torch.testing.assert_close(out.double(), exact)


@pytest.mark.parametrize("impl", TORCH_ONLY)
def test_autocast_and_compile(impl: str) -> None:
    regions = as_tensor(REGIONS["bands"])
    qkv = projection(2, 16, 2, 8, torch.float32)

    def attend(qkv: Tensor) -> Tensor:
        return part_attention(qkv[:, :, 0], qkv[:, :, 1:], regions, (4, 3), impl=impl)

    expected = attend(qkv)
    torch.testing.assert_close(torch.compile(attend, backend="aot_eager", fullgraph=True)(qkv), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(attend(qkv).float(), expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("impl", TORCH_ONLY)
def test_export_with_any_batch(impl: str) -> None:
    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("regions", as_tensor(REGIONS["bands"]))

        def forward(self, qkv: Tensor) -> Tensor:
            return part_attention(qkv[:, :, 0], qkv[:, :, 1:], self.regions, (4, 3), impl=impl)

    module, dynamic = Attention(), {"qkv": {0: torch.export.Dim("batch")}}
    exported = torch.export.export(module, (projection(2, 16, 1, 4),), dynamic_shapes=dynamic).module()
    for batch in (1, 5):
        qkv = projection(batch, 16, 1, 4)
        torch.testing.assert_close(exported(qkv), module(qkv))


def arguments(**changes: object) -> dict[str, object]:
    """Arguments that pass, but for `changes`."""
    qkv = projection(2, 16, 2, 32, torch.float32)
    regions = as_tensor(REGIONS["bands"])
    accepted = {"q": qkv[:, :, 0], "kv": qkv[:, :, 1:], "regions": regions, "grid": (4, 3), "impl": "reference"}
    return accepted | changes


BAD = {
    "rank of q": ({"q": torch.zeros(2, 16, 64)}, r"q has shape \[2, 16, 64\]; expected \[B, n, H, D\]"),
    "rank of kv": ({"kv": torch.zeros(2, 16, 2, 64)}, r"kv has shape .*expected \[B, N, 2, H, D\]"),
    "three in kv": ({"kv": torch.zeros(2, 16, 3, 2, 32)}, r"kv has shape .*expected \[B, N, 2, H, D\]"),
    "heads differ": ({"kv": torch.zeros(2, 16, 2, 4, 32)}, r"kv has shape .*expected \[2, N, 2, 2, 32\]"),
    "rank of regions": ({"regions": torch.zeros(3, 4, dtype=torch.int32)}, r"regions .*expected \[B, P, 4\]"),
    "batch of regions": ({"regions": torch.zeros(3, 3, 4, dtype=torch.int32)},
                         r"regions .*expected \[2, P, 4\] or \[1, P, 4\]"),
    "integer q": ({"q": torch.zeros(2, 16, 2, 32, dtype=torch.int32)}, r"q has dtype torch.int32"),
    "dtypes differ": ({"kv": torch.zeros(2, 16, 2, 2, 32).half()},
                      r"kv has dtype torch.float16; expected torch.fl"),
    "long regions": ({"regions": torch.zeros(1, 3, 4).long()},
                     r"regions has dtype torch.int64; expected torch.int32"),
    "fractional regions": ({"regions": torch.zeros(1, 3, 4)}, r"regions has dtype torch.float32"),
    "devices differ": ({"kv": torch.zeros(2, 16, 2, 2, 32, device="meta")}, r"kv is on meta; expected cpu"),
    "regions elsewhere": ({"regions": torch.zeros(1, 3, 4, dtype=torch.int32, device="meta")},
                          r"regions is on meta; expected cpu"),
    "grid of three": ({"grid": (4, 3, 1)}, r"grid is \(4, 3, 1\); expected"),
    "empty grid": ({"grid": (0, 3)}, r"grid is \(0, 3\); expected"),
    "fractional grid": ({"grid": (4.0, 3)}, r"grid is \(4.0, 3\); expected"),
    "grid against N": ({"grid": (4, 4)}, r"kv holds 16 tokens; expected 20: 1 cls \+ 3 parts \+ 0 reg.* 4 x 4"),
    "registers against N": ({"registers": 2}, r"kv holds 16 tokens; expected 18"),
    "negative registers": ({"registers": -1}, r"registers is -1"),
    "more queries than tokens": ({"q": torch.zeros(2, 17, 2, 32)}, r"q asks for 17 tokens"),
    "no queries": ({"q": torch.zeros(2, 0, 2, 32)}, r"q asks for 0 tokens"),
    "region below 0": ({"regions": as_tensor([(-1, 2, 0, 3)] * 3)}, r"regions\[0, 0\] is \[-1, 2, 0, 3\]"),
    "region too low": ({"regions": as_tensor([(0, 4, 0, 3)] * 2 + [(0, 5, 0, 3)])}, r"regions\[0, 2\] is"),
    "region too wide": ({"regions": as_tensor([(0, 4, 0, 4)] * 3)}, r"0 <= left <= right <= 3"),
    "region upside down": ({"regions": as_tensor([(3, 2, 0, 3)] * 3)}, r"0 <= top <= bottom <= 4"),
    "scale": ({"scale": math.nan}, r"scale is nan; expected a positive finite number"),
    "implementation": ({"impl": "flash"}, r"impl is 'flash'; expected one of reference, sdpa, triton"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part_attention(**arguments(**changes))  # type: ignore[arg-type]
