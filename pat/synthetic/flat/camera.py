"""How a camera turns light into a stored image."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from pat.synthetic.flat.canvas import Array
from pat.synthetic.flat.domains import DomainStyle, Range
from pat.synthetic.randomness import stream

GREY = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True)
class Camera:
    """The response of one camera; units as in DomainStyle."""

    gains: tuple[float, float, float]
    exposure: float
    exposure_jitter: float
    gamma: float
    contrast: float
    saturation: float
    crosstalk: float
    blur: float
    noise: float
    stream_quality: int
    elevation: float
    light: float  # side that most light comes from, -1 (left) to 1 (right)
    haze: float

    @staticmethod
    def of(style: DomainStyle, number: int) -> Camera:
        """Camera `number` (from 0) of a domain.

        Golden-ratio steps spread warmth and exposure over their ranges, so that any few cameras differ.
        """
        generator = stream("camera", style.seed, number)
        offset = stream("cameras", style.seed).random(3)

        def spread(values: Range, which: int, step: float) -> float:
            share = (offset[which] + number * step + generator.normal(0, 0.04)) % 1
            return float(values[0] + share * (values[1] - values[0]))

        def drawn(values: Range) -> float:
            return float(generator.uniform(*values))

        warmth, tint = spread(style.warmth, 0, 0.618), drawn(style.tint)
        return Camera(
            gains=(float(np.exp(warmth)), float(np.exp(tint)), float(np.exp(-warmth))),
            exposure=spread(style.exposure, 1, 0.382),
            exposure_jitter=style.exposure_jitter,
            gamma=drawn(style.gamma),
            contrast=drawn(style.contrast),
            saturation=spread(style.saturation, 2, 0.618),
            crosstalk=drawn(style.crosstalk),
            blur=drawn(style.blur),
            noise=drawn(style.noise),
            stream_quality=round(drawn(style.stream_quality)),
            elevation=drawn(style.elevation),
            light=float(generator.uniform(-0.8, 0.8)),
            haze=drawn(style.haze),
        )

    def develop(self, scene: Array, generator: np.random.Generator) -> Image.Image:
        """The stored image [H, W] of a scene in sRGB [H, W, 3]; `generator` draws exposure and noise."""
        light = np.clip(scene, 0, 1) ** 2.2
        stops = self.exposure + generator.normal(0, self.exposure_jitter)
        light *= np.array(self.gains, np.float32) * np.float32(2.0**stops)
        light += self.crosstalk * (light.mean(axis=2, keepdims=True) - light)
        light = light * (1 - self.haze) + self.haze
        light = np.where(light > 0.6, 0.6 + 0.4 * np.tanh((light - 0.6) / 0.4), light)  # highlights roll off
        image = light ** (self.gamma / 2.2)
        image = (image - 0.45) * self.contrast + 0.45
        grey = image @ GREY
        image = grey[..., None] + self.saturation * (image - grey[..., None])
        blurred = _to_image(image).filter(ImageFilter.GaussianBlur(self.blur * image.shape[0] / 128))
        image = np.asarray(blurred, np.float32) / 255
        image = image + generator.normal(0, self.noise, image.shape)
        stream = io.BytesIO()  # the camera's own lossy one
        _to_image(image).save(stream, "JPEG", quality=self.stream_quality)
        return Image.open(stream).convert("RGB")


def _to_image(image: Array) -> Image.Image:
    return Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
