"""Python packages and weights: what is missing, and nothing fetched before the user has said yes.

Checks read package metadata alone; nothing is imported. torch comes through the PyTorch extension, which picks the
build that fits the graphics card.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.encoders.weights import DownloadRequest

from .packaged_weights import PackageRequest

TORCH_VERSION = ">=2.3"
LIBRARY = "lancedb>=0.40,<0.50"
"""What a library of scans needs besides."""
SURVIVAL = "lifelines>=0.28"
"""What survival probes need besides."""
_REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
# Slicer brings these, or PyTorch Utils does; pip must not replace them under a running Slicer.
_KEEP = ("torch", "numpy", "scipy", "SimpleITK")


def requirements() -> list[str]:
    """What is needed besides torch and what Slicer brings."""
    lines = (line.strip() for line in _REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def missing(*extras: str) -> list[str]:
    """The requirements that are not met, torch among them, and the extras."""
    return [each for each in (f"torch{TORCH_VERSION}", *requirements(), *extras) if not _is_met(each)]


def ensure(*extras: str) -> None:
    """See to it that all packages are there, and the extras; ask before anything is installed.

    Raises:
        CoralBayError: the user declined, the PyTorch extension is not there, or installing failed; says what to do.
    """
    wanted = missing(*extras)
    if not wanted:
        return
    others = [each for each in wanted if not each.startswith("torch")]
    if not slicer.util.confirmOkCancelDisplay(_question(wanted), _("CoralBay: install Python packages")):
        raise CoralBayError(_("CoralBay needs Python packages that are not installed. Nothing was changed."))
    with _in_words():
        if len(others) < len(wanted):
            _install_torch()
        if others:
            _install(others)
    left = missing(*extras)
    if left:
        raise CoralBayError(_("Still missing: {packages}. Restart Slicer and try again.").format(packages=", ".join(left)))


def allow(request: DownloadRequest) -> bool:
    """Ask the user about weights; those that pip has are installed before this says yes.

    Raises:
        CoralBayError: pip failed; says what to do.
    """
    if not ask_download(request):
        return False
    if isinstance(request, PackageRequest):
        with _in_words():
            _install(list(request.packages))
    return True


def ask_download(request: DownloadRequest) -> bool:
    """Ask the user about a download of weights."""
    wish = _("CoralBay would like to download the {what}.").format(what=request.what)
    if isinstance(request, PackageRequest):
        wish = _("CoralBay would like to install the {what} with pip, into Slicer's own Python environment.").format(
            what=request.what
        )
    facts = _("Size: {size}\nFrom: {source}\nLicence: {licence}").format(
        size=request.size, source=request.source, licence=request.licence
    )
    promise = _(
        "No data of yours is sent. You can decline, and choose a weights file from this computer or the encoder "
        "CoralBay-mini instead, which needs no download."
    )
    return bool(slicer.util.confirmOkCancelDisplay("\n\n".join([wish, facts, promise]), _("CoralBay: download weights")))


def weights_file(encoder: str) -> str:
    """The weights file that the user chose for an encoder on this computer, or ""."""
    return str(qt.QSettings().value(f"CoralBaySlicer/Weights/{encoder}") or "")


def set_weights_file(encoder: str, path: str) -> None:
    """Keep the choice of a weights file."""
    qt.QSettings().setValue(f"CoralBaySlicer/Weights/{encoder}", path)


def weights_stamp(encoder: str) -> tuple[int, ...]:
    """Something that changes when that file does; empty when none is chosen or it is gone."""
    file = weights_file(encoder)
    try:
        stat = os.stat(file) if file else None
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_size) if stat else ()


def device() -> str:
    """The device that the user chose on this computer, "auto" at first."""
    return str(qt.QSettings().value("CoralBaySlicer/Device") or "auto")


def set_device(name: str) -> None:
    """Keep the choice of a device."""
    qt.QSettings().setValue("CoralBaySlicer/Device", name)


def _question(wanted: list[str]) -> str:
    lines = [_("CoralBay needs Python packages that are not installed yet:"), ""]
    for each in wanted:
        if each.startswith("torch"):
            lines.append(
                _("- PyTorch: 0.2 GB, or 3 GB for an NVIDIA graphics card, from download.pytorch.org (PyTorch extension)")
            )
        elif each in (LIBRARY, SURVIVAL):
            # Measured with what each brings along, on Linux with Python 3.12.
            size = _("135 MB") if each == LIBRARY else _("40 MB")
            lines.append(_("- {package}, with what it needs {size}, from pypi.org").format(package=each, size=size))
        else:
            lines.append(_("- {package}, from pypi.org").format(package=each))
    lines.append("")
    if any(each in requirements() for each in wanted):
        lines.append(_("The others take about 60 MB in all."))
    lines.append(_("This changes Slicer's own Python environment. Install them now?"))
    return "\n".join(lines)


def _install_torch() -> None:
    if importlib.util.find_spec("PyTorchUtils") is None:
        raise CoralBayError(
            _("Install the extension 'PyTorch' with the Extensions Manager first, and restart Slicer. It brings PyTorch.")
        )
    import PyTorchUtils

    # Asked already, with the other packages.
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION) is None:
        raise CoralBayError(_("PyTorch was not installed. See the module PyTorch Utils."))


@contextmanager
def _in_words() -> Iterator[None]:
    """What pip and the PyTorch extension raise, as something a user can act on."""
    try:
        yield
    except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
        raise CoralBayError(
            _(
                "Installing failed ({reason}). Check the internet connection and the proxy, then try again. Without "
                "internet, see 'Without a network' in the README."
            ).format(reason=str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__)
        ) from error
    finally:
        # What has just come is not seen otherwise.
        importlib.invalidate_caches()


def _install(packages: list[str]) -> None:
    if importlib.util.find_spec("slicer.packaging") is not None:
        from slicer import packaging

        if hasattr(packaging, "pip_ensure"):
            packaging.pip_ensure(
                packages, skip_packages=list(_KEEP), prompt_install=False, requester=_("CoralBay"), skip_in_testing=False
            )
            return
    # Naming the versions that are here keeps pip from replacing them.
    kept = [f"{name}=={metadata.version(name)}" for name in _KEEP if _version(name)]
    slicer.util.pip_install(" ".join([*packages, *kept]))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_met(requirement: str) -> bool:
    name = re.split(r"[<>=!~ ]", requirement, maxsplit=1)[0]
    found = _version(name)
    if found is None:
        return False
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", requirement)
    return all((_numbers(found) >= _numbers(bound)) == (sign == ">=") for sign, bound in bounds)


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, without trailing zeros, for comparing; "2.13.0+cpu" is (2, 13)."""
    parts = [int(part) for part in re.match(r"[\d.]*", version)[0].strip(".").split(".") if part]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
