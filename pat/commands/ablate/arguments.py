"""What `pat ablate STUDY` can be told, and what of it is refused at once; nothing here loads PyTorch."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from pat.base.errors import UserError
from pat.base.mapping import overlay
from pat.commands.arguments import ConfigFile, left_to_the_device, parse, with_config_file
from pat.commands.small_study import DOMAINS, TRAINING
from pat.config import AttentionImplementation, Count, TargetConfig, TrainConfig

OUT = Path("runs/ablate")

QUICK_DOMAINS = {
    "source": {**DOMAINS["source"], "identities_train": 60},
    "target": {**DOMAINS["target"], "identities_test": 30},
}
QUICK_EPOCHS = 4
QUICK: dict[str, Any] = {"seeds": 2, "rate_factors": (1.0, 2.0), "tuning_seeds": 1}


@dataclass(frozen=True)
class Arguments:
    """Compare arms of a study over several seeds on targets that no training sees.

    Of models that are trained already: pat ablate labels --help, pat ablate shifts --help.

    Without --data.source it draws two domains of synthetic people and trains small networks from scratch. Runs
    that are finished are not repeated: the same command continues a study, more --seeds or rates extend it.
    Writes table.md, runs.csv, commands.sh and a figure for each target into --out, by default
    runs/ablate/STUDY, or STUDY-quick.
    """

    study: Positional[Literal["components", "field", "recipe", "memory", "sweep"]]
    """components: plain ViT, PAT without CSL and PSD, + CSL, + CSL + PSD, and ways to embed and rank. field: PAT
    beside MixStyle, a camera adversary, BAU, graph sampling and others, each on the plain ViT. recipe: what each
    part of a recipe is worth; give --config recipes/rendered.toml. memory: settings of the bank, with its bytes
    and the time of a step. sweep: the constants of CSL and PSD, one at a time and at random."""
    training: Annotated[TrainConfig, arg(name="")]
    seeds: int = 5
    """Trainings of each arm, with the seeds --seed, --seed + 1, ..."""
    rate_factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Learning rates tried for each arm, as multiples of --optim.lr; 1 alone leaves the tuning out."""
    tuning_seeds: int = 2
    """Trainings of each arm and rate that tune."""
    holdout: float = 0.2
    """Share of the source identities that the tuning leaves out and scores on."""
    processes: int | None = None
    """Runs at a time; default: one for each core of a CPU, or for each GPU."""
    arms: tuple[str, ...] = ()
    """These arms of the study alone, by their folders' names, beside its baseline; default: all."""
    own_arms: tuple[Path, ...] = ()
    """Arms of your own: TOML files of settings laid over the study's, called by their names. For other starts and
    backbones, such as CLIP, DINOv2 or ViT-L from a file: weights = "clip.pt" and model.backbone."""
    random: int = 0
    """sweep: settings drawn at random and scored on held-out people of the source, one rate; 0 searches none."""
    finalists: int = 3
    """sweep: the best of the random settings, which become arms with --seeds trainings each."""
    quick: bool = False
    """A try in minutes: 2 seeds, 2 rates, few epochs, fewer drawn people; other flags go before it."""
    config: ConfigFile = None


@dataclass(frozen=True)
class LabelsArguments:
    """Do the neighbours of a part feature wear what the part shows?

    Query and gallery of rendered people (pat synth people) stand for the memory bank. For every image and part:
    the share of its K neighbours, other people's images, that wear the same garment, colour or bag where the
    part's region shows it, against chance and against the neighbours of the global feature. Then how far soft
    labels can be believed, and how much of each token's attention lies on what is worn. Of several models, such
    as the seeds of one arm of a study, the mean is told, and a test over them. Writes table.md, figure.png and
    examples.png.
    """

    models: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="MODEL...", help_behavior_hint="(at least one)")
    ]
    """Model files with part tokens, or folders of finished runs: trainings of one configuration."""
    data: TargetConfig = field(default_factory=TargetConfig)
    out: Path = Path("runs/ablate/labels")
    images: Count = 4000
    """Images taken, evenly over the data set, where it has more."""
    k: Count = 10
    """Neighbours of an image."""
    device: str = "auto"
    attention: AttentionImplementation = "auto"


@dataclass(frozen=True)
class ShiftsArguments:
    """mAP against the strength of a shift: exposure, colour, blur, resolution, occlusion, night.

    The queries are changed and the gallery stays, as when one camera differs from the others. Where the images
    were rendered (pat synth people), the queries are also sorted by what is true of them. Writes table.md,
    figure.png and examples.png.
    """

    models: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="MODEL...", help_behavior_hint="(at least one)")
    ]
    """Model files, folders of finished runs, or bundles, side by side: a plain ViT and a PAT, for example."""
    data: TargetConfig = field(default_factory=TargetConfig)
    out: Path = Path("runs/ablate/shifts")
    device: str = "auto"
    attention: AttentionImplementation = "auto"


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """What the command line asks for: the paper's training on one's own data, a small one on drawn people."""
    words = [word.split("=")[0] for word in arguments]
    own = "--config" in words or "--data.source" in words
    quick = "--quick" in words
    training = TrainConfig(tensorboard=False) if own else TRAINING
    training = dataclasses.replace(left_to_the_device(training), out=OUT)
    training, rest = with_config_file(training, arguments)
    if quick:
        optim = {"warmup_epochs": 1, "cosine_epochs": QUICK_EPOCHS}
        training = overlay(training, {"optim": optim, "epochs": QUICK_EPOCHS}, "--quick")
    default = Arguments(tyro.MISSING, training, **(QUICK if quick else {}))
    given: Arguments = parse(Arguments, rest, "ablate", default)
    if given.training.out == OUT:
        out = OUT / (f"{given.study}-quick" if given.quick else given.study)
        given = dataclasses.replace(given, training=dataclasses.replace(given.training, out=out))
    return given


def check(given: Arguments) -> None:
    """Refuse what cannot work before any work is done. Raises UserError."""
    data = given.training.data
    if data.source and not data.target:
        raise UserError("name the data that no training sees with --data.target")
    if data.target and not data.source:
        raise UserError("--data.target is given without --data.source; leave both out to use drawn people")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("pat ablate gives each GPU a run of its own; start it without torchrun")
    if data.holdout or given.training.select != "last":
        raise UserError(
            "a study holds identities out for its tuning: use --holdout, not --data.holdout or --select"
        )
    if given.seeds < 1 or given.tuning_seeds < 1:
        raise UserError("--seeds and --tuning-seeds must be at least 1")
    if not given.rate_factors or not all(0 < factor < math.inf for factor in given.rate_factors):
        raise UserError("--rate-factors must be above 0 and finite")
    if given.random and given.study != "sweep":
        raise UserError("--random is for sweep")
    if not given.random and given.finalists != Arguments.finalists:
        raise UserError("--finalists are those of a random search; give --random, too")
    usual = QUICK["tuning_seeds"] if given.quick else Arguments.tuning_seeds
    if not tunes(given) and given.tuning_seeds != usual:
        raise UserError("--tuning-seeds: nothing is tuned; give --rate-factors other than 1, too")
    if given.random < 0 or given.finalists < 1:
        raise UserError("--random must not be negative and --finalists be at least 1")
    if not 0 < given.holdout < 1:
        raise UserError(f"--holdout is {given.holdout}; it is a share between 0 and 1")


def tunes(given: Arguments) -> bool:
    """Whether settings are tried on held-out people."""
    return given.random > 0 or len({1.0, *given.rate_factors}) > 1
