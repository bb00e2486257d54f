"""From a model file to an ONNX bundle, checked before it is written. Needs PyTorch."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import timm
import torch
from torch import nn

import pat
from export.bundle import check_target, write_bundle
from export.check import check_graph, check_numbers, runner
from export.crop_kernels import compile_kernels
from export.crops import Pixels, evenly, find_images, read_images
from export.judge import Embed, Images
from export.labelled import Decide
from export.manifest import CHECKPOINT, MANIFEST, Input, Manifest, Output, sha256
from export.merged import Merge, judged
from export.precision import Request, batched, lower_graph
from export.storage import halve_weights
from export.trace import INPUT, OUTPUT, InputType, to_graph, version_of
from pat.base.errors import UserError
from pat.base.mapping import to_mapping
from pat.base.progress import Progress
from pat.model import PartAwareTransformer
from pat.model.images import to_images
from pat.model.merging import Merging
from pat.model.model_file import read, read_description, save_tensors
from pat.synthetic.flat import generate

OPSETS = (18, 23)
CHECK_IMAGES = 32
"""Images of a check set: enough to see an outlier, few enough to travel with the model."""


@dataclass(frozen=True)
class Exported:
    """A checked graph that is not on disk yet."""

    graph: onnx.ModelProto
    manifest: Manifest
    inputs: Pixels
    """The check set, uint8 [n, H, W, 3]"""
    identities: np.ndarray | None
    """Whom they show, where that is known, i64 [n]"""
    embeddings: np.ndarray
    """What the PyTorch model gives for it, float32 [n, D]"""
    full: Embed
    """That model, which merges no tokens"""
    left: Sequence[int]
    """Patch tokens after each block"""


def export_bundle(
    checkpoint: str | Path,
    out: str | Path,
    *,
    opset: int = 18,
    input_type: InputType = "uint8",
    parts: bool = False,
    check_images: Path | None = None,
    lower: Request | None = None,
    decision: Decide | None = None,
    merge: Merge | None = None,
    mirror: bool = False,
    kernels: Sequence[str] = (),
    half_weights: bool = False,
    trainable: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Export a model file to a bundle folder, whole or not at all.

    The fp32 graph comes from `export_graph`; `lower_graph` makes one in a lower precision of it. `decision` is
    the data set that the fp32 graph's threshold is chosen on; `merge` makes patch tokens fewer on the way;
    `mirror` averages over an image and its mirror image. `kernels` are GPU architectures ("sm_87") to compile
    crop_resize for, which then travels in the bundle.
    `half_weights` rounds the weights to float16 and keeps them so in the files; `trainable` puts the model file
    into the bundle. Errors as there, in `judged`, `compile_kernels` and `write_bundle`.
    """
    progress = progress or Progress()
    check_target(out)
    for each in (lower, decision, merge):
        if each is not None:
            each.check()
    if half_weights and lower is not None:
        raise UserError(f"half weights are those of an fp32 graph; {lower.precision} has its own")
    exported = export_graph(
        checkpoint, opset=opset, input_type=input_type, parts=parts, check_images=check_images, merge=merge,
        mirror=mirror, half_weights=half_weights, progress=progress,
    )  # fmt: skip
    graph, manifest = exported.graph, exported.manifest
    if decision is not None or merge is not None:
        run = batched(runner(graph, manifest))
        if decision is not None:
            size = (manifest.input.height, manifest.input.width)
            manifest = dataclasses.replace(manifest, decision=decision.choose(run, size, progress))
        if merge is not None:
            check_set = Images("check set", exported.inputs, exported.embeddings)
            full = batched(exported.full)
            manifest = judged(manifest, exported.left, merge, check_set, full, run, decision, progress)
    if lower is not None:
        graph, manifest = lower_graph(graph, manifest, exported.inputs, exported.embeddings, lower, progress)
    others = dict(compile_kernels(manifest, kernels))
    if trainable:
        others[CHECKPOINT] = model_bytes(Path(checkpoint), half_weights)
    content = graph.SerializeToString()
    return write_bundle(
        out, manifest, content, exported.inputs, exported.embeddings, others, exported.identities
    )


def export_graph(
    checkpoint: str | Path,
    *,
    opset: int = 18,
    input_type: InputType = "uint8",
    parts: bool = False,
    check_images: Path | None = None,
    merge: Merge | None = None,
    mirror: bool = False,
    half_weights: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """The fp32 graph of a model file, compared with PyTorch in several batches on noise and on people.

    `opset` 18 suits TensorRT from 10.3 on; 23 has Attention nodes, for TensorRT 10.14 and later. `parts` puts cls
    and part tokens into the embedding. `check_images` is a folder of crops for the check set, which becomes part
    of the bundle; without one it holds synthetic people. With `merge` the graph merges patch tokens and is
    compared with the PyTorch model that does, too; the check set is that of the full model. `mirror` and
    `half_weights`: see `export_bundle`. Raises UserError for a file that is no model or a setting that does not
    fit, Failure when the graph and the model disagree.
    """
    progress = progress or Progress()
    checkpoint = Path(checkpoint)
    if opset not in OPSETS:
        raise UserError(f"opset {opset} is not supported; choose one of {', '.join(map(str, OPSETS))}")
    model = pat.load(checkpoint)
    model.mirrored = mirror
    if parts and not model.parts:
        raise UserError(f"{checkpoint} is a plain ViT without part tokens; leave out --parts")
    if half_weights:
        round_weights(model)
    images, identities = images_to_check(check_images, model.config.image_size, progress)
    progress.say(f"{checkpoint}: tracing {model.config.backbone} for ONNX opset {opset}")
    if merge is not None:
        model.merging = Merging(merge.per_block, merge.first_block)
        if model.patches_left()[-1] == math.prod(model.grid):
            raise UserError(_merges_nothing(model, merge))
    graph = to_graph(model, opset=opset, input_type=input_type, parts=parts)
    if half_weights:
        halve_weights(graph)
    manifest = describe(model, checkpoint, graph, opset=opset, input_type=input_type, parts=parts)
    check_graph(graph, manifest)

    def embed(pixels: Pixels) -> np.ndarray:
        return model.embed(to_images(pixels), parts).numpy()

    checks, embeddings = check_numbers(graph, manifest, embed, images, progress)
    manifest = dataclasses.replace(manifest, checks=("onnx.checker: full check passed", *checks))
    left, model.merging = model.patches_left(), None
    if merge is not None:
        embeddings = embed(images)
    return Exported(graph, manifest, images, identities, embeddings, embed, left)


def _merges_nothing(model: PartAwareTransformer, merge: Merge) -> str:
    """Why a block as late as `merge` asks for merges no patch tokens."""
    blocks, pooled = len(model.blocks), model.config.pooling == "mean"
    last = "" if pooled else ", and the last merges nothing, for only its cls and part tokens leave the network"
    return f"--merge-from {merge.first_block}: nothing would be merged; the model has {blocks} blocks{last}"


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """Round what has two dimensions or more to numbers that float16 holds."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor.copy_(tensor.half())


def model_bytes(checkpoint: Path, half_weights: bool) -> bytes:
    """The model file for a bundle, without the classifier of its training; matrices in float16 if asked for."""
    tensors, file = read(checkpoint)
    kept = {
        name: tensor.half() if half_weights and tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in tensors.items()
        if not name.startswith("classifier.")
    }
    config = dataclasses.replace(file.config, identities=0)
    with tempfile.TemporaryDirectory() as folder:
        save_tensors(kept, config, Path(folder) / CHECKPOINT, file.training)
        return (Path(folder) / CHECKPOINT).read_bytes()


def images_to_check(
    folder: Path | None, size: tuple[int, int], progress: Progress
) -> tuple[Pixels, np.ndarray | None]:
    """Up to CHECK_IMAGES of the images in `folder`, uint8 [n, H, W, 3]; or synthetic people, and who they are.

    Raises UserError when the folder holds fewer than two images or one of those chosen cannot be read.
    """
    if folder is not None:
        paths = evenly(find_images(folder), CHECK_IMAGES)
        if len(paths) < 2:
            raise UserError(f"{folder} holds one image, by which no model is told from another; 32 are taken")
        return read_images(paths, size), None
    progress.say("drawing synthetic people for the check set; --check-images DIR takes real crops instead")
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "people"
        generate(
            out, style="target", identities_train=CHECK_IMAGES // 2, identities_test=0, cameras=2,
            images_per_camera=1, workers=1,
        )  # fmt: skip
        paths = find_images(out)
        return read_images(paths, size), np.array([int(path.name.split("_")[0]) for path in paths])


def describe(
    model: PartAwareTransformer,
    checkpoint: Path,
    graph: onnx.ModelProto,
    *,
    opset: int,
    input_type: InputType,
    parts: bool,
) -> Manifest:
    """The manifest of an fp32 graph, without the files."""
    height, width = model.config.image_size
    training = dict(read_description(checkpoint).training)
    size = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return Manifest(
        input=Input(INPUT, input_type, "NHWC" if input_type == "uint8" else "NCHW", height, width),
        output=Output(OUTPUT, size, "cls+parts" if parts else "cls", mirrored=model.mirrored),
        opset=opset,
        files={},
        model={name: value for name, value in to_mapping(model.config).items() if name != "attention"},
        training=training,
        weights=_weights_facts(checkpoint, model, training),
        tools={
            name: version_of(name)
            for name in ("pat-reid", "torch", "timm", "onnx", "onnxscript", "onnx-ir", "onnxruntime")
        },
    )


def _weights_facts(checkpoint: Path, model: PartAwareTransformer, training: dict[str, Any]) -> dict[str, Any]:
    """Where the weights came from, as far as the model file tells, for whoever must judge their licence."""
    start = training.get("imported_from") or training.get("started_from")
    facts: dict[str, Any] = {"file": checkpoint.name, "sha256": _known_by(checkpoint), "started_from": start}
    if start == "pretrained":
        timm_config = timm.get_pretrained_cfg(model.config.backbone)
        facts["pretrained"] = timm_config.hf_hub_id if timm_config else model.config.backbone
        facts["pretrained_licence"] = timm_config.license if timm_config else None
    facts["trained_on"] = list(training.get("source", ()))
    facts["note"] = (
        "The licence of this project covers its code. The weights also stand under the terms of the images they "
        "were trained on and of the weights they started from; person data sets are mostly for research alone."
    )
    return facts


def _known_by(checkpoint: Path) -> str:
    """The hash that tells which weights these are: of a model file that travels in a bundle, that of the bundle.

    With half weights the two differ, and the embeddings are the same: one gallery, one calibration.
    """
    own = sha256(checkpoint)
    if not (checkpoint.parent / MANIFEST).is_file():
        return own
    around = Manifest.load(checkpoint.parent)
    carried = around.files.get(checkpoint.name)
    return str(around.weights.get("sha256", own)) if carried is not None and carried.sha256 == own else own
