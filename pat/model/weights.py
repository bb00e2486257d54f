"""A model's weights: saved, loaded, imported from others, and the backbone's starting point."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pat.base.errors import UserError
from pat.base.mapping import from_mapping, to_mapping
from pat.config import ModelConfig
from pat.model.backbone import build_backbone
from pat.model.foreign.assign import assign
from pat.model.foreign.checkpoint import Activation, Hints, Normalisation, PartTokens
from pat.model.foreign.fit import fitted, settings_that_fit, with_parts
from pat.model.foreign.recognise import recognise
from pat.model.model_file import file_at, read, save_tensors
from pat.model.transformer import PartAwareTransformer

_UNTOLD_INPUT = (
    "the file does not say: DeiT, DINO, DINOv2, MAE and BEiT-like weights want imagenet (mean 0.485 0.456 0.406, "
    "std 0.229 0.224 0.225), timm's own augreg ViTs half (mean and std 0.5)"
)


def save(model: PartAwareTransformer, path: str | Path, training: Mapping[str, Any] | None = None) -> None:
    """Write the model as one .safetensors file, completely or not at all."""
    save_tensors(model.state_dict(), model.config, path, training)


def load(path: str | Path, attention: str = "sdpa") -> PartAwareTransformer:
    """The model in a file that this project wrote, on the CPU, in evaluation mode.

    Raises UserError when the file is missing, damaged, foreign, or does not hold what its configuration says.
    """
    tensors, file = read(path)
    config = from_mapping(ModelConfig, {**to_mapping(file.config), "attention": attention}, str(path))
    model = PartAwareTransformer(config)
    assign(model, tensors, str(path))
    return model.eval()


def initialise(model: PartAwareTransformer, weights: str) -> list[str]:
    """Bring starting weights into `model`; the lines that say what was done are returned.

    `weights` is "none" (keep the random start), "pretrained" (timm's weights of the backbone), or a file: one of
    this project's models, or a checkpoint of any format in `pat.model.foreign`; or a folder with such a model: a
    finished run, or a bundle that carries it. The classifier and its BNNeck
    start fresh; position embeddings are resized. Raises UserError for whatever does not fit.
    """
    if weights == "none":
        return ["weights: random start"]
    if weights == "pretrained":
        _take_backbone(model, build_backbone(model.config, pretrained=True))
        return [f"weights: timm's pretrained {model.config.backbone}"]
    checkpoint = fitted(file_at(Path(weights)), model.config)
    tensors, file, report, untold = checkpoint
    heads = [name for name in tensors if name.startswith(("classifier.", "bottleneck."))]
    report += [f"  left out: {name} (identities of another training)" for name in heads]
    tensors = {name: tensor for name, tensor in tensors.items() if name not in heads}
    own = {n: t for n, t in model.state_dict().items() if n.startswith(("classifier.", "bottleneck."))}
    advice = f"the file fits {settings_that_fit(checkpoint)}" if file.width else ""
    assign(model, {**tensors, **own}, weights, advice)
    here = (model.config.mean, model.config.std)
    if file.mean and (file.mean, file.std) != here:
        report.append(f"  input: {_input(file.mean, file.std)} in the file's training, {_input(*here)} here")
    if "normalisation" in untold:
        report.append(f"  input: {_input(*here)} here; {_UNTOLD_INPUT} (--model.mean, --model.std)")
    return report


def import_weights(
    source: str | Path,
    out: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    parts: int | None = None,
    part_tokens: PartTokens = "auto",
    activation: Activation = "auto",
    normalisation: Normalisation = "auto",
) -> list[str]:
    """Convert a foreign checkpoint into a model file; the lines that say what was done are returned.

    `image_size` is needed where the number of patches does not tell it; `parts` adds that many part tokens to a
    plain backbone; `activation` is needed where a CLIP tower does not tell it; `normalisation` replaces the mean
    and standard deviation that the file suggests. Raises UserError for whatever does not fit.
    """
    if parts is not None and parts < 0:
        raise UserError(f"--parts {parts}: expected 0 or more")
    if image_size is not None and min(image_size) < 1:
        raise UserError(f"--image-size {image_size[0]} {image_size[1]}: expected pixels, 1 or more")
    hints = Hints(image_size, part_tokens, activation, normalisation)
    tensors, config, report, untold = recognise(Path(source), hints)
    if parts is not None and parts != config.parts:
        tensors = with_parts(tensors, config, parts)
        config = dataclasses.replace(config, parts=parts)
        report.append(f"  {parts} part tokens copied from cls")
    model = PartAwareTransformer(config)
    fresh = {n: t for n, t in model.state_dict().items() if n.startswith("bottleneck.") and n not in tensors}
    if "bottleneck.weight" in fresh:
        report.append("  started fresh: the BNNeck (the file has none; embeddings do not use it)")
    assign(model, {**tensors, **fresh}, str(source))
    if "normalisation" in untold:
        taken = _input(model.config.mean, model.config.std)
        report.append(f"  input: {taken} taken; {_UNTOLD_INPUT} (--normalisation)")
    save(model, out, {"imported_from": Path(source).name})
    size, grid = (" x ".join(map(str, each)) for each in (config.image_size, model.grid))
    report.append(
        f"{out}: {model.config.backbone}, {config.parts} parts, {model.registers} registers, "
        f"{size} pixels ({grid} patches), {config.identities} identities, "
        f"{_input(model.config.mean, model.config.std)}"
    )
    return report


def _input(mean: Any, std: Any) -> str:
    return f"mean {' '.join(f'{value:.3g}' for value in mean)}, std {' '.join(f'{value:.3g}' for value in std)}"


@torch.no_grad()
def _take_backbone(model: PartAwareTransformer, vit: torch.nn.Module) -> None:
    model.take_tokens(vit)  # type: ignore[arg-type]
    for name in ("patch_embed", "norm_pre", "blocks", "norm"):
        getattr(model, name).load_state_dict(getattr(vit, name).state_dict())
