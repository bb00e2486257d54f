"""Each shift by hand, and that more of it changes more."""

import numpy as np
import pytest

from pat.ablation.shifts import SHIFTS, blur, brighter, cast, darker, low_resolution, night, occlusion, response


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (3, 128, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
def test_more_changes_more_and_nothing_changes_nothing(images, shift):
    before = images.copy()
    far = [np.abs(shift.apply(images, each).astype(int) - images).mean() for each in shift.strengths]
    assert far[0] <= 0.01  # a round trip through linear light may round one level
    assert far == sorted(far)
    assert far[-1] > far[1] > 0.5
    np.testing.assert_array_equal(images, before)
    alone, together = (shift.apply(some, shift.strengths[2]) for some in (images[1:2], images))
    np.testing.assert_allclose(alone[0], together[1], atol=1)  # a product may round otherwise


def flat(level):
    return np.full((1, 16, 8, 3), level, np.uint8)


def test_light():
    assert (darker(flat(188), 1) == 137).all()  # half the light of 188 is 0.2514: 137 in sRGB
    assert (brighter(flat(137), 1) == 188).all()
    assert (brighter(flat(200), 2) == 255).all()
    assert np.unique(cast(flat(100), 0.0)).tolist() == [100]
    red, green, blue = cast(flat(100), 0.3)[0, 0, 0]
    assert red > green == 100 > blue
    assert (response(flat(128), 1.0) == round(255 * (128 / 255) ** 2)).all()


def test_sharpness_keeps_the_mean_and_a_flat_image():
    for soften, strength in ((blur, 4), (low_resolution, 0.9)):
        assert (soften(flat(90), strength) == 90).all()
    edge = flat(0)
    edge[:, :, 4:] = 255
    row = low_resolution(edge, 0.5)[0, 0, :, 0].astype(int)
    assert 0 < row[3] < row[4] < 255
    assert row.tolist() == sorted(row)


def test_what_is_hidden():
    hidden = occlusion(flat(10), 0.25)
    assert (hidden[:, 12:] == 118).all()
    assert (hidden[:, :12] == 10).all()


def test_the_night_is_dark_noisy_and_pale():
    image = flat(0)
    image[..., 0], image[..., 1:] = 200, 60
    seen = night(image, 4)[0].astype(float)
    assert seen.mean() < image.mean() / 1.5
    assert seen.std(axis=(0, 1)).min() > 2
    assert seen[..., 0].mean() - seen[..., 1].mean() < 70
    assert night(flat(188), 2).mean() == pytest.approx(137, abs=2)  # of two stops the gain makes up one
