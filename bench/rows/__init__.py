"""What is measured of the kernels, one plan a row; `python -m bench gpu` and `pytest bench` measure them."""

SUITES = ("attention", "nearest", "crop", "step", "tune", "model")
"""Modules here, each with `plans`, in the order of what matters most."""
