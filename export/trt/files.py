"""The plan and what is known of it, two files that belong together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from deploy.runtime.plan import sidecar
from pat.base.files import write_files


def write_engine(path: Path, plan: bytes, facts: dict[str, Any]) -> Path:
    """Write the plan and its facts beside it; returns the path of the facts. Raises Failure (a full disk)."""
    written = {"file": path.name, "sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)}
    beside = sidecar(path)
    write_files({path: plan, beside: (json.dumps({"plan": written, **facts}, indent=1) + "\n").encode()})
    return beside
