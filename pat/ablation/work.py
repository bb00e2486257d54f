"""One run of a study from start to result, in a process of its own; a run that was cut short goes on."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import torch

import pat
from pat.ablation import people
from pat.ablation.plan import RESULT, Result, Run
from pat.base.files import write_json
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.evaluation.extract import Embed
from pat.evaluation.scoring import open_evaluation_set, score_kinds
from pat.losses import MemoryBank
from pat.model import model_file
from pat.model.images import embedder
from pat.training import run_folder
from pat.training.loop import Diverged, train
from pat.training.side_by_side import epochs_of


def carry_out(run: Run, device: str) -> Result:
    """Train `run`, score it and write its result.json.

    A run whose loss is not finite has diverged: that is a result. Raises what `train` raises otherwise.
    """
    config = dataclasses.replace(run.config, device=device)
    started = time.perf_counter()
    try:
        _train(config)
    except Diverged as error:
        result = Result("diverged", time.perf_counter() - started, note=str(error).split(";")[0])
    else:
        seconds = time.perf_counter() - started
        if run.purpose == "tune":
            result = Result("finished", seconds, heldout=_heldout(config))
        else:
            scores = _scores(run, config, torch.device(device))
            result = Result("finished", seconds, scores=scores)
        result = dataclasses.replace(result, step_seconds=_step_seconds(config), bank_bytes=_bank_bytes(config))
    write_json(run.folder / RESULT, dataclasses.asdict(result))
    spent = [run_folder.CHECKPOINT, "best.safetensors"]  # large, and of no more use
    if run.purpose == "tune":
        spent.append(run_folder.MODEL)
    for name in spent:
        (run.folder / name).unlink(missing_ok=True)
    return result


def _train(config: TrainConfig) -> None:
    if (config.out / run_folder.MODEL).exists():
        return  # it ended between its training and its result
    train(dataclasses.replace(config, resume=(config.out / run_folder.CHECKPOINT).exists()))


def _heldout(config: TrainConfig) -> float:
    """The mAP on held-out identities of the last epoch, from the run's log."""
    lines = (config.out / run_folder.LOG).read_text(encoding="utf-8").splitlines()
    return [float(line["mAP"]) for line in map(json.loads, lines) if line["event"] == "heldout"][-1]


def _step_seconds(config: TrainConfig) -> float | None:
    """From the log's images a second; None where no epoch was finished."""
    speeds = [epoch["images_per_second"] for epoch in epochs_of(config.out)]
    return config.identities_per_batch * config.images_per_identity / float(np.median(speeds)) if speeds else None


def _bank_bytes(config: TrainConfig) -> int:
    """Of the average, its norms and its rounded copy, as one device holds them."""
    if not config.loss.csl and not config.loss.psd:
        return 0
    tensors, file = model_file.read(config.out / run_folder.MODEL)
    with torch.device("meta"):
        bank = MemoryBank(
            file.config.parts, int(file.training["slots"]), tensors["cls_token"].shape[-1],
            read_dtype=getattr(torch, config.loss.bank_read),
        )  # fmt: skip
    return sum(buffer.nbytes for buffer in bank.buffers())


def _scores(run: Run, config: TrainConfig, device: torch.device) -> dict[str, dict[str, dict[str, float]]]:
    """Target -> kind -> mAP, rank1."""
    model = pat.load(config.out / run_folder.MODEL, config.model.attention).to(device)

    def embed(parts: bool) -> Embed:
        return embedder(model, device, parts=parts)

    scores: dict[str, dict[str, dict[str, float]]] = {}
    of_people: dict[str, dict[str, dict[str, list[float]]]] = {}
    for spec in config.data.target:
        images = open_evaluation_set(spec, config.model.image_size, config.data, Progress())
        found = score_kinds(embed, images, run.arm.kinds, Progress(), device=str(device))
        scores[images.name] = {
            kind: {"mAP": each.result.mAP, "rank1": float(each.result.cmc[0])} for kind, each in found.items()
        }
        of_people[images.name] = {kind: people.of_score(each) for kind, each in found.items()}
    write_json(config.out / people.FILE, of_people, indent=None)
    return scores
