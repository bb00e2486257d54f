"""Images as worker processes prepare them: decoded, resized and augmented one by one, in each epoch anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

WORKERS = min(8, os.cpu_count() or 1)


class ImageFiles(Dataset[tuple[Tensor, int, str]]):
    """Image, class and path; the network subtracts the mean."""

    def __init__(self, paths: Sequence[Path], labels: np.ndarray, image_size: tuple[int, int]) -> None:
        self.paths, self.labels = [str(path) for path in paths], labels.tolist()
        self.change = transforms.Compose(
            [
                transforms.Resize(image_size, transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(0.5),
                transforms.Pad(10),
                transforms.RandomCrop(image_size),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int, str]:
        with Image.open(self.paths[index]) as image:
            return self.change(image.convert("RGB")), self.labels[index], self.paths[index]


def load_batches(files: ImageFiles, steps: np.ndarray, *, pinned: bool) -> DataLoader[Any]:
    """The batches whose image indices are the rows of `steps` [S, B]: images [B, 3, H, W], classes, paths."""
    return DataLoader(files, batch_sampler=steps.tolist(), num_workers=WORKERS, pin_memory=pinned)
