"""Which model made a vector."""

from __future__ import annotations

import hashlib
import json

from export.manifest import MODEL, Manifest


def fingerprint(manifest: Manifest) -> str:
    """16 hexadecimal digits that are the same for bundles whose vectors may be compared.

    They stand for the weights, the kind of output (cls, or cls and parts) and its size. The precision is no part
    of it: a bundle's fp16 and INT8 embeddings are judged to decide as the fp32 ones do, so a gallery
    survives the move from an ONNX bundle to an engine.
    """
    # A bundle made by other tools may not say which weights it holds: then its graph stands for them.
    weights = manifest.weights.get("sha256") or manifest.files[MODEL].sha256
    words = json.dumps([weights, manifest.output.kind, manifest.output.size])
    return hashlib.sha256(words.encode()).hexdigest()[:16]
