"""LanceDB's exceptions as errors that say what failed and what to do.

LanceDB tells the cause in the text of general exceptions only, so that is read here and nowhere else.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from CoralBayLib.core.errors import CoralBayError, LibraryError, Remedy, StoreError
from CoralBayLib.core.paths import error_message

LANCE_ERRORS = (OSError, ValueError, RuntimeError, LookupError, TypeError)
"""All that LanceDB raises, apart from panics of its Rust code."""
_PANICS = ("RustPanic", "PanicException")
"""Names of the exceptions that a panic becomes. Python cannot import their classes."""

_STORAGE_MARKS = ('store: "', "RetryError", "HttpError", "credentials", "Generic S3 error")
"""Any of these in a text means that object storage refused or did not answer."""
_STORAGE_CAUSES = (
    (
        ("Failed to get AWS credentials", "MissingCredentials", "no credentials", "Unable to load credentials"),
        "no credentials for it were found. Set them as for any other program: for S3 AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    (
        ("NoSuchBucket", "ContainerNotFound", "bucket does not exist"),
        "there is no such bucket. Create it, or check the address",
    ),
    (
        ("status: 401", "status: 403", "Unauthorized", "Unauthenticated", "PermissionDenied", "AccessDenied"),
        "it refused the credentials. Check them, and that they may read and write there",
    ),
    (
        ("kind: Connect", "kind: Timeout", "connect error", "dns error", "timed out", "resolve region"),
        "it cannot be reached. Check the network and the endpoint (for S3 AWS_ENDPOINT_URL and AWS_REGION)",
    ),
)
_FULL_MARKS = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122", "os error 112")
_START_AGAIN = "Scans that were already added are kept; start again once this is solved."


def explain_reading(table: str = "") -> AbstractContextManager[None]:
    """Raise LibraryError when a table, or the database, cannot be read; StoreError when object storage failed.

    A failure of object storage is no damage to the library.
    """
    what = f"The table '{table}' of the library cannot be read" if table else "The library's tables cannot be read"
    return explain(LibraryError, what, remedy=Remedy.CHECK_LIBRARY)


def explain_writing() -> AbstractContextManager[None]:
    """Raise StoreError when a table cannot be written."""
    then = (
        "The library is as it was. Check that the disk has room and that you may write in the library's folder, then start "
        "again; scans that were already added are kept."
    )
    return explain(StoreError, "The library could not be written", then)


@contextmanager
def explain_compacting() -> Iterator[None]:
    """Raise StoreError when files could not be compacted after a change."""
    try:
        yield
    except LANCE_ERRORS as error:
        full = any(mark in str(error) for mark in _FULL_MARKS) or getattr(error, "errno", 0) == errno.ENOSPC
        then = "Free some disk space; the next change tries again." if full else "The next change tries again."
        what = "The change was made, but the library's files could not be compacted"
        with explain(StoreError, what, then, None if full else Remedy.CHECK_LIBRARY):
            raise


@contextmanager
def explain(kind: type[CoralBayError], what: str, then: str = "", remedy: Remedy | None = None) -> Iterator[None]:
    """Raise LanceDB's exceptions as an error of this kind.

    Args:
        kind: the class of the error.
        what: what failed.
        then: what to do, in words that hold for every front end.
        remedy: what to do, worded by the front end.
    """
    try:
        yield
    except CoralBayError:
        raise
    except BaseException as error:
        if not isinstance(error, LANCE_ERRORS) and type(error).__name__ not in _PANICS:
            raise
        _raise_for_storage(error)
        raise kind(f"{what} ({_first_line(error)}). {then}".rstrip(), remedy=remedy) from error


def is_missing_table(error: Exception) -> bool:
    """Whether LanceDB says that there is no such table."""
    return "was not found" in str(error)


def is_conflict(error: Exception) -> bool:
    """Whether LanceDB says that others changed, or created, the table at the same time."""
    return any(word in str(error).lower() for word in ("conflict", "contention", "concurrent", "already exists"))


def _raise_for_storage(error: BaseException) -> None:
    """Raise StoreError when object storage failed. Its own words may contain keys and are not repeated."""
    text = str(error)
    if "LocalFileSystem" in text or not any(mark in text for mark in _STORAGE_MARKS):
        return
    for marks, cause in _STORAGE_CAUSES:
        if any(mark in text for mark in marks):
            raise StoreError(f"The library's storage failed: {cause}. {_START_AGAIN}") from None
    if "NotFound" in text or "NoSuchKey" in text or "status: 404" in text:
        return  # a file of the library is missing, which is damage
    raise StoreError(f"The library's storage failed. {_START_AGAIN}") from None


def _first_line(error: Any) -> str:
    text = error_message(error) if isinstance(error, OSError) else str(error).split("\n")[0]
    # What follows are positions in LanceDB's own source.
    return text.removeprefix("lance error: ").split(", /")[0][:200]
