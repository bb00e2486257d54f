"""Every setting and its default: frozen dataclasses, read at the entry point and nowhere else.

Constructors elsewhere take plain arguments or one of these; a config file (TOML or JSON), the command line
and a saved model all go through `pat.base.mapping`, which refuses unknown keys and says which was meant.
What a field's annotation says besides its type, its limits and its `Role`, is said nowhere else.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from pat.base.mapping import Within


class Role(Enum):
    """What a setting of a training run changes. One without a role changes what is learned."""

    PLACE = "where the run is, and what is kept and said of it"
    PACE = "how it is computed, and how fast"
    LENGTH = "how far it goes"


Share = Annotated[float, Within(0, 1)]
FromZero = Annotated[float, Within(0)]
Positive = Annotated[float, Within(above=0)]
Count = Annotated[int, Within(1)]
Number = Annotated[int, Within(0)]
Side = Annotated[int, Within(1, 16_384)]

AttentionImplementation = Literal["auto", "reference", "sdpa", "triton"]
NeighbourImplementation = Literal["auto", "reference", "triton"]


@dataclass(frozen=True)
class ModelConfig:
    """The architecture. It is saved inside every model file."""

    backbone: str = "vit_base_patch16_224"
    """timm name of a plain ViT, DeiT, DINOv2 or CLIP image tower."""
    image_size: tuple[Side, Side] = (256, 128)
    """Height and width in pixels; the patch size divides both."""
    parts: Annotated[int, Within(0, 256)] = 3
    """Part tokens; 0 is a plain ViT."""
    bands: Literal["overlapping", "stripes"] | tuple[tuple[float, float], ...] = "overlapping"
    """Band of each part: "overlapping" halves, equal "stripes", or (top, bottom) as fractions of the height."""
    identities: Number = 0
    """Classes of the identity classifier; 0 leaves it out. Training sets it from the source."""
    drop_path: Share = 0.1
    """Stochastic depth of the last block; it grows linearly from 0."""
    attention: Annotated[AttentionImplementation, Role.PACE] = "sdpa"
    """Which part attention runs. "auto" is for the command line alone."""
    mean: tuple[float, float, float] | None = None
    """Mean of the input, RGB in [0, 1]; None takes the backbone's own."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Standard deviation of the input; None takes the backbone's own."""
    stem: Literal["projection", "convolution", "deep"] = "projection"
    """How patches are made: one projection, the convolutional stem of TransReID-SSL in front of it, or "deep":
    a 3 x 3 convolution for each halving of the resolution, which learns from scratch."""
    pooling: Literal["cls", "mean"] = "cls"
    """The global feature: the cls token, or the cls token plus the mean of the patch tokens."""
    cosine_scale: FromZero = 0.0
    """Factor of a classifier of cosines; 0 is a BNNeck and a linear classifier."""
    neck: Literal["norm", "renorm"] = "norm"
    """The BNNeck: batch normalisation, or batch renormalisation (arXiv 1702.03275)."""
    patch_size: Count | None = None
    """Overrides of the backbone's shape, for small models trained from scratch and foreign checkpoints."""
    width: Side | None = None
    depth: Annotated[int, Within(1, 256)] | None = None
    heads: Count | None = None
    mlp_ratio: Positive | None = None
    qkv_bias: bool | None = None
    attention_scale: Positive | None = None
    """Factor of the attention logits; None is head dimension ** -0.5."""


@dataclass(frozen=True)
class TargetConfig:
    """Which images to evaluate on, and where images are."""

    target: Annotated[tuple[str, ...], Role.PLACE] = ()
    """Data sets to evaluate on: a layout name (market1501, msmt17), a folder, a .csv/.jsonl, or NAME=PATH."""
    root: Annotated[Path, Role.PLACE] = Path("data")
    """Folder that holds the data sets named by layout."""
    cache: Annotated[Path, Role.PLACE] = Path("~/.cache/pat-reid")
    """Where resized images are kept, memory-mapped."""
    on_error: Annotated[Literal["stop", "skip"], Role.PLACE] = "stop"
    """What an unreadable image or a name that does not parse does: stop, or be skipped and listed."""


@dataclass(frozen=True)
class DataConfig(TargetConfig):
    """Which images to train on; training never sees those of `target`."""

    source: tuple[str, ...] = ()
    """Data sets to train on, named as `target` is; NAME:all trains on its query and gallery too."""
    holdout: Share = 0.0
    """Share of the source identities held out of training, to choose a model or a setting on."""


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training image, drawn for each image, applied as a batch on the device."""

    flip: Share = 0.5
    """Probability of a mirror image."""
    pad: Number = 10
    """Pixels added on each side before a random crop of the original size."""
    color_jitter: Share = 0.0
    """Largest relative change of brightness, contrast and saturation."""
    color_cast: Share = 0.0
    """Largest relative change of each colour channel by itself."""
    low_resolution: Share = 0.0
    """Probability of an image being made of 30 to 80 % of its rows and columns."""
    blur: Share = 0.0
    """Probability of a Gaussian blur; never together with low resolution."""
    erasing: Share = 0.0
    """Probability of a random rectangle being erased."""
    mix_style: Share = 0.0
    """Probability of a batch whose images mix the mean and deviation of their patches (MixStyle)."""
    regions: Literal["image", "batch"] = "image"
    """Part regions drawn for each image, or once a batch as the authors do."""


@dataclass(frozen=True)
class LossConfig:
    """Weights and constants of the losses (paper section 3)."""

    identity: FromZero = 1.0
    """Weight of the identity loss; 0 trains no classifier."""
    label_smoothing: Share = 0.1
    triplet: FromZero = 1.0
    """Weight of the soft-margin batch-hard triplet loss."""
    contrastive: FromZero = 0.0
    """Weight of the supervised contrastive loss on unit vectors."""
    temperature: Positive = 0.1
    """Of the contrastive loss and of distillation: cosines are divided by it."""
    distill: FromZero = 0.0
    """Weight of the distance to the embeddings of `teacher`."""
    camera: FromZero = 0.0
    """Weight of telling the camera from the global feature, which the network learns to prevent."""
    alignment: FromZero = 0.0
    """Weight of BAU's alignment (1.5 there). Above 0 a step sees each image twice: moved alone, for the other
    losses, and with all changes."""
    uniformity: FromZero = 0.0
    """Weight of BAU's uniformity over the batch (1 there)."""
    domain_uniformity: FromZero = 0.0
    """Weight of BAU's uniformity within each source, against prototypes of its identities (1 there)."""
    csl: FromZero = 1.0
    """Weight of cross-ID similarity learning; 0 turns it off."""
    psd: Share = 0.5
    """w: share of the soft-target term in the identity loss; 0 turns self-distillation off."""
    psd_mix: Share = 0.5
    """lambda: share of the neighbours' identities in the soft target."""
    k: Count = 10
    """Neighbours of a part feature."""
    scale: FromZero = 0.02
    """s: inverse temperature of squared distances at 768 dimensions; scaled by 768/D for others. 0 measures it
    when the bank is filled: s times the mean distance of two slots is then what 0.02 makes of unrelated ones."""
    other_identities: bool = False
    """Leave images of the query's own identity out of the bank's candidates."""
    momentum: Annotated[float, Within(above=0, most=1)] = 0.1
    """Share of the new feature in the memory bank's moving average."""
    bank_fill: Literal["eval", "train"] = "eval"
    """Mode of the pass that fills the bank before the first step (the authors: train)."""
    bank_quota: Number = 0
    """Images of each identity, drawn once, that have a slot in the bank; 0 gives every image one."""
    bank_queue: Number = 0
    """Slots of a bank that keeps the images seen last; 0 gives every image one."""
    csl_start: Count = 1
    """First epoch with CSL and PSD; the bank is filled before it. The paper: the first of all."""
    bank_refill: Number = 0
    """Epochs between passes that fill the bank anew; 0 fills it once, as the paper does. For a network from
    scratch, which leaves its old features behind faster than an average follows."""
    bank_update: Literal["before", "after"] = "before"
    """When a step moves the slots of its images: before its loss, as the paper does, or after it; then slots of
    the batch are no fresher than others, and no nearer for that alone."""
    bank_read: Annotated[Literal["auto", "float32", "bfloat16"], Role.PACE] = "float32"
    """Precision in which the bank is read; averages are float32 and neighbours exact in either. On a GPU float32
    moves twice the bytes and has no matrix units. "auto" is for the command line alone."""
    neighbours: Annotated[NeighbourImplementation, Role.PACE] = "reference"
    """Which nearest_parts runs. "auto" is for the command line alone."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and learning rate."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 1e-3
    """Base learning rate (the paper: 1e-3, 4e-4 for MSMT17)."""
    weight_decay: FromZero = 1e-4
    bias_lr_factor: FromZero = 2.0
    """Learning rate of bias vectors relative to the base."""
    momentum: Share = 0.9
    classifier_lr: FromZero = 0.0
    """Learning rate of the classifier, which does not decay then; 0 is the base rate."""
    layer_decay: Share = 1.0
    """Factor of the learning rate from each block to the one before it, down to the patches."""
    freeze_blocks: Number = 0
    """First blocks that keep their weights, and with them the patches and tokens; for pretrained weights."""
    per_step: bool = False
    """Set the learning rate at every step instead of every epoch; epoch e then runs from e - 1 to e."""
    warmup_epochs: FromZero = 5.0
    warmup_lr: FromZero = 1e-5
    """Rate at epoch 0 of the linear warm-up, for all parameter groups."""
    cosine_epochs: Positive = 120.0
    """Length of the cosine; longer than the training, so the rate does not reach its floor."""
    min_lr_ratio: Share = 0.002
    """Floor of the rate relative to the base."""
    clip_norm: FromZero = 0.0
    """Largest gradient norm; 0 does not clip."""
    freeze_patch_projection: bool = True
    """Keep a pretrained patch projection, or the whole convolutional stem, fixed; never applies from scratch."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    weights: str = "pretrained"
    """Where the backbone starts: "pretrained" (timm, by the backbone's name), "none", "teacher" (a slice of it, as
    `pat distill` does), or a file."""
    teacher: Path | None = None
    """A larger model to learn from, as `pat distill` does: model file, folder of a run, or bundle."""
    out: Annotated[Path, Role.PLACE] = Path("runs/train")
    """Folder of the run: configuration, log, checkpoint and model."""
    epochs: Annotated[Count, Role.LENGTH] = 60
    minutes: Annotated[FromZero, Role.LENGTH] = 0.0
    """Length of the run by the clock; the learning rate then falls with the time as it would over `epochs`. Such a
    run is not the same twice. 0 counts epochs."""
    small_images: Annotated[tuple[Share, Share], Role.LENGTH] = (0.0, 0.0)
    """Shares of the run up to which it trains on images of half and of three quarters of the height and width, in
    whole patches (progressive learning, arXiv 2104.00298). Zeros: on whole images throughout."""
    identities_per_batch: Annotated[int, Within(2)] = 16
    images_per_identity: Count = 4
    spread_cameras: bool = False
    """Prefer images from different cameras within an identity of a batch."""
    sampling: Literal["random", "graph"] = "random"
    """Which identities share a batch: any, or each one with those that look most like it (graph sampling)."""
    seed: Number = 0
    device: Annotated[str, Role.PLACE] = "auto"
    """"auto" takes a GPU when there is one; or "cpu", "cuda", "cuda:1"."""
    amp: Annotated[Literal["auto", "off", "bfloat16", "float16"], Role.PACE] = "auto"
    """Mixed precision; "auto" is bfloat16 where the GPU or CPU has instructions for it; on other GPUs float16 with
    loss scaling, on other CPUs off."""
    compile: Annotated[
        Literal["off", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"], Role.PACE
    ] = "off"
    """Compile the network, in this mode of torch.compile. On a GPU "reduce-overhead" and "max-autotune" replay it
    as CUDA graphs; "max-autotune" and its variant try ways of multiplying first, which takes minutes."""
    ema: Share = 0.0
    """Decay of an exponential average of the weights, evaluated and saved beside them; 0 keeps none."""
    checkpoint_every: Annotated[Count, Role.PLACE] = 1
    """Epochs between checkpoints to resume from."""
    keep_every: Annotated[Number, Role.PLACE] = 0
    """Epochs between models that are kept apart; 0 keeps the final one alone."""
    select: Literal["last", "heldout"] = "last"
    """Which epoch becomes model.safetensors: the last, or the best on held-out source identities."""
    select_every: Count = 5
    """Epochs between evaluations on held-out source identities."""
    resume: Annotated[bool, Role.PLACE] = False
    """Continue the run in `out` from its checkpoint."""
    rank_timeout: Annotated[Positive, Role.PLACE] = 600.0
    """Seconds that a process of several (torchrun) waits for another before the job ends."""
    tensorboard: Annotated[bool, Role.PLACE] = True
    """Write TensorBoard events where the package is installed."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Scoring of a model on data sets."""

    data: TargetConfig = field(default_factory=TargetConfig)
    out: Path = Path("runs/evaluate")
    """Folder for the JSON, CMC curve, ranked lists, attention maps and report."""
    batch_size: Count = 64
    device: str = "auto"
    attention: AttentionImplementation = "auto"
    flip: bool = False
    """Also report embeddings averaged with those of the mirror image."""
    parts: bool = False
    """Also report cls and part tokens concatenated."""
    debias: bool = False
    """Also report embeddings without what each camera adds to all of its own: its mean is taken away and its
    deviations are made alike (arXiv 2502.10195)."""
    rerank: bool = False
    """Also report re-ranking: k-reciprocal (k1 20, k2 6, lambda 0.3) and camera-aware (CA-Jaccard)."""
    open_set: bool = False
    """Also report how well the model tells people whom nobody enrolled: identification at 1 % and 0.1 % false
    alarms, verification at 1 % and 0.1 % false matches, equal error rate and calibration."""
    protocol: str | None = None
    """Score by a protocol of the field instead of on --data: single, P1, P2 or P3."""
    viper: Literal["10", "20", "40"] = "10"
    """Splits of VIPeR in P1: cam_a asks (10), both cameras ask (20), and each half is tested too (40)."""
    max_rank: Count = 50
    """Length of the CMC curve."""
    images: Number = 6
    """Ranked lists and attention maps to draw; 0 draws none."""


def settings_of(role: Role, kind: type = TrainConfig, prefix: str = "") -> frozenset[str]:
    """The settings that have a role, by their dotted names."""
    found = set[str]()
    for name, annotation in typing.get_type_hints(kind, include_extras=True).items():
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            found |= settings_of(role, annotation, f"{prefix}{name}.")
        elif role in getattr(annotation, "__metadata__", ()):
            found.add(prefix + name)
    return frozenset(found)
