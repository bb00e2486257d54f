"""A narrower model cut out of a wider one, without training.

The tokens of a trained transformer vary along few directions. The narrower model keeps the principal axes of what
enters its blocks, and every matrix that reads or writes tokens is turned onto them (SliceGPT, Ashkboos et al.,
arXiv 2401.15024). There tokens are normalised by their length alone, which a turn does not change. LayerNorm takes
the mean away, too, so the axes are laid out at right angles to (1, ..., 1), and one number of the width is spent.

Inside a block each head keeps what matters most for its scores and for what it writes, and an MLP keeps the hidden
units that together explain most of what it writes, its second matrix fitted anew (`pat.model.seen`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model.images import to_images
from pat.model.seen import Seen, Sums, completed, fewer, low_rank, nearest_product, principal
from pat.model.stem import DeepStem
from pat.model.transformer import PartAwareTransformer

BATCH = 64
LEAST = 2
"""Of the width: LayerNorm leaves nothing of a single number."""


def narrower(wide: PartAwareTransformer, width: int | None = None) -> ModelConfig:
    """The configuration of a slice of `wide`, half as wide if no width is given.

    Raises UserError for a width that is no less, or that its heads do not divide, and where every width is so.
    """
    heads = _blocks(wide)[0].attn.heads
    least, most = max(heads, LEAST), (wide.dim - 1) // heads * heads
    if most < least:
        raise UserError(f"a model {wide.dim} wide with {heads} heads cannot be made narrower")
    width = max(wide.dim // 2 // heads * heads, least) if width is None else width
    if not least <= width <= most or width % heads:
        raise UserError(f"--width {width}: expected a multiple of the {heads} heads, from {least} to {most}")
    return dataclasses.replace(
        wide.config, width=width, heads=heads, identities=0, cosine_scale=0, drop_path=0, qkv_bias=True
    )


def why_not(narrow: PartAwareTransformer, wide: PartAwareTransformer) -> str | None:
    """The first reason why `narrow` cannot be a slice of `wide`, or None."""
    if not all(isinstance(model.norm_pre, nn.Identity) for model in (narrow, wide)):
        return "tokens are normalised before the first block, which a slice cannot do alike"
    for what, of in _ALIKE.items():
        if of(narrow) != of(wide):
            return f"{what} {of(wide)}; a slice has the same, not {of(narrow)}"
    if narrow.dim > wide.dim or _hidden(narrow) > _hidden(wide):
        return f"it is {wide.dim} wide, an MLP {_hidden(wide)}; a slice is no wider"
    if narrow.dim < LEAST:
        return f"a slice is {LEAST} wide or more"
    if _blocks(narrow)[0].attn.qkv.bias is None:
        return "the queries, keys and values of a slice need a bias (model.qkv_bias)"
    return None


@torch.no_grad()
def slice_into(narrow: PartAwareTransformer, wide: PartAwareTransformer, pixels: np.ndarray) -> float:
    """Fill `narrow`, but for its classifier and neck, with a slice of `wide`; how much of the tokens it keeps.

    Both take images of the same size and differ in their widths alone (`why_not`; ValueError otherwise). The share
    returned is of the squares of normalised tokens. pixels uint8 [N, H, W, 3]: some hundred crops, which show what
    matters. The embeddings of a slice have axes of their own, and nearly the same cosines among themselves.
    """
    if reason := why_not(narrow, wide):
        raise ValueError(reason)
    seen = _observed(wide.eval(), pixels)
    stream = torch.stack([seen[norm].second for norm in _norms(wide)]).mean(0)
    axes, kept = principal(stream, narrow.dim - 1)
    cut = _Slice(_turned(axes, wide.norm, seen[wide.norm].second), _beside_ones(narrow.dim), seen)
    cut.tokens(narrow, wide)
    cut.patches(narrow.patch_embed, wide.patch_embed)
    for into, block in zip(_blocks(narrow), _blocks(wide), strict=True):
        cut.attention(into, block)
        cut.mlp(into, block)
    cut.last_norm(narrow.norm, wide.norm)
    return kept


def turn_towards(own: Tensor, others: Tensor) -> Tensor:
    """The turn [D, d], d <= D, that brings embeddings [n, D] nearest to others of the same images, [n, d].

    Where d = D no cosine changes (orthogonal Procrustes problem).
    """
    u, _, v = torch.linalg.svd(own.T @ others, full_matrices=False)
    return u @ v


def _observed(model: PartAwareTransformer, pixels: np.ndarray) -> dict[nn.Module, Seen]:
    """What enters each LayerNorm, normalised; each MLP's second matrix; the projection of a deep stem."""
    takes: dict[nn.Module, Callable[[Tensor], Tensor]] = dict.fromkeys(_norms(model), _normalised)
    takes |= {block.mlp.fc2: lambda rows: rows for block in _blocks(model)}
    if isinstance(model.patch_embed, DeepStem):
        takes[model.patch_embed.proj] = lambda maps: maps.permute(0, 2, 3, 1)
    sums = {module: Sums() for module in takes}
    with contextlib.ExitStack() as hooks:
        for module, take in takes.items():
            hooks.enter_context(_watched(module, take, sums[module]))
        for begin in range(0, len(pixels), BATCH):
            images = to_images(pixels[begin : begin + BATCH], model.mean.device)
            model.embed(images, parts=model.parts > 0)  # all that the last block can be asked for
    return {module: each.seen() for module, each in sums.items()}


@contextlib.contextmanager
def _watched(module: nn.Module, take: Callable[[Tensor], Tensor], sums: Sums) -> Iterator[None]:
    """Add what `take` makes of the module's inputs."""
    hook = module.register_forward_pre_hook(lambda _, given: sums.add(take(given[0])))
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Slice:
    """The directions that stay, and how each part of a model follows them."""

    axes: Tensor
    """[k, D], at right angles to each other, and to (1, ..., 1) where anything was seen along them."""
    layout: Tensor
    """[d, k], k = d - 1: where they lie in the slice, at right angles to (1, ..., 1) there."""
    seen: Mapping[nn.Module, Seen]

    @property
    def writes(self) -> Tensor:
        """[d, D]: of what is added to a token, what is added to the slice's; never a mean."""
        return self.layout @ (self.axes - self.axes.mean(1, keepdim=True))

    def reads(self, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """[D, d] and [D]: what `norm` most likely gives, from the slice's token at the length of a LayerNorm's."""
        weight = _double(norm.weight)[:, None] * _guess(self.axes, self.seen[norm].second) @ self.layout.T
        return weight, _double(norm.bias)

    def tokens(self, into: PartAwareTransformer, wide: PartAwareTransformer) -> None:
        """The learned tokens and positions."""
        for name in ("cls_token", "part_tokens", "register_tokens", "pos_embed"):
            getattr(into, name).copy_(_double(getattr(wide, name)) @ self.writes.T)

    def patches(self, into: Any, wide: Any) -> None:
        """What makes patches: the projection writes tokens, and a deep stem has fewer channels before it."""
        weight, bias = self.writes @ _double(wide.proj.weight).flatten(1), self.writes @ _double(wide.proj.bias)
        layers, own = (list(getattr(stem, "conv", ())) for stem in (wide, into))
        if isinstance(wide, DeepStem):
            kept, weight, shift = fewer(weight, self.seen[wide.proj], into.proj.in_channels)
            bias = bias + shift
            (convolution, norm, _), (own_convolution, own_norm, _) = layers[-3:], own[-3:]
            own_convolution.weight.copy_(convolution.weight[kept])
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(own_norm, name).copy_(getattr(norm, name)[kept])
            layers, own = layers[:-3], own[:-3]
        for layer, own_layer in zip(layers, own, strict=True):
            own_layer.load_state_dict(layer.state_dict())
        into.proj.weight.copy_(weight.view_as(into.proj.weight))
        into.proj.bias.copy_(bias)

    def attention(self, into: Any, block: Any) -> None:
        """Each head by itself: queries and keys by their products, values by what they write."""
        attention, heads, size = block.attn, block.attn.heads, into.attn.qkv.out_features // block.attn.heads // 3
        reads, shift = self.reads(block.norm1)
        entering = self.seen[block.norm1].through(torch.diag(_double(block.norm1.weight)), shift)
        weights = _double(attention.qkv.weight).view(3, heads, -1, len(shift))
        biases = weights.new_zeros(weights.shape[:3])
        if attention.qkv.bias is not None:
            biases = _double(attention.qkv.bias).view_as(biases)
        writes = (self.writes @ _scaled(block.ls1, attention.proj.weight)).view(len(self.writes), heads, -1)
        always = self.writes @ _scaled(block.ls1, attention.proj.bias)
        new_weights, new_biases, new_writes = [], [], []
        for head in range(heads):
            own, offsets = weights[:, head], biases[:, head].clone()  # [3, d, D], [3, d]
            queries, keys, values = (entering.through(*each) for each in zip(own, offsets, strict=True))
            left, right = nearest_product(queries.second, keys.covariance, size)
            down, up = low_rank(writes[:, head], values.covariance, size)
            # The mean of keys adds the same to each score of a query, which no softmax sees: scores are smaller
            # without. The mean of values is always written.
            offsets[1] -= keys.mean
            offsets[2] -= values.mean
            changes = torch.stack([left * (_scale(block) / _scale(into)), right, down])  # [3, size, d]
            new_weights.append(changes @ own @ reads)
            new_biases.append(changes @ (own @ shift + offsets)[:, :, None])
            new_writes.append(up)
            always = always + writes[:, head] @ values.mean
        into.attn.qkv.weight.copy_(torch.stack(new_weights, 1).flatten(0, 2))
        into.attn.qkv.bias.copy_(torch.stack(new_biases, 1).flatten())
        into.attn.proj.weight.copy_(torch.cat(new_writes, 1))
        into.attn.proj.bias.copy_(always)
        _reset(into.norm1, into.ls1)

    def mlp(self, into: Any, block: Any) -> None:
        first, second = block.mlp.fc1, block.mlp.fc2
        reads, shift = self.reads(block.norm2)
        kept, weight, always = fewer(
            self.writes @ _scaled(block.ls2, second.weight), self.seen[second], into.mlp.fc2.in_features
        )
        into.mlp.fc1.weight.copy_((_double(first.weight) @ reads)[kept])
        into.mlp.fc1.bias.copy_((_double(first.bias) + _double(first.weight) @ shift)[kept])
        into.mlp.fc2.weight.copy_(weight)
        into.mlp.fc2.bias.copy_(self.writes @ _scaled(block.ls2, second.bias) + always)
        _reset(into.norm2, into.ls2)

    def last_norm(self, into: nn.LayerNorm, norm: nn.LayerNorm) -> None:
        """Stretches the slice's axes as `norm` does what they stand for."""
        reads, shift = self.reads(norm)
        along = reads @ self.layout  # [D, k], at right angles to each other: `_turned`
        lengths = along.norm(dim=0)
        into.weight.copy_(torch.cat([lengths, lengths.mean()[None]]))
        means = torch.linalg.lstsq(along, shift[:, None]).solution[:, 0]  # [k]
        into.bias.copy_(_double(into.weight) * (self.layout @ means))


def _turned(axes: Tensor, norm: nn.LayerNorm, second: Tensor) -> Tensor:
    """The axes [k, D], turned among themselves to those along which the last LayerNorm stretches what it gives.

    That of a slice can stretch its own numbers alone, and the axes lie next to these (`_beside_ones`).
    """
    reads = _double(norm.weight)[:, None] * _guess(axes, second)
    return torch.linalg.eigh(reads.T @ reads).eigenvectors.flip(1).T @ axes


def _beside_ones(width: int) -> Tensor:
    """[width, width - 1]: at right angles to each other and to (1, ..., 1), each next to a unit vector, 1 / width
    off."""
    mirror = torch.full((width,), width**-0.5, dtype=torch.float64)
    mirror[-1] -= 1
    mirror /= mirror.norm()  # the reflection that takes the last unit vector to (1, ..., 1)
    return (torch.eye(width, dtype=torch.float64) - 2 * torch.outer(mirror, mirror))[:, :-1]


def _guess(axes: Tensor, second: Tensor) -> Tensor:
    """[D, k]: `completed`, from what lies along the axes at the length that LayerNorm gives it in a slice."""
    length = ((axes @ second @ axes.T).trace() / (len(axes) + 1)).sqrt()
    return length * completed(axes, second)


def _normalised(rows: Tensor) -> Tensor:
    """As the LayerNorms of vision transformers do it, without weights."""
    return F.layer_norm(rows, rows.shape[-1:], eps=1e-6)


def _blocks(model: PartAwareTransformer) -> list[Any]:
    return list(model.blocks)


def _norms(model: PartAwareTransformer) -> list[nn.LayerNorm]:
    """Those that read tokens, in their order."""
    return [*(norm for block in _blocks(model) for norm in (block.norm1, block.norm2)), model.norm]


def _hidden(model: PartAwareTransformer) -> int:
    return int(_blocks(model)[0].mlp.fc2.in_features)


def _scaled(scale: Any, tensor: Tensor) -> Tensor:
    """A branch's last weights [D, ...] or biases [D] times its LayerScale, where it has one."""
    if isinstance(scale, nn.Identity):
        return _double(tensor)
    return _double(scale.gamma).view(-1, *[1] * (tensor.ndim - 1)) * _double(tensor)


def _scale(block: Any) -> float:
    """What the attention scores of a block are multiplied with."""
    size = block.attn.qkv.out_features // 3 // block.attn.heads
    return float(block.attn.scale or size**-0.5)


def _reset(*modules: nn.Module) -> None:
    """Let LayerNorms and LayerScales change nothing by their weights."""
    for module in modules:
        for name, tensor in module.named_parameters():
            tensor.fill_(0.0 if name == "bias" else 1.0)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double().cpu()


_ALIKE: Mapping[str, Callable[[PartAwareTransformer], object]] = {
    "its grid of patches is": lambda model: model.own_grid,
    "its images are": lambda model: model.config.image_size,
    "its pixels are normalised by": lambda model: (model.config.mean, model.config.std),
    "its number of blocks is": lambda model: len(_blocks(model)),
    "its number of heads is": lambda model: _blocks(model)[0].attn.heads,
    "its number of part tokens is": lambda model: model.parts,
    "its number of registers is": lambda model: model.registers,
    "its patches come from a": lambda model: type(model.patch_embed).__name__,
    "its pooling is": lambda model: model.config.pooling,
    "its activation is": lambda model: type(_blocks(model)[0].mlp.act).__name__,
}
"""What a slice has in common with what it is cut out of."""
