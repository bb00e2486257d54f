"""Crop and resize: boxes of one camera frame to normalised network input, antialiased as Pillow does it."""

from kernels.crop_resize.api import crop_resize

__all__ = ["crop_resize"]
