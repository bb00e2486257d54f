"""Checkpoints of others, renamed to ours, their architecture read from shapes. One file for each format."""

from pat.model.foreign.assign import assign
from pat.model.foreign.checkpoint import Activation, Checkpoint, Hints, Normalisation, PartTokens
from pat.model.foreign.fit import fitted, settings_that_fit, with_parts
from pat.model.foreign.recognise import recognise

__all__ = [
    "Activation",
    "Checkpoint",
    "Hints",
    "Normalisation",
    "PartTokens",
    "assign",
    "fitted",
    "recognise",
    "settings_that_fit",
    "with_parts",
]
