"""`pat distill`: train a smaller model to embed as a larger one does. `pat train` with other defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deploy.shipped import is_bundle
from export.manifest import Manifest
from pat.base.errors import UserError
from pat.base.mapping import from_mapping
from pat.commands.arguments import ConfigFile, looked_for, parse, with_config_file
from pat.commands.train import architecture_of_weights, run
from pat.config import LossConfig, ModelConfig, OptimConfig, TrainConfig


@dataclass(frozen=True)
class Arguments:
    """Train a student of half the width on a teacher's embeddings.

    TEACHER is a model file, the folder of a run, or a bundle. The student learns to put every image of
    --data.source where the teacher does. No identity is needed: --data.source unlabelled=FOLDER takes any crops.
    It begins as a slice of the teacher (`pat slice`), without part tokens, or at random where there is only a
    graph or a CLIP tower to learn from. All settings are those of `pat train`: --weights none begins at random,
    --weights MODEL with that model, --model.* and --loss.* say what else is to be another. The run goes on with
    `pat train --out RUN --resume`.
    """

    teacher: Positional[Path]
    training: Annotated[TrainConfig, arg(name="")]
    config: ConfigFile = None


def main(arguments: Sequence[str]) -> None:
    """Train the student, and score it on the targets when there are any."""
    named = arguments[0] if arguments and not arguments[0].startswith("-") else None
    weights = looked_for(arguments, weights={"default": None})[0].weights
    default = student_of(Path(named), weights) if named is not None else TrainConfig(loss=TAUGHT)
    start = architecture_of_weights(arguments)
    if start is not None:
        default = dataclasses.replace(default, model=dataclasses.replace(start, attention="auto"))
    default, rest = with_config_file(default, arguments)
    helping = bool({"-h", "--help"} & set(arguments))
    given = parse(Arguments, rest, "distill", None if helping else Arguments(Path(named or ""), default))
    if named is None:  # after parsing: a mistyped option is told first
        raise UserError("the teacher comes first: pat distill TEACHER --data.source DATA")
    if given.training.resume:
        raise UserError(f"`pat train --out {given.training.out} --resume` continues a run")
    run(_without_copies(given.training))


TAUGHT = LossConfig(identity=0, triplet=0, csl=0, psd=0, distill=1, neighbours="auto", bank_read="auto")


def _without_copies(config: TrainConfig) -> TrainConfig:
    """With the batch's size as it is, and no image in it twice, where each is an identity of its own."""
    default, known = TrainConfig(), [spec for spec in config.data.source if not spec.startswith("unlabelled=")]
    if known or config.images_per_identity != default.images_per_identity:
        return config
    count = config.identities_per_batch
    if count == default.identities_per_batch:
        count *= default.images_per_identity
    return dataclasses.replace(config, identities_per_batch=count, images_per_identity=1)


def student_of(teacher: Path, weights: str | None = None) -> TrainConfig:
    """What trains a student of half the width that starts from `weights`.

    If none are named it starts as a slice of its teacher where it can be one, else at random, which takes a higher
    learning rate. Raises UserError for no model.
    """
    import torch  # here: the help does without

    from pat.model import PartAwareTransformer
    from pat.model.slicing import narrower, why_not

    config = dataclasses.replace(architecture(teacher), parts=0, identities=0, attention="sdpa")
    with torch.device("meta"):  # for their shapes: nothing is filled
        wide = PartAwareTransformer(config)
        half = narrower(wide)
        if weights is None:
            sliced = why_not(PartAwareTransformer(half), wide) is None and _has_weights(teacher)
            weights = "teacher" if sliced else "none"
    return TrainConfig(
        model=dataclasses.replace(half, attention="auto"), loss=TAUGHT,
        optim=OptimConfig(
            "adamw", lr=1e-3 if weights == "none" else 3e-4, weight_decay=0.05, bias_lr_factor=1, per_step=True,
            warmup_epochs=1, warmup_lr=1e-6, cosine_epochs=40, min_lr_ratio=0.01, clip_norm=1,
        ),
        weights=weights, teacher=teacher, out=Path("runs/distill"), epochs=40,
    )  # fmt: skip


def _has_weights(model: Path) -> bool:
    """Whether there is more than a graph: not in every bundle."""
    from pat.model.model_file import file_at

    try:
        file_at(model)
    except UserError:
        return False
    return True


def architecture(model: Path) -> ModelConfig:
    """That of a model file, a run's folder or a bundle. Raises UserError for anything else."""
    if is_bundle(model):
        return from_mapping(ModelConfig, dict(Manifest.load(model).model), str(model))
    from pat.model.model_file import file_at, read_description

    return read_description(file_at(model)).config
