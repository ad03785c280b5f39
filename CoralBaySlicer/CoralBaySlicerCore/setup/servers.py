"""The servers that embed scans for this computer, and which of them may receive scans, in the application's settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

import slicer
from slicer.i18n import tr as _

from . import settings

_KEY = "CoralBaySlicer/Servers"
_DEVICE = "server:"
"""Before the address of a server in the setting of the device."""


@dataclass(frozen=True)
class Server:
    """A server that was connected to once.

    Attributes:
        url: its address.
        token: which it wants, or "".
        allowed: whether the user has agreed that scans are sent there.
        certificates: file with the certificate authorities to trust, or "" for the usual ones.
    """

    url: str
    token: str = field(default="", repr=False)
    allowed: bool = False
    certificates: str = ""

    @property
    def device(self) -> str:
        """What stands for it in the setting of the device."""
        return f"{_DEVICE}{self.url}"


def remembered() -> list[Server]:
    """All servers, in the order in which they were added."""
    try:
        return [Server(**each) for each in json.loads(settings.read(_KEY) or "[]")]
    except (ValueError, TypeError):
        return []


def remember(server: Server) -> None:
    """Add a server, or replace what is known of its address."""
    known = remembered()
    others = [server if each.url == server.url else each for each in known]
    _write(others if server in others else [*others, server])


def forget(url: str) -> None:
    """Remove a server, its token, and the permission to send scans there."""
    _write([each for each in remembered() if each.url != url])
    if settings.device() == f"{_DEVICE}{url}":
        settings.set_device("auto")


def of_device(device: str) -> Server | None:
    """The server that a setting of the device stands for; None for this computer."""
    url = device.removeprefix(_DEVICE)
    return next((each for each in remembered() if each.url == url), None) if url != device else None


def allow(server: Server) -> bool:
    """Ask the user whether scans may be sent to a server; the permission is remembered."""
    question = _(
        "Send scans to the server {url}?\n\nThe voxels of a CT, its geometry and a checksum of both are sent there, and its "
        "features come back. The name of the patient, other header data, file names and dates are not sent. The voxels "
        "themselves can show who the patient is, for example by the face.\n\nYour answer is remembered for this server until "
        "you remove it under Advanced in step 1."
    ).format(url=server.url)
    if not slicer.util.confirmOkCancelDisplay(question, _("CoralBay: send scans to a server")):
        return False
    remember(replace(server, allowed=True))
    return True


def _write(servers: list[Server]) -> None:
    settings.write(_KEY, json.dumps([asdict(each) for each in servers]))
