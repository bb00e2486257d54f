"""The detector's card: what a reader must know before trusting it, with the figures that were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.detector.graph import SIZE, THRESHOLD
from bench.detector.scores import Detected
from pat.synthetic.people.camera import COLUMNS, ROWS

_KNOWN = """\
- It never saw a photograph. On one real street video it found more people than HOG (`deploy/README.md`); see what
  it finds on your cameras (`pat camera ... --output.video seen`).
- Of two people close together it may find one, and of one under an umbrella the trunk.
- A box is that of the visible part, with what is carried: a bicycle, an umbrella, a bag.
- Nobody in the training data is a child, sits, lies, rides or uses a wheelchair; no camera looks straight down.
- People below about 20 pixels of the input are not found.
- Things that it never saw and that stand upright (signs, statues, tripods) may be taken for people."""


def card(found: Mapping[str, Detected], steps: int, frames: int, size: int) -> str:
    """README.md: Markdown. `found`: name of a detector -> what it found in the frames of the test domain."""
    return "\n".join(_lines(found, steps, frames, size)) + "\n"


def _lines(found: Mapping[str, Detected], steps: int, frames: int, size: int) -> Iterator[str]:
    yield "# pat-detector: a person detector made without a picture of anybody\n"
    yield "No picture of a real person was used and no pretrained weights: the network began at random and learned"
    yield "from rendered frames alone (`docs/people.md`). Licence: Apache-2.0, as the project."
    yield "The camera takes it unless `--detect.detector` names another.\n"
    yield "| | |"
    yield "|---|---|"
    yield f"| input | RGB, {SIZE[0]} x {SIZE[1]}, the frame at its upper left corner with its shape kept |"
    yield "| output | the rows of a YOLOX with one class, boxes decoded |"
    yield (
        "| network | 0.41 M parameters, convolutions alone; strides 8, 16, 32, one head; no anchors; "
        "a frame is looked at in three sizes |"
    )
    yield f"| file | {size / 1e6:.2f} MB, weights kept as float16, computes in fp32 |"
    yield (
        f"| learned from | {frames} frames of {ROWS} x {COLUMNS}; {steps} steps on patches of them; "
        "one training, one seed |"
    )
    yield "| made by | `python -m bench detector`: renders, trains, exports and scores |"
    yield f"| threshold | {THRESHOLD:g} |"
    first = next(iter(found.values()))
    yield "\n## How much it finds\n"
    yield f"{first.frames} rendered frames of the test domain (places and clothes that no training drew) with"
    yield f"{first.people} people, IoU 0.5.\n"
    yield "| | average precision | " + " | ".join(f"found, false alarms a frame from {t:g} on" for t in _AT) + " |"
    yield "|---|---|" + "---|" * len(_AT)
    for name, each in found.items():
        cells = [f"{100 * recall:.0f} %, {false:.2f}" for recall, false in map(each.at, _AT)]
        yield f"| {name} | {each.average_precision():.3f} | " + " | ".join(cells) + " |"
    yield "\n## Known to be wrong\n"
    yield _KNOWN


_AT = (0.4, 0.5, THRESHOLD)
