"""The training of the detector: a loop that ends with its time, is saved now and then, and goes on from there."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.detector.data import read_frames
from bench.detector.loss import detection_loss
from bench.detector.network import MEAN, STD, PersonDetector, grid
from bench.detector.patches import Frame, Patch, cut_patch
from pat.base.errors import Failure
from pat.base.files import written_whole
from pat.base.progress import Progress
from pat.device import multiplies_bfloat16
from pat.synthetic.randomness import stream

RATE, DECAY, WARM_UP = 3e-3, 0.02, 50
"""AdamW; steps of warm-up."""
AVERAGED = 0.99
"""Momentum of the average of the weights, which is what ships."""
SIDES = ((0.0, 160, 16), (0.75, 256, 8))
"""From which share of the time on: side of a patch, patches in a batch."""
EACH = 4
"""Patches of a frame that was read."""
SAVE_EVERY = 120.0
"""Seconds."""


def train(
    frames: Path, checkpoint: Path, minutes: float, seed: int, leave: Callable[[], bool], progress: Progress
) -> None:
    """Train for `minutes` of work in all, on whatever frames are there by then; resumes from `checkpoint`."""
    torch.manual_seed(seed)
    detector = PersonDetector().to(memory_format=torch.channels_last)
    average = copy.deepcopy(detector)
    optimiser = torch.optim.AdamW(detector.parameters(), RATE, weight_decay=DECAY)
    step, worked = 0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        detector.load_state_dict(state["detector"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, worked = state["step"], state["worked"]
    fast = multiplies_bfloat16()
    batches = _batches(frames, seed + step, lambda: worked / (60 * minutes))
    began = saved = time.monotonic()
    while worked < 60 * minutes and not leave():
        share = min(worked / (60 * minutes), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min((step + 1) / WARM_UP, 0.02 + 0.49 * (1 + math.cos(math.pi * share)))
        images, people, unclear = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            scores, boxes = detector(images)
        cells = grid(*images.shape[2:])
        score_loss, box_loss = detection_loss(scores.float(), boxes.float(), cells, people, unclear)
        optimiser.zero_grad(set_to_none=True)
        (score_loss + box_loss).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimiser.step()
        step += 1
        _follow(average, detector, min(AVERAGED, step / (step + 10)))
        now = time.monotonic()
        worked, began = worked + now - began, now
        if step % 50 == 0:
            progress.say(
                f"step {step}, {worked / 60:.1f} min, patches of {images.shape[2]}: "
                f"score {float(score_loss):.3f}, box {float(box_loss):.3f}"
            )
        if now - saved > SAVE_EVERY:
            saved = now
            _save(checkpoint, detector, average, optimiser, step, worked)
    _save(checkpoint, detector, average, optimiser, step, worked)


def averaged(checkpoint: Path) -> tuple[PersonDetector, int]:
    """The detector that ships, in evaluation mode, and its training steps."""
    state = torch.load(checkpoint, weights_only=True)
    detector = PersonDetector()
    detector.load_state_dict(state["average"])
    return detector.eval(), state["step"]


def _follow(average: PersonDetector, detector: PersonDetector, momentum: float) -> None:
    with torch.no_grad():
        new = detector.state_dict()
        for name, old in average.state_dict().items():
            if old.is_floating_point():
                old.lerp_(new[name], 1 - momentum)


def _batches(
    folder: Path, seed: int, share: Callable[[], float]
) -> Iterator[tuple[Tensor, list[Tensor], list[Tensor]]]:
    """Patches f32 [B, 3, side, side], normalised, and boxes for each; frames that come later are taken in."""
    g = stream("patches", seed)
    while True:
        frames = read_frames(folder)
        if not frames:
            raise Failure(f"{folder} holds no frames")
        pool: dict[int, list[Patch]] = {}
        clutter = Frame.read(frames[int(g.integers(len(frames)))])
        for index in g.permutation(len(frames)):
            side, count = next((side, count) for begin, side, count in reversed(SIDES) if share() >= begin)
            patches = pool.setdefault(side, [])
            frame = Frame.read(frames[index])
            patches += [cut_patch(frame, clutter, side, g) for _ in range(EACH)]
            clutter = frame
            if len(patches) >= count:
                yield _together(pool.pop(side)[:count])


def _together(patches: list[Patch]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    pixels = torch.from_numpy(np.stack([each.pixels for each in patches])).permute(0, 3, 1, 2)  # channels last
    images = pixels.float().div_(255).sub_(MEAN).div_(STD)
    people = [torch.from_numpy(each.boxes) for each in patches]
    return images, people, [torch.from_numpy(each.unclear) for each in patches]


def _save(
    checkpoint: Path, detector: PersonDetector, average: PersonDetector, optimiser: torch.optim.Optimizer,
    step: int, worked: float,
) -> None:  # fmt: skip
    state = {
        "detector": detector.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(),
        "step": step, "worked": worked,
    }  # fmt: skip
    with written_whole(checkpoint) as temporary:
        torch.save(state, temporary)
