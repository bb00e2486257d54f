"""What the losses of other methods are given: cameras and sources of the right images, and both views."""

from pathlib import Path

import torch

from pat.config import AugmentConfig, LossConfig
from pat.data.augment import Augmentation
from pat.data.layouts import DataSet
from pat.data.sample import Sample
from pat.data.sources import merge_sources
from pat.losses.alignment_uniformity import alignment, uniformity
from pat.training.draws import Draws
from pat.training.regularisers import Regularisers


def source(name, people, cameras):
    samples = tuple(Sample(Path(name, f"{i}_{c}.jpg"), i, c, name) for i in people for c in cameras)
    return DataSet(name, samples, (), ())


TRAINING = merge_sources([source("a", (1, 2), (0, 1)), source("b", (1, 2, 3), (0,))])
SLOTS = torch.tensor([6, 1, 2, 4])
LABELS = torch.from_numpy(TRAINING.labels)[SLOTS]


def test_cameras_are_those_of_the_images_and_sources_those_of_the_people():
    torch.manual_seed(0)
    terms = Regularisers(LossConfig(camera=1.0, domain_uniformity=1.0), TRAINING, 4)
    assert terms.prototypes.domains.tolist() == [0, 0, 1, 1, 1]
    features = torch.randn(4, 4)
    found = terms(features, None, LABELS, SLOTS)
    assert set(found) == {"camera", "domain_uniformity"}
    torch.testing.assert_close(found["camera"], terms.adversary(features, torch.tensor([2, 1, 0, 2])))


def test_both_views_have_their_say():
    torch.manual_seed(0)
    terms = Regularisers(LossConfig(alignment=1.0, uniformity=1.0, domain_uniformity=1.0), TRAINING, 4)
    terms.prototypes.update(torch.randn(5, 4), torch.arange(5))
    views = plain, changed = torch.randn(2, 4, 4)
    spread = [terms.prototypes.uniformity(view, LABELS) for view in views]
    found = terms(plain, changed, LABELS, SLOTS)
    torch.testing.assert_close(found["alignment"], alignment(plain, changed, LABELS))
    torch.testing.assert_close(found["uniformity"], sum(map(uniformity, views)) / 2)
    torch.testing.assert_close(found["domain_uniformity"], sum(spread) / 2)


def test_the_first_view_is_moved_alone():
    config = AugmentConfig(flip=0.5, color_jitter=0.3, color_cast=0.3, erasing=1.0, low_resolution=1.0)
    drawn = Augmentation(config, (32, 16)).draw(8, torch.Generator().manual_seed(0))
    both = Draws(drawn, torch.zeros(8, 1, 4), None).two_views().augment
    for name in ("flip", "corner"):
        torch.testing.assert_close(getattr(both, name), getattr(drawn, name))
    for name, nothing in (("jitter", 1), ("cast", 1), ("softness", 0), ("erased", 0)):
        assert (getattr(both, name)[:4] == nothing).all()
        torch.testing.assert_close(getattr(both, name)[4:], getattr(drawn, name)[4:])
