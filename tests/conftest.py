"""Small data sets and models that the tests share."""

import copy
import gc
import os
import signal
from pathlib import Path

# Tests share two cores; more threads only wait for each other. Read when numpy and torch are imported, here and in
# the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a model hub
if not torch.cuda.is_available():
    # Read when a kernel is decorated, so it has to be set before any test module imports one.
    os.environ.setdefault("TRITON_INTERPRET", "1")

TINY = {
    "weights": "none",
    "epochs": 2,
    "identities_per_batch": 3,
    "images_per_identity": 2,
    "device": "cpu",
    "amp": "off",
    "tensorboard": False,
    "model": {
        "backbone": "vit_tiny_patch16_224", "image_size": [32, 16], "patch_size": 8, "width": 64, "depth": 2,
        "heads": 1, "attention": "sdpa",
    },
    "augment": {"pad": 2},
    "optim": {"name": "adamw", "lr": 1e-3, "warmup_epochs": 1},
    "loss": {"neighbours": "reference", "k": 3},
}  # fmt: skip
"""A training configuration that runs in a second, with the same numbers on every CPU."""


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays to the end: looking for garbage in it, again and again, took half of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def few_threads():
    """Whatever a test before has set."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def ctrl_c_interrupts():
    """Tests send SIGINT to themselves and to what they start; a shell's background job is started to ignore it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def draw_person(path: Path, identity: int, camera: int, number: int) -> None:
    """A person of a sort: the identity's colours in the upper and lower half, the camera's tint, some noise."""
    person, noise = np.random.default_rng(identity), np.random.default_rng([identity, camera, number])
    pixels = np.repeat(person.integers(40, 200, (2, 1, 3)), [16, 16], axis=0) * np.ones((1, 16, 1))
    pixels = pixels + 12 * camera + noise.normal(0, 8, (32, 16, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95)


def market_like(root: Path, train: int = 6, test: int = 4, cameras: int = 2, each: int = 3) -> Path:
    """A data set in Market-1501 layout with images of `each` moment."""
    for identity in range(1, train + test + 1):
        for camera in range(1, cameras + 1):
            for number in range(each):
                training = identity <= train
                folder = "bounding_box_train" if training else ("query" if number == 0 else "bounding_box_test")
                name = f"{identity:04d}_c{camera}s1_{number:06d}_00.jpg"
                draw_person(root / folder / name, identity, camera, number)
    return root


@pytest.fixture(scope="session")
def make_market():
    """`market_like`, for fixtures of other scopes."""
    return market_like


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """Six people to train on and four to search for, in two cameras."""
    return market_like(tmp_path / "market")


@pytest.fixture(scope="session")
def tiny_values():
    """TINY, not to be changed."""
    return TINY


@pytest.fixture
def tiny():
    """A copy of TINY, for a test to change."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells people apart by the colours of their clothes, in milliseconds."""
    import bundles  # needs onnx; most tests do not

    return bundles.colours(tmp_path_factory.mktemp("colours") / "bundle")


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos in which three people walk past, and truth.jsonl; filmed once for all test processes."""
    from filelock import FileLock

    from flat_street import film_street

    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "street"
    with FileLock(f"{out}.lock"):
        if not out.exists():
            film_street(out, cameras=2, people=3, scale=110)
    return out
