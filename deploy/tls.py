"""Certificates that settings name, as TLS contexts."""

from __future__ import annotations

import ssl
from pathlib import Path

from pat.base.errors import UserError


def trusting(authority: Path | None, flag: str) -> ssl.SSLContext:
    """For servers that this authority (None: the system's) vouches for. Raises UserError, which names the flag."""
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(authority))
    except OSError as error:
        raise UserError(f"{flag} {authority} cannot be used: {error}") from error


def check_certificate(certificate: Path, key: Path | None) -> None:
    """Raise UserError for a certificate that no server can show."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:
        raise UserError(f"the certificate {certificate} cannot be used: {error}") from error
