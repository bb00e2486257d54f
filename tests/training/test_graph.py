"""Graph sampling: who is nearest to whom, by one random image of each."""

from types import SimpleNamespace

import numpy as np
import torch

from pat.base.progress import SILENT
from pat.training import graph
from pat.training.distributed import Ranks


def test_a_batch_is_filled_with_those_whose_random_images_are_nearest(monkeypatch):
    labels = np.tile(np.arange(6), 4)
    pixels = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None], (24, 2, 1, 3))
    angles = np.deg2rad(np.array([0, 10, 25, 45, 70, 100])[labels] + np.repeat([-0.6, -0.2, 0.2, 0.6], 6))
    asked = []

    def embed(images):
        asked.append(images[:, 0, 0, 0])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)[asked[-1]].astype(np.float32)

    monkeypatch.setattr(graph, "embedder", lambda model, device: embed)
    data = SimpleNamespace(training=SimpleNamespace(labels=labels, cameras=labels), pixels=pixels)
    state = SimpleNamespace(model=SimpleNamespace(eval=lambda: None))

    def alike(epoch, seed=0):
        config = SimpleNamespace(seed=seed, identities_per_batch=3)
        found = graph.most_alike(config, data, state, Ranks(torch.device("cpu")), SILENT, epoch=epoch)
        return found.tolist(), labels[asked[-1]].tolist(), asked[-1].tolist()

    found, people, faces = alike(1)
    assert found == [[1, 2], [0, 2], [1, 3], [2, 4], [3, 5], [4, 3]]
    assert people == list(range(6))
    assert alike(1)[2] == faces
    assert alike(2)[2] != faces
    assert alike(1, seed=1)[2] != faces
