"""Two drawn domains and a training from scratch that two CPU cores manage: for the demo and the ablations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pat.base.progress import Progress, totals
from pat.config import AugmentConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig
from pat.synthetic.flat import generate

SIZE = (96, 48)
"""Height and width: a quarter of the paper's tokens would blur the bands, a smaller patch keeps 12 x 6."""

TRAINING = TrainConfig(
    model=ModelConfig(
        "vit_tiny_patch16_224", SIZE, patch_size=8, width=128, depth=4, heads=2, drop_path=0.0, attention="auto"
    ),
    augment=AugmentConfig(pad=4, color_jitter=0.4),
    loss=LossConfig(neighbours="auto", bank_read="auto"),
    optim=OptimConfig(
        name="adamw", lr=2e-3, weight_decay=0.05, bias_lr_factor=1.0, warmup_epochs=2, warmup_lr=2e-4,
        cosine_epochs=18, min_lr_ratio=0.01,
    ),
    weights="none",
    epochs=18,
    tensorboard=False,
)
"""From scratch, small enough for two CPU cores."""

DOMAINS: Mapping[str, Mapping[str, int]] = {
    "source": {"identities_train": 120, "identities_test": 12, "images_per_camera": 3},
    "target": {
        "identities_train": 2, "identities_test": 60, "images_per_camera": 3, "distractors": 40, "junk": 12
    },
}
"""They differ in cameras, places and wardrobes."""


def draw_domains(folder: Path, progress: Progress, domains: Mapping[str, Mapping[str, int]] = DOMAINS) -> None:
    """Draw `folder`/source and `folder`/target, unless an earlier call drew them."""
    for name, numbers in domains.items():
        if (folder / name).exists():
            progress.say(f"using the images in {folder / name}")
            continue
        with progress.bar(f"draw {name}", 0) as advance:
            count = totals(advance)
            generate(folder / name, style=name, cameras=4, seed=1, progress=count, **numbers)  # type: ignore[arg-type]
