"""The part-aware transformer (arXiv 2308.03322, section 3.1) on a timm backbone."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from pat.config import ModelConfig
from pat.model.attention import PartAttention, PartBlock, drop_path_factors
from pat.model.backbone import build_backbone
from pat.model.merging import Merging, mean_of_patches, patch_counts, run_block
from pat.model.mix_style import Style, mix_style
from pat.model.regions import band_rows, full_bands, random_regions
from pat.model.renorm import BatchRenorm1d
from pat.model.stem import Stem


class ReidOutput(NamedTuple):
    """What a forward pass gives, in training and in evaluation alike."""

    global_feature: Tensor
    """[B, D]: the cls token after the final LayerNorm, or with `pooling` "mean" that plus the mean of the patch
    tokens; not normalised."""
    part_features: Tensor
    """[B, P, D]: the part tokens after the same LayerNorm, not normalised."""
    logits: Tensor | None
    """[B, identities], or None when the model has no classifier."""


class PartAwareTransformer(nn.Module):
    """A vision transformer with one token for each part of a person beside the cls token.

    Token order: cls, part 1..P, register 1..G, patches row by row. With `parts=0` it is the plain ViT. The
    backbone starts at random; `pat.model.weights.initialise` brings pretrained weights in.
    """

    mean: Tensor
    std: Tensor
    bands: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.attention == "auto":
            raise ValueError('attention="auto" belongs to the command line; name an implementation here')
        vit = build_backbone(config)
        self.config = dataclasses.replace(
            config,
            mean=config.mean or tuple(vit.pretrained_cfg["mean"]),
            std=config.std or tuple(vit.pretrained_cfg["std"]),
        )
        self.image_size = config.image_size
        """Of the images that are taken at the moment; see `take_images_of`."""
        self.grid: tuple[int, int] = tuple(vit.patch_embed.grid_size)
        self.own_grid = self.grid
        self.merging: Merging | None = None
        """Of patch tokens on their way through the blocks, which nothing that is saved mentions."""
        self.mirrored = False
        """Whether `embed` averages over an image and its mirror image; nothing that is saved mentions it."""
        self.parts, self.registers, self.dim = config.parts, vit.num_reg_tokens, vit.embed_dim

        self.patch_embed = vit.patch_embed
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.dim))
        self.part_tokens = nn.Parameter(torch.empty(1, self.parts, self.dim))
        self.register_tokens = nn.Parameter(torch.empty(1, self.registers, self.dim))
        special = 1 + self.parts + self.registers
        self.pos_embed = nn.Parameter(torch.empty(1, special + self.grid[0] * self.grid[1], self.dim))
        self.norm_pre = vit.norm_pre
        self.blocks = nn.ModuleList(PartBlock(block, self._attention(block.attn)) for block in vit.blocks)
        self.norm = vit.norm
        self.take_tokens(vit)
        if isinstance(self.patch_embed, PatchEmbed):
            self.patch_embed.strict_img_size = False  # `tokens` checks the size

        if config.cosine_scale:
            self.bottleneck: nn.Module = nn.Identity()
        else:
            self.bottleneck = (nn.BatchNorm1d if config.neck == "norm" else BatchRenorm1d)(self.dim)
            self.bottleneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(self.dim, config.identities, bias=False) if config.identities else None
        if self.classifier is not None:
            nn.init.normal_(self.classifier.weight, std=0.001)

        rows = band_rows(self.grid[0], self.parts, config.bands)
        self.host_bands = full_bands(self.grid, rows)  # to draw from, without waiting for the device
        self.register_buffer("bands", self.host_bands.clone(), persistent=False)
        self.register_buffer("mean", torch.tensor(self.config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.config.std).view(1, 3, 1, 1), persistent=False)

    def _attention(self, attention: Any) -> PartAttention:
        return PartAttention(
            attention.qkv,
            attention.proj,
            heads=attention.num_heads,
            grid=self.grid,
            registers=self.registers,
            scale=self.config.attention_scale,
            implementation=self.config.attention,  # type: ignore[arg-type]
        )

    @torch.no_grad()
    def take_tokens(self, vit: VisionTransformer) -> None:
        """Copy a backbone's tokens and position embeddings; part tokens start as copies of its cls token.

        Where the backbone embeds no position for its prefix tokens (DINOv2 with registers, DeiT III), theirs
        are zero here, which is the same function.
        """
        prefix = 1 + self.registers
        if vit.no_embed_class:
            positions = torch.cat([vit.pos_embed.new_zeros(1, prefix, self.dim), vit.pos_embed], dim=1)
        else:
            positions = vit.pos_embed
        self.cls_token.copy_(vit.cls_token)
        self.part_tokens.copy_(vit.cls_token.expand_as(self.part_tokens))
        if self.registers:
            self.register_tokens.copy_(vit.reg_token)
        cls = positions[:, :1]
        self.pos_embed.copy_(torch.cat([cls, cls.expand(-1, self.parts, -1), positions[:, 1:]], dim=1))

    def forward(self, images: Tensor, regions: Tensor | None = None) -> ReidOutput:
        """images float [B, 3, H, W] in [0, 1]; regions int32 [B or 1, P, 4] or None.

        Without regions: the full bands in evaluation, a random rectangle of each for each image in training.
        """
        drop_path = None
        if self.training:
            if regions is None:
                regions = random_regions(self.host_bands, len(images))
            drop_path = self.draw_drop_path(len(images))
        global_feature, part_features = self.features(images, regions, drop_path)
        return ReidOutput(global_feature, part_features, self.classify(global_feature))

    def features(
        self,
        images: Tensor,
        regions: Tensor | None = None,
        drop_path: Tensor | None = None,
        style: Style | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Global feature [B, D] and part features [B, P, D], with nothing drawn at random inside.

        regions None is the full bands; drop_path [depth, 2, B] are factors from `draw_drop_path`, or None; style
        is what MixStyle mixes, or None.
        """
        tokens = self._run(images, regions, drop_path, outputs=1 + self.parts, style=style)
        return tokens[:, 0], tokens[:, 1:]  # the first is the global feature

    def classify(self, global_feature: Tensor) -> Tensor | None:
        """Identity logits [B, identities] through the BNNeck, or scaled cosines; None without a classifier."""
        if self.classifier is None:
            return None
        if self.config.cosine_scale:
            directions = F.normalize(self.classifier.weight, dim=1)
            return self.config.cosine_scale * F.linear(F.normalize(global_feature, dim=1), directions)
        return self.classifier(self.bottleneck(global_feature))

    @torch.no_grad()
    def embed(self, images: Tensor, parts: bool = False) -> Tensor:
        """Retrieval embedding, unit length, the same for an image at every call.

        images float [B, 3, H, W] in [0, 1] -> float32 [B, D]; with `parts` cls and part tokens, each
        normalised, concatenated and divided by sqrt(1 + P): [B, (1 + P) * D].
        """
        outputs = 1 + self.parts if parts else 1
        if self.mirrored:
            images = torch.cat([images, images.flip(-1)])
        tokens = self._run(images, None, None, outputs).float()
        tokens = F.normalize(tokens, dim=-1) / outputs**0.5  # [B, outputs, D]
        if self.mirrored:
            return F.normalize(tokens.flatten(1).unflatten(0, (2, -1)).sum(0), dim=-1)
        return tokens.flatten(1)

    def take_images_of(self, image_size: tuple[int, int]) -> None:
        """From now on take images of this height and width instead of the model's own: training may begin small.

        Position embeddings are interpolated; bands and regions follow the grid. Nothing that is saved changes.
        Raises ValueError for a size that patches do not divide.
        """
        if image_size == self.image_size:
            return
        patch = [side // count for side, count in zip(self.config.image_size, self.own_grid, strict=True)]
        if min(image_size) < 1 or image_size[0] % patch[0] or image_size[1] % patch[1]:
            raise ValueError(f"patches of {patch[0]} x {patch[1]} pixels do not divide an image of {image_size}")
        self.image_size, self.grid = image_size, (image_size[0] // patch[0], image_size[1] // patch[1])
        self.host_bands = full_bands(self.grid, band_rows(self.grid[0], self.parts, self.config.bands))
        self.bands.copy_(self.host_bands)
        for block in self.blocks:
            block.attn.grid = self.grid  # type: ignore[union-attr]

    def patches_left(self) -> list[int]:
        """Patch tokens after each block."""
        patches, pooled = self.grid[0] * self.grid[1], self.config.pooling == "mean"
        return (self.merging or Merging(0)).left(patches, len(self.blocks), pooled)

    def freeze_patches(self) -> None:
        """Fix what makes patches of pixels: the projection, or all of a convolutional stem."""
        if isinstance(self.patch_embed, Stem):
            self.patch_embed.freeze()
        else:
            self.patch_embed.proj.requires_grad_(False)

    def freeze_blocks(self, count: int) -> None:
        """Fix the first `count` blocks and all that comes before them."""
        if count:
            self.freeze_patches()
            for part in (self.cls_token, self.part_tokens, self.register_tokens, self.pos_embed):
                part.requires_grad_(False)
            for module in (self.norm_pre, *list(self.blocks)[:count]):
                module.requires_grad_(False)

    def draw_drop_path(self, images: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Stochastic-depth factors for `images` images, on the CPU, or None at rate 0."""
        return drop_path_factors(self.config.drop_path, len(self.blocks), images, generator)

    def tokens(self, images: Tensor, style: Style | None = None) -> Tensor:
        """images [B, 3, H, W] in [0, 1] -> the sequence that enters the first block, [B, N, D]."""
        height, width = self.image_size
        if images.ndim != 4 or images.shape[1:] != (3, height, width) or not images.is_floating_point():
            raise ValueError(
                f"images must be floating point [B, 3, {height}, {width}] in [0, 1], "
                f"got {images.dtype} {list(images.shape)}"
            )
        patches = self.patch_embed((images - self.mean) / self.std)  # [B, R*C, D]
        if style is not None:
            patches = mix_style(patches, style)
        special = torch.cat([self.cls_token, self.part_tokens, self.register_tokens], dim=1)
        sequence = torch.cat([special.to(patches.dtype).expand(images.shape[0], -1, -1), patches], dim=1)
        positions = self.pos_embed
        if self.grid != self.own_grid:
            before = 1 + self.parts + self.registers
            positions = resample_abs_pos_embed(positions, list(self.grid), list(self.own_grid), before)
        return self.norm_pre(sequence + positions)

    def _run(
        self,
        images: Tensor,
        regions: Tensor | None,
        drop_path: Tensor | None,
        outputs: int,
        style: Style | None = None,
    ) -> Tensor:
        """Global feature and the next `outputs` - 1 tokens, after the final LayerNorm: [B, outputs, D]."""
        tokens = self.tokens(images, style)
        regions = self.bands if regions is None else regions.to(tokens.device, non_blocking=True)
        if drop_path is not None:
            drop_path = drop_path.to(tokens.device, non_blocking=True)
        last, special = len(self.blocks) - 1, 1 + self.parts + self.registers
        counts, left = None, []
        if self.merging is not None:
            counts = patch_counts(regions, self.grid)
            left = self.patches_left()
        for index, block in enumerate(self.blocks):
            # What the last block computes for tokens that do not leave the network would be thrown away.
            asking = outputs if index == last and self.config.pooling == "cls" else tokens.shape[1]
            drop = None if drop_path is None else drop_path[index]
            if counts is None:
                tokens = block(tokens, regions, asking, drop)
            else:
                assert isinstance(block, PartBlock)
                tokens, counts = run_block(block, tokens, counts, asking, left[index], drop)
        tokens = self.norm(tokens)
        if self.config.pooling == "cls":
            return tokens
        patches = tokens[:, special:]
        mean = patches.mean(1, keepdim=True) if counts is None else mean_of_patches(patches, counts)
        return torch.cat([tokens[:, :1] + mean, tokens[:, 1:outputs]], dim=1)
