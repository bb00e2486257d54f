"""Ablations: the same training with one thing changed, over several seeds, summed up with its spread."""
