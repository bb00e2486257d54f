#!/usr/bin/env python3
"""One bundle where people already run models: DeepStream, Triton server, BoxMOT, ultralytics, OpenVINO.

    python export/integrate.py BUNDLE deepstream OUT

Each form is run on the bundle's check set before it is written. Needs onnx and onnxruntime; no PyTorch. Exit code
0: written; 1: it says something else, or writing failed; 2: something the user can mend. See docs/integrations.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script sees its own folder alone

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence

from export.check_set import Agreement
from export.command import run
from export.integrations.deepstream import write_deepstream
from export.integrations.openvino_ir import write_openvino
from export.integrations.trackers import write_tracker_model
from export.integrations.triton_server import write_repository
from pat.base.files import named_path
from pat.base.parser import OneLineParser

FORMS: Mapping[str, Callable[[Path, Path], Agreement]] = {
    "deepstream": write_deepstream,
    "triton": write_repository,
    "boxmot": functools.partial(write_tracker_model, tracker="boxmot"),
    "ultralytics": functools.partial(write_tracker_model, tracker="ultralytics"),
    "openvino": write_openvino,
}


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("integrate.py", description="Write a bundle in the form of another program.")
    parser.add_argument("bundle", type=Path, help="a bundle folder, made by pat export")
    parser.add_argument("form", choices=list(FORMS), help="the program")
    parser.add_argument("out", type=named_path, help="the folder to write; for a tracker the .onnx file")
    return parser.parse_args(given)


def _integrate(given: argparse.Namespace) -> int:
    found = FORMS[given.form](given.bundle, given.out)
    print(f"wrote {given.out} for {given.form}; as the bundle says: {found.sentence()}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The script: write and print; returns the exit code."""
    return run("integrate.py", _integrate, _arguments, arguments)


if __name__ == "__main__":
    sys.exit(main())
