"""Addresses of servers."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from CoralBayLib.core.errors import Remedy, ServerError


def checked_address(url: str) -> str:
    """An address without blanks and a slash at its end.

    Raises:
        ServerError: it cannot be one of a server, or is http and of another computer.
    """
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # half a bracket, or a port that is no number
        parts, usable = SplitResult("", "", "", "", ""), False
    # A URL has no blanks and line breaks; `urlsplit` removes some of them without a word.
    if not usable or re.search(r"\s", url) or parts.username is not None or parts.query or parts.fragment:
        raise ServerError(
            f"'{url}' is not the address of a server. It has the form https://name or https://name:port.",
            remedy=Remedy.CHECK_SERVER,
            server=url,
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ServerError(
            f"The address {url} begins with http://, so that the scan and the token would be readable on the way. Only "
            "https:// is used, except for this computer.",
            remedy=Remedy.CHECK_SERVER,
            server=url,
        )
    return url


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this computer's own, which no other computer reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
