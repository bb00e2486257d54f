"""Which format a file is in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pat.base.errors import UserError
from pat.model import model_file
from pat.model.foreign.authors import from_authors
from pat.model.foreign.checkpoint import HALF, IMAGENET, Checkpoint, Hints, StateDict, listed
from pat.model.foreign.clip import class_embedding_of, from_clip
from pat.model.foreign.other_names import (
    from_hugging_face,
    from_torchvision,
    hugging_face_prefix,
    is_torchvision,
)
from pat.model.foreign.pass_vit import from_pass
from pat.model.foreign.refusals import why_refused
from pat.model.foreign.state_dict import read_state
from pat.model.foreign.timm_vit import from_timm, vit_prefix


def recognise(path: Path, hints: Hints | None = None) -> Checkpoint:
    """Read one of our own models, or a checkpoint of another project in any format known here.

    Raises UserError naming the architecture of one that cannot fit, and the keys of a format that is unknown.
    """
    hints = hints or Hints()
    checkpoint = _read(path, hints)
    if hints.normalisation == "auto":
        return checkpoint
    mean, std = HALF if hints.normalisation == "half" else IMAGENET
    return checkpoint._replace(
        config=dataclasses.replace(checkpoint.config, mean=mean, std=std),
        report=[*checkpoint.report, f"  normalisation: {hints.normalisation}, as asked for"],
        untold=checkpoint.untold - {"normalisation"},
    )


def _read(path: Path, hints: Hints) -> Checkpoint:
    state = read_state(path)
    checkpoint = _known(state, path, hints)
    if state.beside:
        checkpoint.report.append(f"  read: {state.wrapper}; not read: {listed(state.beside)}, weights too")
    return checkpoint


def _known(state: StateDict, path: Path, hints: Hints) -> Checkpoint:
    where, keys = str(path), state.tensors.keys()
    if "part_tokens" in keys and path.suffix == ".safetensors":
        tensors, file = model_file.read(path)
        return Checkpoint(tensors, file.config, [f"weights: {path}, a model of this project"])
    refused = why_refused(keys)
    if refused:
        raise UserError(f"{path} does not fit: it is {refused}")
    if class_embedding_of(keys) is not None:
        return from_clip(state, where, hints)
    prefix = vit_prefix(keys)
    if prefix is not None:
        if f"{prefix}cls_pos" in keys:
            return from_pass(state, where, prefix, hints)
        if "base.part_token1" in keys:
            return from_authors(state, where, hints)
        return from_timm(state, where, prefix, hints)
    if is_torchvision(keys):
        return from_torchvision(state, where, hints)
    prefix = hugging_face_prefix(keys)
    if prefix is not None:
        return from_hugging_face(state, where, prefix, hints)
    raise UserError(
        f"{path} has none of the formats known here (this project's; with a cls_token the PAT authors', timm's, "
        f"TransReID's, TransReID-SSL's, PASS's, Hugging Face's; with a class_token torchvision's; with a "
        f"class_embedding CLIP's); its {len(keys)} keys do not fit: "
        f"{listed(sorted(keys))}"
    )
