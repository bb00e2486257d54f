"""Checkpoints of others, renamed to ours, their architecture read from shapes. One file for each format."""

from pat.model.foreign.architecture import model_settings
from pat.model.foreign.assign import assign
from pat.model.foreign.checkpoint import Activation, Checkpoint, Hints, PartTokens
from pat.model.foreign.fit import fitted, with_parts
from pat.model.foreign.recognise import recognise

__all__ = [
    "Activation",
    "Checkpoint",
    "Hints",
    "PartTokens",
    "assign",
    "fitted",
    "model_settings",
    "recognise",
    "with_parts",
]
