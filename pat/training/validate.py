"""Settings that cannot work together, refused by name before any work is done."""

from __future__ import annotations

from kernels.nearest_parts.tiles import MOST_NEIGHBOURS
from pat.base.errors import UserError
from pat.base.mapping import check_limits
from pat.config import TrainConfig


def validate(config: TrainConfig, ranks: int = 1) -> None:
    """Refuse settings outside their fields' limits, and those that do not go together or with so many ranks.

    Raises UserError, by name, before any work is done.
    """
    check_limits(config)
    batch = config.identities_per_batch * config.images_per_identity
    if batch % ranks:
        raise UserError(
            f"{ranks} ranks cannot share a batch of {config.identities_per_batch} x {config.images_per_identity} "
            f"= {batch} images equally; change --identities-per-batch, --images-per-identity or the ranks"
        )
    if config.small_images[0] > config.small_images[1]:
        given = " ".join(f"{share:g}" for share in config.small_images)
        raise UserError(f"--small-images {given}: half the size comes before three quarters; give its end first")
    if config.augment.low_resolution + config.augment.blur > 1:
        raise UserError("--augment.low-resolution and --augment.blur are never together: 1 at most as a sum")
    mixing, camera, alignment = config.augment.mix_style, config.loss.camera, config.loss.alignment
    if ranks > 1 and (mixing or camera or alignment):
        raise UserError(
            "--augment.mix-style, --loss.camera and --loss.alignment are for one process: several would not give "
            "the losses of one"
        )
    if config.model.neck != "norm" and config.model.cosine_scale:
        raise UserError("--model.neck renorm needs a neck, which cosines do not have: give --model.cosine-scale 0")
    queue = config.loss.bank_queue
    if (config.loss.bank_quota or queue) and ranks > 1:
        raise UserError("--loss.bank-quota and --loss.bank-queue are for one process; leave them at 0")
    if config.loss.bank_quota and queue:
        raise UserError("--loss.bank-quota and --loss.bank-queue are two kinds of bank; give one of them")
    if 0 < queue < batch:
        raise UserError(f"--loss.bank-queue {queue} does not hold a batch of {batch} images; give {batch} or more")
    if config.loss.neighbours == "triton" and config.loss.k > MOST_NEIGHBOURS:
        raise UserError(
            f"--loss.k {config.loss.k}: --loss.neighbours triton finds {MOST_NEIGHBOURS} at most; give less, or "
            "--loss.neighbours reference"
        )
    if config.loss.psd and not config.loss.identity:
        raise UserError(
            f"--loss.psd {config.loss.psd:g} is a share of the identity loss, which weighs 0: give "
            "--loss.identity 1, or --loss.psd 0"
        )
    if config.minutes and ranks > 1:
        raise UserError("--minutes is for one process: the clocks of several differ; give --epochs")
    if config.loss.csl_start > config.epochs:
        raise UserError(
            f"--loss.csl-start {config.loss.csl_start} is beyond the last of {config.epochs} epochs; to train "
            "without CSL and PSD give --loss.csl 0 --loss.psd 0"
        )
    if config.select == "heldout" and not config.data.holdout:
        raise UserError("--select heldout needs identities to hold out: give --data.holdout 0.1")
    if (config.teacher is not None) != (config.loss.distill > 0):
        raise UserError("--teacher and --loss.distill go together: whom to learn from, and how much it weighs")
    if config.weights == "teacher" and config.teacher is None:
        raise UserError("--weights teacher is a slice of --teacher MODEL, which is not given")
    if not any((config.loss.identity, config.loss.triplet, config.loss.contrastive, config.loss.distill)):
        raise UserError("nothing trains the embedding: identity, triplet, contrastive and distill all weigh 0")
