"""Why a connection failed, in a few words."""

from __future__ import annotations

import ssl

import requests


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and all that it wraps, as causes and as arguments."""
    found: list[BaseException] = []
    queue = [error]
    while queue:
        each = queue.pop()
        if each is None or each in found:
            continue
        found.append(each)
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        queue += [one for one in inner if isinstance(one, BaseException)]
    return found


def certificate_fault(error: BaseException) -> str | None:
    """Why a certificate was refused; None for another fault."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return str(each.verify_message or each.reason)
    return None


def connection_fault(error: BaseException) -> str:
    """One line about a connection that failed, without its address."""
    if isinstance(error, requests.exceptions.Timeout):
        return "it does not answer"
    for each in _causes(error):
        if isinstance(each, OSError) and not isinstance(each, requests.exceptions.RequestException) and each.strerror:
            return each.strerror.lower() if each.strerror[1:2].islower() else each.strerror
    return "the connection was cut"
