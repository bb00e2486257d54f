"""A connection to Qdrant: no request takes longer or brings more than it may, and every error is one line."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from deploy.cluster.settings import ClusterSettings
from deploy.tls import trusting
from pat.base.errors import Failure, UserError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

KEY = "PAT_CLUSTER_KEY"
PORT = 6333
SILENCE = 10.0
"""Seconds that the cluster may be silent."""
WITHIN = 30.0
"""Seconds in which an answer must be there whole, however often it shows a sign of life."""
MOST_BYTES = 32 << 20
"""Of an answer."""


class _Bounded(httpx.HTTPTransport):
    """Reads each answer here, within WITHIN and MOST_BYTES: httpx bounds the silence between two reads alone."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        until, body = time.monotonic() + WITHIN, bytearray()
        answer = super().handle_request(request)
        try:
            assert isinstance(answer.stream, httpx.SyncByteStream)
            for part in answer.stream:
                body += part
                if len(body) > MOST_BYTES:
                    raise httpx.ReadError(f"the answer has more than {MOST_BYTES:,} bytes", request=request)
                if time.monotonic() > until:
                    raise httpx.ReadTimeout(f"no whole answer within {WITHIN:.0f} s", request=request)
        finally:
            answer.close()
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=bytes(body), extensions=answer.extensions
        )


def connect(settings: ClusterSettings) -> QdrantClient:
    """A client that has asked for nothing yet. Raises UserError for settings that cannot work."""
    try:
        from qdrant_client import QdrantClient
    except ModuleNotFoundError as error:
        raise UserError("--cluster.url needs qdrant-client: pip install 'pat-reid[cluster]'") from error
    parts, key = urlsplit(settings.url), os.environ.get(KEY) or None
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.username or parts.password:
        raise UserError(
            f"--cluster.url {settings.url!r} is no https://HOST or http://HOST:PORT; its key is in {KEY}"
        )
    if key and parts.scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
        raise UserError(f"--cluster.url {settings.url} would carry {KEY} in the clear; use https://")
    context = trusting(settings.ca, "--cluster.ca")
    return QdrantClient(
        url=settings.url, port=port or PORT, timeout=int(SILENCE), check_compatibility=False,
        headers={"api-key": key} if key else None, transport=_Bounded(verify=context),
    )  # fmt: skip


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """What can happen on the way to a cluster and back, as a Failure of one line."""
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        hint = f"; is {KEY} right?" if error.status_code in (401, 403) else ""
        raise Failure(f"the cluster {where} answered {error.status_code}: {_said(error.content)}{hint}") from error
    except ResponseHandlingException as error:
        source = error.source
        what = type(source).__name__ if isinstance(source, ValueError) else str(source) or type(source).__name__
        raise Failure(f"the cluster {where} gave no good answer: {what}") from error
    except (ApiException, QdrantException, httpx.HTTPError, ValueError, OSError) as error:
        raise Failure(f"the cluster {where} gave no good answer: {error or type(error).__name__}") from error


def _said(content: bytes) -> str:
    try:
        return str(json.loads(content)["status"]["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return content[:100].decode("utf-8", "replace").strip() or "nothing"
