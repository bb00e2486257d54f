#!/usr/bin/env python3
"""Do two embedders agree on a folder of crops? A PyTorch model file, an ONNX bundle, or an engine beside one.

    python export/verify.py model.safetensors BUNDLE --images CROPS

They agree when the second passes the gate of its precision: centred cosines, how often both find the same nearest
image, and decisions at the thresholds of the bundles; on a labelled data set (--data) also rank-1 and mAP. Exit
code 0: they agree; 1: they do not; 2: something the user can mend.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script sees its own folder alone

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deploy import runtime
from export.check_set import Vectors, compare, gate_of, thresholds_of
from export.command import run
from export.crops import Pixels, evenly, find_images, read_images
from export.labelled import rank_both, ranking_words
from export.manifest import Manifest, Output
from export.precisions import ENOUGH_IMAGES, PRECISIONS, Gate
from pat.base.errors import UserError
from pat.base.parser import OneLineParser
from pat.base.progress import SILENT, Progress, TerminalProgress

TORCH = (".safetensors",)
ENGINE = (".plan", ".engine")
BATCH = 16


@dataclass(frozen=True)
class Opened:
    """An opened model and the size of image it wants."""

    name: str
    size: tuple[int, int]
    """Height and width"""
    dimension: int
    embed: Callable[[Pixels], Vectors]
    gate: Gate = PRECISIONS["fp32"].gate
    """What it must reach where it is compared with another."""
    threshold: float | None = None
    """From which cosine on two of its embeddings show one person."""
    fp32_threshold: float | None = None
    """The same of the fp32 graph that it was made from."""


@contextlib.contextmanager
def opened(path: str | Path, like: Output | None = None) -> Iterator[Opened]:
    """A model file (needs PyTorch), a bundle folder (ONNX Runtime) or an engine (TensorRT), by what `path` is.

    A model file gives cls, or what a bundle gives that it is to be `like`. Raises UserError for anything else.
    """
    path = Path(path)
    if path.suffix in TORCH:
        yield _torch_model(path, like)
        return
    backend: runtime.Backend = "tensorrt" if path.suffix in ENGINE else "onnxruntime"
    options = {"plan": path, "preprocess": "cpu"} if backend == "tensorrt" else {}
    with runtime.open(_bundle(path), backend, **options) as session:
        manifest = session.manifest
        size = (manifest.input.height, manifest.input.width)
        fp32_threshold, threshold = thresholds_of(manifest) or (None, None)
        yield Opened(
            str(path), size, manifest.output.size, session.embed, gate_of(manifest), threshold, fp32_threshold
        )


def _bundle(path: Path) -> Path:
    """The bundle folder that `path` is, or that the engine `path` lies in."""
    return path.parent if path.suffix in ENGINE else path


def _output(path: Path) -> Output | None:
    """What a bundle or an engine gives; None for a model file."""
    return None if path.suffix in TORCH else Manifest.load(_bundle(path)).output


def _torch_model(path: Path, like: Output | None) -> Opened:
    try:
        import torch

        import pat
        from pat.base.errors import UserError
        from pat.model.images import to_images
    except ImportError as error:
        raise UserError(f"{path} is a PyTorch model and needs {error.name}; compare bundles here") from error
    model = pat.load(path)
    parts = like is not None and like.kind == "cls+parts"
    model.mirrored = like is not None and like.mirrored

    def embed(pixels: Pixels) -> Vectors:
        with torch.inference_mode():
            return model.embed(to_images(pixels), parts).numpy()

    dimension = model.dim * (1 + model.parts) if parts else model.dim
    return Opened(str(path), model.config.image_size, dimension, embed)


def embed_both(
    first: Opened, second: Opened, pixels: Pixels, progress: Progress = SILENT
) -> tuple[Vectors, Vectors]:
    """Embed the images uint8 [N, H, W, 3] with both. Raises UserError when sizes differ."""
    check_comparable(first, second)
    vectors = []
    for each in (first, second):
        with progress.bar(each.name, len(pixels)) as advance:
            parts = []
            for begin in range(0, len(pixels), BATCH):
                parts.append(each.embed(pixels[begin : begin + BATCH]))
                advance(len(parts[-1]))
        vectors.append(np.concatenate(parts))
    return vectors[0], vectors[1]


def check_comparable(first: Opened, second: Opened) -> None:
    """Raise UserError unless both take the same images and give vectors of the same length."""
    for what, left, right in (
        ("take images of", first.size, second.size),
        ("give vectors of", first.dimension, second.dimension),
    ):
        if left != right:
            raise UserError(f"{first.name} and {second.name} {what} different size: {left} and {right}")


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("verify.py", description="Compare two embedders on a folder of crops.")
    parser.add_argument("first", type=Path, help="the reference: model file, bundle folder or engine")
    parser.add_argument("second", type=Path, help="what is compared with it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="crops to embed with both")
    parser.add_argument("--most", type=int, default=500, help="crops taken, evenly spread")
    parser.add_argument("--data", metavar="FOLDER", help="labelled data set: rank-1 and mAP of both")
    parser.add_argument(
        "--gate", nargs="+", default=(), metavar="NAME=NUMBER",
        help="limits other than those of the second one's precision, such as centred_worst=0.9",
    )  # fmt: skip
    return parser.parse_args(given)


def _verify(given: argparse.Namespace) -> int:
    if given.images is None and given.data is None:
        raise UserError("name images to compare on: --images DIR, --data FOLDER, or both")
    if given.most < 1:
        raise UserError(f"--most {given.most} must be at least 1")
    progress, missed = TerminalProgress(), list[str]()
    like = _output(given.first) or _output(given.second)
    with opened(given.first, like) as first, opened(given.second, like) as second:
        check_comparable(first, second)
        gate = second.gate.changed(given.gate)
        thresholds = _thresholds(first, second)
        if given.images is not None:
            pixels = read_images(evenly(find_images(given.images), given.most), first.size)
            if len(pixels) < 2:
                raise UserError("one image tells no model from another; give two or more")
            agreement = compare(*embed_both(first, second, pixels, progress), thresholds)
            missed.append(agreement.misses(gate))
            print(agreement.sentence())
            if len(pixels) < ENOUGH_IMAGES:
                print(f"{len(pixels)} images find a broken model, not one a little worse; {ENOUGH_IMAGES} do")
        if given.data is not None:
            embedders = {"first": first.embed, "second": second.embed}
            ranked = rank_both(given.data, first.size, embedders, progress)
            agreement = ranked.agreement(thresholds)
            missed += [agreement.misses(gate), ranked.misses(gate)]
            print(f"labelled, {agreement.sentence()}")
            for name, values in zip((first.name, second.name), ranked.facts(thresholds), strict=True):
                print(f"{name}: {ranking_words(values)}")
    why = "; ".join(filter(None, missed))
    print(f"they do not agree: {why}" if why else "they agree")
    return 1 if why else 0


def _thresholds(first: Opened, second: Opened) -> tuple[float, float] | None:
    """From which cosine on either shows one person: as its bundle says, or else the other's."""
    before, after = first.threshold, second.threshold
    if before is None and after is None:
        return None
    if after is not None:
        return (second.fp32_threshold if before is None else before) or after, after
    assert before is not None
    return before, before


def main(arguments: Sequence[str] | None = None) -> int:
    """The script: compare and print; returns the exit code."""
    return run("verify.py", _verify, _arguments, arguments)


if __name__ == "__main__":
    sys.exit(main())
