"""The training run, top to bottom: prepare, then for each epoch fill the bank where it is due, step, log, save."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from pat.base.errors import Failure
from pat.base.files import copy_whole, write_json
from pat.base.mapping import to_mapping
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.data.augment import Augmentation
from pat.data.batches import read_batches
from pat.data.sample import digest
from pat.evaluation.scoring import score
from pat.model import weights as model_weights
from pat.model.images import embedder
from pat.training import run_folder
from pat.training.bank_fill import fill_bank, measured_scale
from pat.training.checkpoint import Position, load_checkpoint, save_checkpoint
from pat.training.data import TrainingData, batches, open_training_data
from pat.training.distributed import Ranks
from pat.training.graph import most_alike
from pat.training.job import joined, stop_flag
from pat.training.state import TrainingState, build_state
from pat.training.step import Losses, training_step
from pat.training.teaching import Teacher, teachings
from pat.training.validate import validate

CHECK_EVERY = 10
"""Steps between looks at the losses: each look waits for the device."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has saved its state."""


class Diverged(Failure):
    """A loss or a weight was not finite."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves."""

    model: Path
    epoch: int
    """The epoch that became the model."""
    seconds: float


def train(
    config: TrainConfig,
    progress: Progress | None = None,
    leave: Callable[[], bool] = lambda: False,
    teacher: Teacher | None = None,
) -> TrainResult:
    """Train as `config` says and write `config.out`/model.safetensors.

    `leave` is asked between two steps; True stops the run there, as Ctrl-C does. It is not asked while the bank is
    filled, which would have to begin anew. `teacher` is the model that `config.teacher` names, opened; a
    run that goes on needs none.
    Raises UserError for what the user can mend, Failure when a loss is not finite or a file cannot be written,
    Interrupted after Ctrl-C or `leave` once the state is saved.

    Under torchrun every process calls it; the first one alone writes and reports.
    """
    with stop_flag() as asked, joined(config.device, config.rank_timeout) as ranks:
        validate(config, ranks.count)
        progress = progress if progress is not None and ranks.first else Progress()
        with run_folder.claimed(config.out) if ranks.first else contextlib.nullcontext():
            if ranks.first:
                run_folder.prepare(config.out, config)
            data = open_training_data(config.data, config.model.image_size, config.seed, progress)
            state = build_state(config, data.training, ranks, progress, data.pixels)
            if config.teacher is not None:
                state.taught = teachings(teacher, data, config, state.model, ranks, progress)
            return _Run(config, data, state, ranks, progress, asked, leave).run()


@dataclass
class _Run:
    """A run in progress; `run` is its story."""

    config: TrainConfig
    data: TrainingData
    state: TrainingState
    ranks: Ranks
    progress: Progress
    asked: Callable[[], bool]
    leave: Callable[[], bool]

    def __post_init__(self) -> None:
        self.augmentation = Augmentation(self.config.augment, self.config.model.image_size)
        self.samples = digest(self.data.training.samples, self.data.training.labels.tolist())
        self.position, self.log = Position(), run_folder.Log()

    def run(self) -> TrainResult:
        config, started = self.config, time.perf_counter()
        self._begin()
        position = self.position
        if self.ranks.first:
            run_folder.write_config(config.out, config)
            self.log = run_folder.FileLog(config.out, config.tensorboard, position.global_step)
        try:
            while not self._done():
                if position.step == 0 and self._bank_is_due():
                    self._fill_bank()
                self._train_epoch()
                if config.select == "heldout" and self._due(config.select_every):
                    self._score_heldout()
                if config.keep_every and position.epoch % config.keep_every == 0:
                    self._save_model(config.out / "models" / f"epoch-{position.epoch:04d}.safetensors")
                save = self._due(config.checkpoint_every)
                position.epoch, position.step = position.epoch + 1, 0
                if save:
                    self._save_checkpoint()
        finally:
            self.log.close()
        return self._finish(time.perf_counter() - started)

    def _begin(self) -> None:
        """Take up the saved state of a run that goes on; what is to be refused is refused here at the latest."""
        if self.config.resume:
            checkpoint = self.config.out / run_folder.CHECKPOINT
            self.position = load_checkpoint(checkpoint, self.samples, self.state.saved_parts(self.ranks))
            self.state.csl_scale = self.position.csl_scale or self.state.csl_scale
            self.progress.say(f"resumed after step {self.position.global_step} (epoch {self.position.epoch})")
        self.ranks.agree(self._facts, self.asked)
        batches(self.config, self.data.training, self.position.epoch)  # after filling it took hours

    def _bank_is_due(self) -> bool:
        """Whether the bank is to be filled before the epoch that comes."""
        config, since = self.config.loss, self.position.epoch - self.config.loss.csl_start
        again = config.bank_refill and since > 0 and since % config.bank_refill == 0
        return self.state.bank is not None and bool(since == 0 or again)

    def _fill_bank(self) -> None:
        """Fill the bank; a run that is stopped meanwhile will fill it from the start."""
        position, state = self.position, self.state
        assert state.bank is not None
        arguments = (self.config, self.data, state, self.augmentation, self.ranks, self.progress, self.asked)
        done = fill_bank(*arguments, epoch=position.epoch)
        if self.ranks.any(not done):
            if not position.global_step:
                raise Interrupted("stopped while filling the memory bank; nothing was trained yet")
            self._interrupt()
        if not self.config.loss.scale:
            position.csl_scale = state.csl_scale = measured_scale(state.bank, self.ranks)
            self.progress.say(f"epoch {position.epoch}: scale of CSL {state.csl_scale:.3g}, measured")

    def _facts(self) -> dict[str, str]:
        """What the ranks must have in common before they begin."""
        config = to_mapping(self.config)
        for folders in ("source", "root", "cache"):  # may lie elsewhere on each machine
            del config["data"][folders]
        return {
            "settings": json.dumps(config),
            "training images": self.samples,
            "starting weights": self.state.weights_digest(),
            "position in the run": json.dumps(vars(self.position)),
        }

    def _train_epoch(self) -> None:
        config, position, training = self.config, self.position, self.data.training
        alike = None if config.sampling == "random" else self._alike()
        steps = batches(config, training, position.epoch, alike)
        self.state.model.train()
        self.state.schedule.step(position.epoch)
        pending: list[Tensor] = []
        sums, seen, speed, started = np.zeros(()), 0, 0.0, time.perf_counter()
        stopping, last, clock = False, False, started
        with self.progress.bar(self._epoch(), len(steps)) as advance:
            advance(position.step)
            ahead, rows = steps[position.step :], self.ranks.rows(steps.shape[1])
            for batch in read_batches(self.data.pixels, training.labels, ahead, self.ranks.device, rows):
                if config.optim.per_step or config.minutes:
                    self.state.schedule.step(self._epochs_done(len(steps)))
                self.state.model.take_images_of(self._image_size(self._epochs_done(len(steps)) / config.epochs))
                losses = training_step(
                    config, self.state, self.augmentation, batch, self.ranks, epoch=position.epoch,
                    step=position.step,
                )  # fmt: skip
                pending.append(losses)
                position.step += 1
                position.global_step += 1
                position.seconds, clock = position.seconds + time.perf_counter() - clock, time.perf_counter()
                stopping = self.ranks.any(self.asked() or self.leave())
                last = position.step == len(steps) or (config.minutes > 0 and self._done())
                if len(pending) == CHECK_EVERY or last or stopping:
                    sums = sums + self._log_losses(pending, steps)
                    seen += len(pending)
                    pending.clear()
                    speed = seen * steps.shape[1] / (time.perf_counter() - started)
                    advance(0, f"loss {Losses.by_term(sums / seen)['loss']:.3f}  {speed:.0f} images/s")
                advance(1)
                if stopping or last:
                    break
        self.state.model.take_images_of(config.model.image_size)
        if last:
            self._log_epoch(sums / seen, speed)
        if stopping:
            self._interrupt()

    def _alike(self) -> np.ndarray:
        """Which identities share a batch in this epoch: seen once, when it begins; a run's minutes count it."""
        position, config = self.position, self.config
        if position.alike is None or position.step == 0:
            began = time.perf_counter()
            found = most_alike(config, self.data, self.state, self.ranks, self.progress, epoch=position.epoch)
            position.alike, position.seconds = found.tolist(), position.seconds + time.perf_counter() - began
        return np.array(position.alike)

    def _interrupt(self) -> NoReturn:
        self._save_checkpoint()
        raise Interrupted(
            f"stopped after step {self.position.global_step}; continue with "
            f"`pat train --out {self.config.out} --resume`"
        )

    def _epochs_done(self, steps: int) -> float:
        """How far the run is, in epochs of `steps` steps, for the learning rate."""
        if self.config.minutes:
            return min(self.position.seconds / 60 / self.config.minutes, 1.0) * self.config.epochs
        return self.position.epoch - 1 + (self.position.step + 1) / steps

    def _image_size(self, done: float) -> tuple[int, int]:
        """Height and width to train on when the share `done` of the run is over: whole patches."""
        half, three_quarters = self.config.small_images
        share = 0.5 if done < half else 0.75 if done < three_quarters else 1.0
        (height, width), (rows, columns) = self.config.model.image_size, self.state.model.own_grid
        return height // rows * max(1, round(share * rows)), width // columns * max(1, round(share * columns))

    def _last_epoch(self) -> int:
        """The number of the last epoch of a run that is done."""
        return self.position.epoch - 1 if self.config.minutes and self._done() else self.config.epochs

    def _epoch(self) -> str:
        return f"epoch {self.position.epoch}" + ("" if self.config.minutes else f"/{self.config.epochs}")

    def _done(self) -> bool:
        if self.config.minutes:
            return self.position.seconds >= 60 * self.config.minutes
        return self.position.epoch > self.config.epochs

    def _log_losses(self, pending: list[Tensor], steps: np.ndarray) -> np.ndarray:
        """Log the losses of the last steps and return their sum. Raises Diverged when one is not finite."""
        values = torch.stack(pending).cpu().numpy()
        position = self.position
        for ago, row in zip(range(len(values) - 1, -1, -1), values, strict=True):
            step = position.step - ago
            if not np.isfinite(row).all():
                self._report_divergence(step, row, steps[step - 1])
            numbers = Losses.by_term(row)
            self.log.write("step", position.global_step - ago, epoch=position.epoch, step=step, **numbers)
        return values.sum(0)

    def _log_epoch(self, means: np.ndarray, speed: float) -> None:
        position, rate = self.position, self.state.optimiser.param_groups[0]["lr"]
        numbers = Losses.by_term(means)
        self.log.write(
            "epoch", position.global_step, epoch=position.epoch, lr=rate, images_per_second=speed, **numbers
        )
        text = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items() if value)
        self.progress.say(f"{self._epoch()}: {text}  lr {rate:.1e}  {speed:.0f} images/s")

    def _report_divergence(self, step: int, losses: np.ndarray, indices: np.ndarray) -> None:
        """Name the batch and stop; the checkpoint on disk is older than the bad step."""
        images = [str(self.data.training.samples[index].path) for index in indices]
        found = {name: str(value) for name, value in Losses.by_term(losses).items()}
        self.log.flush()
        path = self.config.out / "diverged.json"
        checkpoint = (self.config.out / run_folder.CHECKPOINT).exists()
        kept = "the last checkpoint is kept" if checkpoint else "there is no checkpoint yet"
        if self.ranks.first:
            epoch = self.position.epoch
            write_json(path, {"epoch": epoch, "step": step, "losses": found, "images": images})
        raise Diverged(
            f"the loss of epoch {self.position.epoch}, step {step} is not finite ({found['loss']}); its "
            f"{len(images)} images are listed in {path} and {kept}; "
            "a lower --optim.lr or --optim.clip-norm 1 usually helps"
        )

    def _due(self, every: int) -> bool:
        last = self._done() if self.config.minutes else self.position.epoch == self.config.epochs
        return last or self.position.epoch % every == 0

    def _score_heldout(self) -> None:
        """Keep the best model by mAP on held-out identities of the source. The target is never seen."""
        assert self.data.heldout is not None
        self._check_weights()
        position, model = self.position, self.state.evaluated.eval()
        shared = self.ranks.sharing(embedder(model, self.ranks.device))
        batch = 64 * self.ranks.count
        scored = score(shared, self.data.heldout, self.progress, batch_size=batch, label="held-out source")
        mAP = scored.result.mAP
        self.log.write("heldout", position.global_step, epoch=position.epoch, mAP=mAP)
        self.progress.say(f"epoch {position.epoch}: held-out source mAP {mAP:.1%}")
        if mAP > position.best_score:
            position.best_score, position.best_epoch = mAP, position.epoch
            self._save_model(self.config.out / "best.safetensors")

    def _save_checkpoint(self) -> None:
        self.log.flush()
        path = self.config.out / run_folder.CHECKPOINT
        parts = self.state.saved_parts(self.ranks)
        save_checkpoint(path, self.position, self.samples, parts, write=self.ranks.first)

    def _check_weights(self) -> None:
        """The losses are those before an update; the last update may still have gone wrong. Raises Diverged."""
        broken = [
            name
            for name, tensor in self.state.evaluated.state_dict().items()
            if tensor.is_floating_point() and not tensor.isfinite().all()
        ]
        if broken:
            raise Diverged(
                f"the weights after step {self.position.global_step} are not finite ({broken[0]} and "
                f"{len(broken) - 1} more); a lower --optim.lr or --optim.clip-norm 1 usually helps"
            )

    def _save_model(self, path: Path) -> None:
        self._check_weights()
        if not self.ranks.first:
            return
        facts = {
            "epoch": min(self.position.epoch, self._last_epoch()),
            "seed": self.config.seed,
            "source": list(self.config.data.source),
            "images": len(self.data.training.samples),
            "slots": 0 if self.state.bank is None else self.state.bank.size,
            "started_from": self.config.weights,
            "ema": self.config.ema,
        }
        model_weights.save(self.state.evaluated, path, facts)

    def _finish(self, seconds: float) -> TrainResult:
        path, best = self.config.out / run_folder.MODEL, self.position.best_epoch
        if self.config.select != "heldout" or not best:
            self._save_model(path)
        elif self.ranks.first:
            copy_whole(self.config.out / "best.safetensors", path)
        self.ranks.any(False)  # nobody goes on before the model is there
        epoch = best or self._last_epoch()
        self.progress.say(f"wrote {path} (epoch {epoch})")
        return TrainResult(path, epoch, seconds)
