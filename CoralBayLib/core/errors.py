"""Errors that a user can act on. The message states the fault; the remedy is data, which each front end words itself."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Remedy(Enum):
    """What a user can do about an error. The value is the advice for callers of the Python API.

    The command line words each member in `CoralBayLib.cli.remedies`, the Slicer module in its `work.remedies`.
    """

    GET_WEIGHTS = "Pass consent=True to download the weights, weights=PATH for a local file, or choose another encoder."
    """The weights are nowhere on this computer. Details: encoder, reason, downloadable (false where no download is offered)."""
    CHOOSE_WEIGHTS_FILE = "Pass another file as weights=, or leave weights= out."
    """The given file is missing, damaged, or of another network. Details: encoder."""
    CHOOSE_ENCODER = "Use an encoder, weights and a setting that fit."
    """The features at hand were made with another encoder, weights or setting. Details: encoder, where it is known."""
    CHOOSE_DEVICE = "Pass device='cpu' or device='auto'."
    """The device is missing or fails its test."""
    CHOOSE_SERIES = "Pass series=UID."
    """A DICOM folder holds several series."""
    ASSUME_HU = "If you are sure that the values are HU, pass assume_hu=True."
    """The values do not look like Hounsfield units."""
    NAME_PATIENTS = "Pass patient=COLUMN, or patient=None when every scan is of another patient."
    """A table of scans names no patients."""
    CREATE_LIBRARY = "Create the library with Library.add, or open another folder."
    """There is no library of scans at that location. Details: path."""
    ADD_SCANS = "Add scans with Library.add."
    """The library lacks what was asked for. Details: encoder."""
    ADD_SCANS_AGAIN = "Add the scans again with Library.add."
    """Scans were removed from the library, or were added with other weights."""
    CHECK_LIBRARY = "Call Library.verify to see what is wrong."
    """The library is damaged; how badly is not known yet."""
    REPAIR_LIBRARY = "Call Library.verify(repair=True)."
    """The library has known damage that can be repaired."""
    INSTALL_PACKAGE = "Install the package with pip."
    """A Python package is missing. Details: package, with the versions that fit, as pip takes it."""
    OVERWRITE = "Pass overwrite=True to replace it, or rename or remove it."
    """A file that would be written exists already."""
    CREATE_COHORT = "Create the cohort with Cohort.create, or open another folder."
    """There is no cohort in that folder. Details: path."""
    RELOCATE_SCANS = "Call Cohort.relocate(FOLDER) with the folder that the scans are in now."
    """Scans of a cohort are not where they were."""
    CHECK_SERVER = "Check the address, and that `coralbay serve` runs there and can be reached from this computer."
    """A server cannot be reached, or something else answers at its address. Details: server."""
    CHECK_CERTIFICATE = "Pass certificates=FILE with the authority that signed the server's certificate, or have it renewed."
    """The certificate of a server is expired, unknown or of another name. Details: server."""
    GIVE_TOKEN = "Pass the server's token as token=."  # noqa: S105 - the advice, not a token
    """A server wants a token, or another one. Details: server."""
    MATCH_VERSIONS = "Install the same version of CoralBay on this computer and on the server."
    """A server computes other features than this computer. Details: server."""
    TRY_LATER = "Try again later, or embed on this computer."
    """A server has no free place, or ended the work. Details: server."""
    FREE_MEMORY = "Crop the volume, use a setting with small windows, or close other programs."
    """There is too little memory."""


class CoralBayError(Exception):
    """Base of every error that CoralBayLib raises on purpose. It can be pickled.

    Args:
        message: the fault, in words that hold for every front end: it names no option and no button.
        remedy: what the user can do about it.
        details: plain values that the words for the remedy may use, such as encoder, path or package.

    Attributes:
        remedy: as given; None where the message says all there is to say.
        details: as given, by name.

    Example::

        raise LibraryError("There is no library of scans.", remedy=Remedy.CREATE_LIBRARY, path=str(folder))
    """

    def __init__(self, message: str = "", *, remedy: Remedy | None = None, **details: Any) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.details = details
        if remedy is not None and hasattr(self, "add_note"):  # Python 3.11: printed below the message in a traceback
            self.add_note(remedy.value)

    def as_dict(self) -> dict[str, str | None]:
        """The message, the class and the remedy, in values that JSON can represent."""
        return {"error": str(self), "kind": type(self).__name__, "remedy": self.remedy.name.lower() if self.remedy else None}

    def fill(self, words: str) -> str:
        """Put details into words that name them in braces, such as "{package}"; three dots stand for a missing one."""
        return words.format_map(_Details(self.details))


class _Details(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "..."


class VolumeError(CoralBayError, ValueError):
    """The image cannot be used: not 3D, not a CT in HU, damaged, or with an unusable geometry."""


class PromptError(CoralBayError, ValueError):
    """The prompts cannot be used: none, outside the volume, or of one class only."""


class QueryError(CoralBayError, ValueError):
    """The similarity query cannot be used: empty or outside the volume."""


class WeightsError(CoralBayError, RuntimeError):
    """Network weights could not be found, verified or loaded.

    With the remedy `GET_WEIGHTS` they are nowhere to be found, and `details["reason"]` says why in a few words; with
    another remedy, or none, something else is wrong.
    """


class EncoderError(CoralBayError, ValueError):
    """An encoder is unknown, registered twice, or does not fit the features at hand."""


class StoreError(CoralBayError, OSError):
    """The embedding store could not be read or written; no incomplete file is left behind."""


class LostLockError(StoreError):
    """A writer was delayed for so long that another may have begun; an incomplete write has no effect."""


class LibraryError(CoralBayError, ValueError):
    """A library of scans cannot be used: missing, damaged, of another format, or made with other weights."""


class CohortError(CoralBayError, ValueError):
    """A cohort cannot be used as asked: missing, damaged, of another format, its scans moved, or nothing accepted yet."""


class ProbeError(CoralBayError, ValueError):
    """A probe is not fitted, is damaged, or was made for other features."""


class ScansError(CoralBayError, ValueError):
    """A table of scans cannot be used: no such column, too few scans or patients, or one patient under two names."""


class EvaluationError(CoralBayError, ValueError):
    """Patients cannot be evaluated: too few, or numbers that do not fit."""


class TrainingError(CoralBayError, ValueError):
    """A training cannot begin or go on: no usable scans, settings that do not fit, or a damaged state."""


class MemoryLimitError(CoralBayError, MemoryError):
    """The job needs more memory than there is; the message states both sizes."""


class ServerError(CoralBayError, ConnectionError):
    """A server that embeds scans could not be reached, refused the work, or did not finish it. Details: server."""


class Cancelled(CoralBayError):  # noqa: N818 - not a fault, but a request of the user
    """The user cancelled; nothing was changed."""
