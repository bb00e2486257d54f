"""What the log of a training run tells."""

import json
from pathlib import Path
from typing import Any


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    """The lines of an event, "step", "epoch" or "heldout", in the folder of a run."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def steps_of(folder: Path) -> list[tuple[int, float]]:
    """The number and the loss of each step."""
    return [(line["global_step"], line["loss"]) for line in logged(folder, "step")]
