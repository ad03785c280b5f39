"""Errors in words for the user of the module, with what can be done about them."""

from __future__ import annotations

import logging
import traceback

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError, Remedy


def words() -> dict[Remedy, str]:
    """By remedy, in the user's language; {names} in braces are details of the error."""
    return {
        Remedy.GET_WEIGHTS: _(
            "Press 'Get weights...' in step 1, choose a weights file under Advanced, or choose another encoder."
        ),
        Remedy.CHOOSE_WEIGHTS_FILE: _("Choose another weights file under Advanced in step 1, or clear that field."),
        Remedy.CHOOSE_ENCODER: _("Choose an encoder, weights and an inference mode that fit in step 1."),
        Remedy.CHOOSE_DEVICE: _("Choose another device in step 1."),
        Remedy.CHOOSE_SERIES: _("Load one series with Slicer's DICOM module."),
        Remedy.ASSUME_HU: _("If you are sure that the values are HU, check 'The values are Hounsfield units' in step 1."),
        Remedy.NAME_PATIENTS: _("Choose the patient column, or check 'One scan per patient' in step 5."),
        Remedy.CREATE_LIBRARY: _("Add scans under 'Library', or choose another folder there."),
        Remedy.ADD_SCANS: _("Add scans under 'Library'."),
        Remedy.ADD_SCANS_AGAIN: _("Add the scans again under 'Library'."),
        Remedy.CHECK_LIBRARY: _("Press 'Check library' under 'Library' to see what is wrong."),
        Remedy.REPAIR_LIBRARY: _("Press 'Check library' under 'Library'; it offers to repair the library."),
        Remedy.INSTALL_PACKAGE: _("Install it in Slicer's Python console: slicer.util.pip_install('{package}')"),
        Remedy.OVERWRITE: _("Rename or remove it."),
        Remedy.CREATE_COHORT: _("Press 'New cohort...' in step 6, or open the folder of another cohort."),
        Remedy.RELOCATE_SCANS: _("Press 'Find moved scans...' in step 6 and choose the folder in which they are now."),
        Remedy.CHECK_SERVER: _("Check the server's address under 'Device' in step 1, and whether the server is running."),
        Remedy.CHECK_CERTIFICATE: _(
            "Ask the person who runs the server for a valid certificate, or for the file of the certificate authority, and "
            "choose that file under 'Device' in step 1."
        ),
        Remedy.GIVE_TOKEN: _("Enter the server's token under 'Device' in step 1."),
        Remedy.MATCH_VERSIONS: _("Install the same version of CoralBay on this computer and on the server."),
        Remedy.TRY_LATER: _("Try again later, or choose this computer under 'Device' in step 1."),
        Remedy.FREE_MEMORY: _(
            "Crop the volume, choose an inference mode with small windows in step 1, or close other programs."
        ),
    }


def remedy_text(error: CoralBayError) -> str:
    """What the user can do about an error; "" when it names no remedy."""
    return "" if error.remedy is None else error.fill(words()[error.remedy])


def describe_error(error: BaseException) -> str:
    """An error as text for the user. An error of CoralBay is its message and what can be done about it."""
    if isinstance(error, CoralBayError):
        return f"{error} {remedy_text(error)}".rstrip()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _("There was not enough memory. Close other programs or crop the volume, then try again.")
    if isinstance(error, ImportError):
        return _(
            "A Python package could not be loaded ({reason}). Restart Slicer. If it happens again, install PyTorch again "
            "with the module PyTorch Utils. On Windows a common cause is a missing Visual C++ runtime."
        ).format(reason=error)
    return _("An unexpected error occurred ({kind}: {reason}). Nothing was changed. Details are in the error log.").format(
        kind=type(error).__name__, reason=error
    )


def show_error(title: str, error: BaseException) -> None:
    """Show an error in a dialog, and log the traceback of an unexpected one. `Cancelled` is not shown."""
    if isinstance(error, Cancelled):
        return
    if not isinstance(error, CoralBayError):
        logging.error("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    slicer.util.errorDisplay(f"{title}\n\n{describe_error(error)}")
