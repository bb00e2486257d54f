"""Settings that cannot work, refused by name before any work is done."""

from __future__ import annotations

from pat.base.errors import UserError
from pat.config import TrainConfig


def validate(config: TrainConfig, ranks: int = 1) -> None:
    """Refuse settings that cannot work with so many ranks, by name, before any work is done. Raises UserError."""
    positive = {
        "epochs": config.epochs,
        "identities_per_batch": config.identities_per_batch - 1,
        "images_per_identity": config.images_per_identity,
        "checkpoint_every": config.checkpoint_every,
        "select_every": config.select_every,
        "optim.lr": config.optim.lr,
        "optim.cosine_epochs": config.optim.cosine_epochs,
        "rank_timeout": config.rank_timeout,
        "loss.k": config.loss.k,
        "loss.scale": config.loss.scale,
        "loss.momentum": config.loss.momentum,
        "loss.temperature": config.loss.temperature,
    }
    for name, value in positive.items():
        if not value > 0:
            least = "at least 2" if name == "identities_per_batch" else "above 0"
            raise UserError(f"{name} must be {least}")
    batch = config.identities_per_batch * config.images_per_identity
    if batch % ranks:
        raise UserError(
            f"{ranks} ranks cannot share a batch of {config.identities_per_batch} x {config.images_per_identity} "
            f"= {batch} images equally; change --identities-per-batch, --images-per-identity or the ranks"
        )
    if config.minutes and ranks > 1:
        raise UserError("--minutes is for one process: the clocks of several differ; give --epochs")
    shares = {
        "data.holdout": config.data.holdout,
        "augment.flip": config.augment.flip,
        "augment.erasing": config.augment.erasing,
        "loss.psd": config.loss.psd,
        "loss.psd_mix": config.loss.psd_mix,
        "loss.label_smoothing": config.loss.label_smoothing,
        "model.drop_path": config.model.drop_path,
        "ema": config.ema,
        "optim.layer_decay": config.optim.layer_decay,
        "loss.momentum": config.loss.momentum,
    }
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} is {value}; it is a share between 0 and 1")
    if config.select == "heldout" and not config.data.holdout:
        raise UserError("--select heldout needs identities to hold out: give --data.holdout 0.1")
