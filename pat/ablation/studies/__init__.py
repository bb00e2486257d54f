"""The studies that train: each a function from a configuration to its arms."""

from collections.abc import Callable, Mapping

from pat.ablation.studies.components import components
from pat.ablation.studies.field import field
from pat.ablation.studies.memory import memory
from pat.ablation.studies.recipe import recipe
from pat.ablation.studies.sweep import sweep
from pat.ablation.study import Study
from pat.config import TrainConfig

STUDIES: Mapping[str, Callable[[TrainConfig], Study]] = {
    "components": components,
    "field": field,
    "recipe": recipe,
    "memory": memory,
    "sweep": sweep,
}
