"""Batched augmentation against the same changes made image by image with Pillow and torchvision."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional
from torchvision.transforms import RandomErasing
from torchvision.transforms import functional as tv

from pat.config import AugmentConfig
from pat.data.augment import Augmentation, AugmentDraw

HEIGHT, WIDTH = 24, 12


def pixels(batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=generator)


def draws(augmentation: Augmentation, batch: int, seed: int = 0) -> AugmentDraw:
    return augmentation.draw(batch, torch.Generator().manual_seed(seed))


def make(**changed: float) -> Augmentation:
    return Augmentation(AugmentConfig(**changed), (HEIGHT, WIDTH))  # type: ignore[arg-type]


@pytest.mark.parametrize("pad", [0, 1, 10, 30])
def test_flip_pad_crop_is_exactly_pillows(pad: int) -> None:
    augmentation, batch = make(pad=pad), pixels(40)
    draw = draws(augmentation, 40)
    changed = augmentation.apply(batch, draw)
    assert changed.shape == (40, 3, HEIGHT, WIDTH)
    assert changed.dtype == torch.float32
    assert changed.is_contiguous()
    for i in range(40):
        image = Image.fromarray(batch[i].numpy())
        if draw.flip[i]:
            image = ImageOps.mirror(image)
        top, left = draw.corner[i].tolist()
        image = ImageOps.expand(image, pad, fill=0).crop((left, top, left + WIDTH, top + HEIGHT))
        torch.testing.assert_close(changed[i], tv.to_tensor(image), rtol=0, atol=1e-7)


def test_jitter_is_torchvisions() -> None:
    augmentation, batch = make(color_jitter=0.6, pad=3), pixels(20)
    draw = draws(augmentation, 20)
    changed, plain = augmentation.apply(batch, draw), make(pad=3).apply(batch, draw)
    for i in range(20):
        brightness, contrast, saturation = draw.jitter[i].tolist()
        image = tv.adjust_brightness(plain[i], brightness)
        image = tv.adjust_saturation(tv.adjust_contrast(image, contrast), saturation)
        torch.testing.assert_close(changed[i], image, rtol=0, atol=2e-6)
    assert not torch.equal(changed, plain)


def test_erasing_fills_the_drawn_rectangle_alone() -> None:
    augmentation = Augmentation(AugmentConfig(erasing=0.7), (HEIGHT, WIDTH))
    batch, draw = pixels(30), draws(augmentation, 30)
    changed = augmentation.apply(batch, draw)
    whole = make().apply(batch, draw)
    for i in range(30):
        top, bottom, left, right = draw.erased[i].tolist()
        whole[i, :, top:bottom, left:right] = 0.5
    torch.testing.assert_close(changed, whole, rtol=0, atol=0)
    areas = (draw.erased[:, 1] - draw.erased[:, 0]) * (draw.erased[:, 3] - draw.erased[:, 2])
    assert 10 < int((areas > 0).sum()) < 30


def test_nothing_drawn_is_nothing_changed() -> None:
    augmentation, batch = make(flip=0, pad=0), pixels(4)
    plain = batch.permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(augmentation.apply(batch, draws(augmentation, 4)), plain, rtol=0, atol=1e-7)


def test_flips_and_crops_are_uniform() -> None:
    draw = draws(make(flip=0.3, pad=2), 50_000)
    assert abs(draw.flip.float().mean().item() - 0.3) < 0.01  # 5 sigma
    places = draw.corner[:, 0] * 5 + draw.corner[:, 1]
    counts = torch.bincount(places, minlength=25)
    assert len(counts) == 25
    assert ((counts - 2000).abs() < 5 * math.sqrt(2000)).all()
    assert abs(torch.corrcoef(torch.stack((draw.flip.float(), draw.corner[:, 0].float())))[0, 1]) < 0.025


@pytest.mark.parametrize(("size", "low", "high"), [(0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_jitter_factors_are_uniform_and_never_negative(size: float, low: float, high: float) -> None:
    factors = draws(make(color_jitter=size), 20_000).jitter
    assert factors.shape == (20_000, 3)
    quantiles = torch.quantile(factors, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]), dim=0)
    expected = torch.linspace(low, high, 5)[:, None].expand(5, 3)
    torch.testing.assert_close(quantiles, expected, rtol=0, atol=0.03 * (high - low))
    assert factors.min() >= low


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    count = 4000
    ours = draws(make(erasing=1.0), count).erased
    image = torch.zeros(3, HEIGHT, WIDTH)
    torch.manual_seed(0)
    theirs = []
    for _ in range(count):
        top, left, height, width, _ = RandomErasing.get_params(image, (0.02, 0.4), (0.3, 1 / 0.3), value=[0.0])
        theirs.append((top, top + height, left, left + width))
    for mine, other in zip(rectangle_facts(ours), rectangle_facts(torch.tensor(theirs)), strict=True):
        assert kolmogorov_smirnov(mine.numpy(), other.numpy()) < 1.95 * math.sqrt(2 / count)  # p = 0.001


def rectangle_facts(boxes: torch.Tensor) -> list[torch.Tensor]:
    top, bottom, left, right = boxes.T
    return [top, left, bottom - top, right - left, (bottom - top) * (right - left)]


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of the two distribution functions."""
    values = np.union1d(a, b)
    return float(max(abs((a[:, None] <= values).mean(0) - (b[:, None] <= values).mean(0))))


def test_erased_rectangles_lie_inside() -> None:
    boxes = draws(make(erasing=1.0), 5000).erased
    top, bottom, left, right = boxes.T
    assert ((top >= 0) & (bottom <= HEIGHT) & (left >= 0) & (right <= WIDTH)).all()
    assert ((bottom - top < HEIGHT) & (right - left < WIDTH)).all()


def test_a_rank_takes_its_rows_of_the_global_draw() -> None:
    augmentation, batch = make(color_jitter=0.3, erasing=0.5), pixels(12)
    draw = draws(augmentation, 12)
    whole = augmentation.apply(batch, draw)
    parts = [augmentation.apply(batch[rows], draw[rows].to("cpu")) for rows in (slice(0, 6), slice(6, 12))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)
    assert len(draw[torch.tensor([3, 1])]) == 2


def test_draw_is_a_function_of_the_generator_and_options_do_not_move_it() -> None:
    first, again = draws(make(), 9, seed=5), draws(make(color_jitter=0.4, erasing=0.5), 9, seed=5)
    assert torch.equal(first.flip, again.flip)
    assert torch.equal(first.corner, again.corner)
    assert not torch.equal(first.corner, draws(make(), 9, seed=6).corner)


def test_wrong_pixels() -> None:
    augmentation = make()
    with pytest.raises(ValueError, match=r"pixels must be uint8 \(4, 24, 12, 3\), not torch.float32"):
        augmentation.apply(pixels(4).float(), draws(augmentation, 4))
    with pytest.raises(ValueError, match=r"not torch.uint8 \(3, 24, 12, 3\)"):
        augmentation.apply(pixels(3), draws(augmentation, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_images() -> None:
    augmentation, batch = make(color_jitter=0.3, erasing=0.5), pixels(16)
    draw = draws(augmentation, 16)
    there = augmentation.apply(batch.cuda(), draw.to("cuda")).cpu()
    torch.testing.assert_close(there, augmentation.apply(batch, draw), rtol=0, atol=1e-6)


def test_softer_images_keep_their_mean_and_lose_detail():
    pixels = torch.randint(0, 256, (64, 128, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = AugmentConfig(flip=0, pad=0)
    sharp = Augmentation(plain, (128, 64))
    soft = Augmentation(dataclasses.replace(plain, low_resolution=0.5, blur=0.5), (128, 64))
    draws = soft.draw(64, torch.Generator().manual_seed(0))
    before, after = sharp.apply(pixels, draws), soft.apply(pixels, draws)
    assert set(draws.softness.tolist()) == set(range(1, 11))
    assert (after.std((1, 2, 3)) < before.std((1, 2, 3))).all()
    torch.testing.assert_close(after.mean((2, 3)), before.mean((2, 3)), rtol=0, atol=0.05)


def test_a_low_resolution_is_an_area_average_enlarged():
    pixels = torch.randint(0, 256, (1, 30, 20, 3), dtype=torch.uint8)
    augmentation = Augmentation(AugmentConfig(flip=0, pad=0, low_resolution=1.0), (30, 20))
    draws = augmentation.draw(1, torch.Generator().manual_seed(0))
    draws.softness[:] = 3  # half of the rows and columns
    image = pixels.permute(0, 3, 1, 2).float() / 255
    expected = functional.interpolate(
        functional.interpolate(image, (15, 10), mode="area"), (30, 20), mode="bilinear"
    )
    torch.testing.assert_close(augmentation.apply(pixels, draws), expected)


def test_a_cast_changes_each_channel_by_its_own_factor():
    pixels = torch.full((2, 8, 4, 3), 100, dtype=torch.uint8)
    augmentation = Augmentation(AugmentConfig(flip=0, pad=0, color_cast=0.2), (8, 4))
    draws = augmentation.draw(2, torch.Generator().manual_seed(0))
    assert (draws.cast - 1).abs().max() <= 0.2
    changed = augmentation.apply(pixels, draws)
    # Contrast and saturation are left at 1, brightness too.
    torch.testing.assert_close(changed, (draws.cast * 100 / 255)[:, :, None, None].expand(2, 3, 8, 4))
