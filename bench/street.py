"""The camera process on streets of rendered people: what it says of them, against the truth.

    pat synth street runs/street-11 --people 15 --returns 5 30 300 --seed 11
    python -m bench street BUNDLE runs/street-11 runs/street-12

Thresholds and settings are chosen on other streets (seeds 1 to 9) than those that are reported (11 and above).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, replace
from pathlib import Path

from bench.commands import exit_status, option
from deploy.settings import ProcessSettings
from pat.base.files import write_text
from pat.commands.street import read_street, run_street
from pat.evaluation.street import Scores, score

TRUE = "truth"


@dataclass(frozen=True)
class Options:
    bundle: Path = option(MISSING, "", positional=True)
    streets: Sequence[Path] = option(MISSING, "folders of `pat synth street`", positional=True, nargs="+")
    detector: str = option("rendered", 'as --detect.detector of `pat camera`, or "truth" for true boxes')
    threshold: str = option("", "as --gallery.threshold; default: the bundle's own")
    out: Path | None = option(None, "write the table as JSON, too")


def main(options: Options) -> int:
    """Run every street, print the table of all; 2 for a mistake."""

    def measured() -> int:
        rows = measure(options).rows()
        width = max(len(name) for name, _ in rows)
        sys.stdout.write("".join(f"{name:{width}}  {value}\n" for name, value in rows))
        if options.out is not None:
            write_text(options.out, json.dumps(dict(rows), indent=2) + "\n")
        return 0

    return exit_status(measured)


def measure(options: Options, settings: ProcessSettings | None = None) -> Scores:
    """The scores of all streets together. Raises UserError for what is no street or no bundle."""
    settings = settings or ProcessSettings()
    settings = replace(settings, gallery=replace(settings.gallery, threshold=options.threshold))
    if options.detector != TRUE:
        settings = replace(settings, detect=replace(settings.detect, detector=options.detector))
    total = Scores()
    frames = seconds = pairs = alike = 0.0
    for folder in options.streets:
        street = read_street(folder)
        with tempfile.TemporaryDirectory() as work:
            run, summary = run_street(
                street, options.bundle, settings, work=Path(work), see_truth=options.detector == TRUE
            )
        total += score(street.truth, run, street.seconds, street.people)
        frames += summary.frames
        seconds += summary.stages["detect"][0]
        pairs, alike = pairs + summary.strangers[0], alike + summary.strangers[1]
    sys.stderr.write(
        f"{len(options.streets)} streets, {frames:.0f} frames, detector {options.detector}, "
        f"{1e3 * seconds / max(frames, 1):.1f} ms of detection a frame; {pairs:.0f} pairs of people seen at once, "
        f"{alike:.0f} of them alike by the threshold\n"
    )
    return total
