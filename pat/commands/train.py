"""`pat train`: one training run, and its score on the targets when there are any."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from pat.base.errors import UserError
from pat.base.progress import TerminalProgress
from pat.commands.arguments import ConfigFile, left_to_the_device, looked_for, parse, with_config_file
from pat.commands.embedders import MODEL, opened_model
from pat.config import EvaluateConfig, ModelConfig, TrainConfig
from pat.data.layouts import open_data_set
from pat.evaluation.scoring import check_targets
from pat.training.run_folder import saved_config


@dataclass(frozen=True)
class Arguments:
    """Train a part-aware transformer.

    Settings come from the defaults (the paper's recipe), then --config FILE (.toml or .json), then flags.
    With --weights MODEL, a model of this project, the architecture is the file's. --resume continues the run in
    --out with its own settings.
    """

    training: Annotated[TrainConfig, arg(name="")]
    config: ConfigFile = None


def main(arguments: Sequence[str]) -> None:
    """Train, and score the model on the targets when there are any."""
    run(read_arguments(arguments))


def run(config: TrainConfig) -> None:
    """Train as the configuration says, with the teacher that it names, and score the model on its targets."""
    from pat.device import choose_device, resolve_loss, resolve_model  # the help does without PyTorch
    from pat.training.loop import train
    from pat.training.teaching import Teacher

    device, progress = choose_device(config.device), TerminalProgress()
    data = config.data  # what is wrong with a target is told now, not after the training
    check_targets([open_data_set(target, data.root, data.on_error) for target in data.target])
    config = dataclasses.replace(
        config, model=resolve_model(config.model, device), loss=resolve_loss(config.loss, device)
    )
    with contextlib.ExitStack() as stack:
        teacher = None
        if config.teacher is not None and not config.resume:
            opened = opened_model(config.teacher, config.device, config.model.attention, progress)
            found = stack.enter_context(opened)
            teacher = Teacher(found.cls, found.image_size)
        result = train(config, progress, teacher=teacher)
    if config.data.target:  # by all processes of torchrun together
        from pat.commands.evaluate import evaluate

        out, attention = config.out / "evaluation", config.model.attention
        evaluate(result.model, EvaluateConfig(config.data, out, device=config.device, attention=attention))


def read_arguments(arguments: Sequence[str]) -> TrainConfig:
    """The configuration that the command line asks for."""
    resumed = _resumed_folder(arguments)
    if resumed is not None:
        default = dataclasses.replace(saved_config(resumed), resume=True)
    else:
        default = left_to_the_device(TrainConfig(model=architecture_of_weights(arguments) or ModelConfig()))
    default, rest = with_config_file(default, arguments)
    given: Arguments = parse(Arguments, rest, "train", Arguments(default))
    return given.training


def architecture_of_weights(arguments: Sequence[str]) -> ModelConfig | None:
    """That of the model of this project which --weights names, file or folder: it is the default then."""
    path = looked_for(arguments, weights={"type": Path, "default": Path()})[0].weights
    path = path / MODEL if path.is_dir() else path
    if path.suffix != Path(MODEL).suffix or not path.is_file():
        return None
    from pat.model.model_file import read_description

    try:
        return dataclasses.replace(read_description(path).config, identities=0)
    except UserError:  # somebody else's, or damaged: told where its tensors are read
        return None


def _resumed_folder(arguments: Sequence[str]) -> Path | None:
    """The folder of the run to continue, when --resume is given: its settings are then the defaults."""
    out = {"type": Path, "default": TrainConfig.out}
    known, _ = looked_for(arguments, resume={"action": "store_true"}, out=out)
    return known.out if known.resume else None
