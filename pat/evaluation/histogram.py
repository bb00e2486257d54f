"""The baseline that learns nothing: colour histograms of horizontal stripes.

Clothes are told apart by their colours at a height of the body: the appearance model that person search used
before it was learned (stripes of HSV histograms). It is given what is known to help such a model, so that it is
a fair opponent: neighbouring bins share a pixel in proportion, grey pixels have bins of brightness instead of a
meaningless hue, the image's middle counts more than its sides, which show the background, and bins are
compared by the Hellinger distance.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import rgb_to_hsv
from numpy.typing import NDArray

from pat.evaluation.ranking import Floats

STRIPES, HUES, SATURATIONS, GREYS = 8, 12, 2, 8
"""Stripes of an image, and bins of each."""


def stripe_histogram(pixels: NDArray[np.uint8]) -> Floats:
    """An embedder: uint8 RGB [n, H, W, 3] to float32 [n, STRIPES * (HUES * SATURATIONS + GREYS)], unit length.

    Each stripe has joint bins of hue and saturation for what is coloured, and bins of brightness for what is
    grey or dark; a pixel is shared between the two by its chroma.
    """
    return np.stack([_embedded(image) for image in pixels])


def _embedded(image: NDArray[np.uint8]) -> Floats:
    height, width = image.shape[:2]
    hue, saturation, value = np.moveaxis(rgb_to_hsv(image.astype(np.float32) / 255), -1, 0)  # [H, W] each
    chroma = np.minimum(1, saturation * value * 4)  # [H, W]; 1: all colour, 0: all grey
    across = np.exp(-0.5 * np.linspace(-2, 2, width, dtype=np.float32) ** 2)  # the person stands in the middle
    weight = np.broadcast_to(across, (height, width))
    stripe = np.broadcast_to((np.arange(height) * STRIPES // height)[:, None], (height, width))

    colours = np.zeros(STRIPES * HUES * SATURATIONS)
    for h, h_share in _soft_bins(hue, HUES, around=True):
        for s, s_share in _soft_bins(saturation, SATURATIONS):
            bins = (stripe * HUES + h) * SATURATIONS + s
            colours += _sums(bins, weight * chroma * h_share * s_share, len(colours))
    greys = np.zeros(STRIPES * GREYS)
    for v, v_share in _soft_bins(value, GREYS):
        greys += _sums(stripe * GREYS + v, weight * (1 - chroma) * v_share, len(greys))

    histogram = np.concatenate([colours.reshape(STRIPES, -1), greys.reshape(STRIPES, -1)], axis=1)
    histogram /= np.maximum(histogram.sum(axis=1, keepdims=True), 1e-12) * STRIPES
    return np.sqrt(histogram).astype(np.float32).reshape(-1)  # Hellinger; the squares sum to 1


def _sums(bins: NDArray[np.int64], weights: Floats, size: int) -> NDArray[np.float64]:
    """Weights summed by bin [size]."""
    return np.bincount(bins.ravel(), weights=weights.ravel(), minlength=size).astype(np.float64, copy=False)


def _soft_bins(values: Floats, bins: int, *, around: bool = False) -> list[tuple[NDArray[np.int64], Floats]]:
    """The two bins next to each value in [0, 1] and their shares; `around` joins the ends, as hue does."""
    position = values * bins - 0.5  # centre of bin i is at i
    low = np.floor(position).astype(np.int64)
    share = (position - low).astype(np.float32)
    pair = [(low, 1 - share), (low + 1, share)]
    return [(i % bins if around else np.clip(i, 0, bins - 1), part) for i, part in pair]
