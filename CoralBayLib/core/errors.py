"""Errors that a user can act on: each message says what was expected, what came, and what to do."""


class CoralBayError(Exception):
    """Base of every error that CoralBayLib raises on purpose."""


class VolumeError(CoralBayError, ValueError):
    """The image cannot be used: not 3D, not a CT in HU, damaged, or with an unusable geometry."""


class PromptError(CoralBayError, ValueError):
    """The prompts cannot be used: none, outside the volume, or of one class only."""


class QueryError(CoralBayError, ValueError):
    """The similarity query cannot be used: empty or outside the volume."""


class WeightsError(CoralBayError, RuntimeError):
    """Network weights could not be found, verified or loaded.

    Attributes:
        missing: why they are nowhere to be had, in a few words; "" when something else is wrong.
    """

    missing = ""


class EncoderError(CoralBayError, ValueError):
    """An encoder is unknown, registered twice, or does not fit the features at hand."""


class StoreError(CoralBayError, OSError):
    """The embedding store could not be read or written; nothing half-written is left behind."""


class LostLockError(StoreError):
    """A writer was held up for so long that another may have begun; nothing half-written counts."""


class LibraryError(CoralBayError, ValueError):
    """A library of scans cannot be used: missing, damaged, of another format, or made with other weights."""


class ProbeError(CoralBayError, ValueError):
    """A probe is not fitted, is damaged, or was made for other features."""


class ScansError(CoralBayError, ValueError):
    """A table of scans cannot be used: no such column, too few scans or patients, or one patient under two names."""


class MemoryLimitError(CoralBayError, MemoryError):
    """The job needs more memory than there is; the message gives the figures."""


class Cancelled(CoralBayError):  # noqa: N818 - not an error but a wish of the user
    """The user cancelled; nothing was changed."""
