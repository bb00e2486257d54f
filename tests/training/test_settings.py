"""Settings of a training: which go together, which cannot work, and what is remarked."""

import pytest

from pat.base.errors import UserError
from pat.base.progress import TerminalProgress
from pat.training.loop import train
from pat.training.validate import validate

TOGETHER = [
    {"loss__neighbours": "triton", "loss__k": 32, "loss__bank_read": "bfloat16"},
    {"loss__neighbours": "reference", "loss__k": 33, "loss__bank_read": "bfloat16"},
    {"augment__low_resolution": 0.5, "augment__blur": 0.5},
    {"loss__identity": 0.0, "loss__psd": 0.0},
    {"loss__camera": 0.1}, {"loss__alignment": 1.0}, {"augment__mix_style": 0.5}, {"loss__bank_quota": 2},
]  # fmt: skip


@pytest.mark.parametrize("change", TOGETHER)
def test_settings_that_go_together(config, change):
    validate(config(**change))


@pytest.mark.parametrize(
    ("change", "ranks", "message"),
    [
        *((change, 2, "are for one process") for change in TOGETHER[-4:]),
        ({"loss__bank_quota": 2, "loss__bank_queue": 12}, 1, "two kinds of bank"),
        ({"loss__bank_queue": 5}, 1, "does not hold a batch of 6 images"),
        ({"loss__neighbours": "triton", "loss__k": 33}, 1, r"loss\.k 33: .* triton finds 32 at most"),
        ({"augment__low_resolution": 0.6, "augment__blur": 0.5}, 1, "never together"),
        ({"model__neck": "renorm", "model__cosine_scale": 16.0}, 1, "renorm needs a neck"),
        ({"loss__identity": 0.0}, 1, r"loss\.psd 0\.5 is a share of the identity loss, which weighs 0"),
        ({"small_images": (0.5, 0.2)}, 1, "half the size comes before"),
    ],
)
def test_settings_that_do_not_go_together(config, change, ranks, message):
    with pytest.raises(UserError, match=message):
        validate(config(**change), ranks)


@pytest.mark.parametrize(("loss", "said"), [({"bank_quota": 99}, True), ({"bank_queue": 99}, True), ({}, False)])
def test_a_small_bank_that_holds_everything_is_said_to(config, loss, said, capsys):
    train(config(epochs=1, **{f"loss__{name}": value for name, value in loss.items()}), TerminalProgress())
    assert ("a slot for each of the" in capsys.readouterr().err) == said


def test_neighbours_that_are_everybody_are_remarked(config, capsys):
    train(config(epochs=1, loss__k=36), TerminalProgress())
    assert "--loss.k 36 takes all 36 slots for neighbours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs = 0 is not a whole number of at least 1"),
        ({"identities_per_batch": 1}, "at least 2"),
        ({"identities_per_batch": 7}, "identities-per-batch"),
        ({"data__holdout": 1.5}, r"data\.holdout = 1\.5 is not a number of at least 0 and at most 1"),
        ({"select": "heldout"}, "--data.holdout"),
        ({"loss__csl_start": 3}, "beyond the last of 2 epochs"),
        ({"device": "cuda:7"}, "not there"),
        ({"device": "tpu9"}, "not one of"),
        ({"model__identities": 4}, "the source has 6 identities"),
        ({"data__source": []}, "--data.source"),
        ({"data__source": ["nowhere"]}, "nowhere"),
    ],
)
def test_settings_that_cannot_work(config, change, message):
    for out in ("new/run", "there"):
        folder = config(out).out
        if out == "there":
            folder.mkdir()
        with pytest.raises(UserError, match=message):
            train(config(out, **change))
        assert not folder.parent.exists() if out == "new/run" else not list(folder.iterdir())


def test_a_refused_run_touches_nothing_that_was_there(config):
    folder = config("notes").out
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no weights file"):
        train(config("notes", weights=str(folder / "nowhere.pth")))
    assert list(folder.iterdir()) == [folder / "notes.txt"]
