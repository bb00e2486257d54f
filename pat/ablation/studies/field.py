"""Methods of the field beside PAT's, each by itself on the plain ViT: the comparison at equal settings."""

from __future__ import annotations

from pat.ablation.studies.components import require_losses
from pat.ablation.study import Arm, Settings, Study
from pat.config import TrainConfig
from pat.evaluation.kinds import Kind

KINDS = (Kind(), Kind(rerank="re-ranked"), Kind(rerank="re-ranked by camera"))

PLAIN: Settings = {"model": {"parts": 0}, "loss": {"csl": 0.0, "psd": 0.0}}

STRONG = {"color_jitter": 0.5, "erasing": 0.5}
"""What BAU changes its second view by, without RandAugment, which is not in this code."""

BAU = {"alignment": 1.5, "uniformity": 1.0, "domain_uniformity": 1.0}

METHODS: tuple[Arm, ...] = (
    Arm("mix-style", "MixStyle", {"augment": {"mix_style": 0.5}}),
    Arm("camera-adversary", "camera adversary", {"loss": {"camera": 0.1}}),
    Arm("strong", "BAU's changes alone", {"augment": STRONG}),
    Arm("bau", "BAU", {"augment": STRONG, "loss": BAU}),
    Arm("graph", "graph sampling", {"sampling": "graph"}),
    Arm("cameras", "cameras of a batch spread", {"spread_cameras": True}),
    Arm("renorm", "batch renormalisation", {"model": {"neck": "renorm"}}),
)
"""Each named by what it adds to the plain ViT."""


def field(base: TrainConfig) -> Study:
    """Do PAT's losses help where other methods are compared? Raises UserError where `base` lacks PAT's."""
    require_losses("field", base)
    arms = [
        Arm("plain-vit", "plain ViT", PLAIN, KINDS),
        Arm("parts", "PAT, no CSL, no PSD", {"loss": {"csl": 0.0, "psd": 0.0}}),
        Arm("pat", "PAT + CSL + PSD"),
    ]
    for arm in METHODS:
        arms.append(Arm(arm.key, arm.name, {**PLAIN, **arm.settings, **_merged(arm.settings)}))
    return Study(
        "field",
        "Do PAT's losses help where other methods of the field are compared, at equal settings?",
        tuple(arms),
    )


def _merged(settings: Settings) -> Settings:
    """The groups that the plain ViT changes too, with what both change."""
    return {group: {**PLAIN[group], **settings[group]} for group in PLAIN if group in settings}
