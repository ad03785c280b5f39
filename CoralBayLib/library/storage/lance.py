"""LanceDB, imported at first use so that all else works without it, and its complaints in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from CoralBayLib.core.errors import CoralBayError, LibraryError, StoreError
from CoralBayLib.core.paths import error_message

_REMOTE = ('store: "', "RetryError", "HttpError", "credentials", "Generic S3 error")
"""Words in which LanceDB tells that object storage did not do what was asked."""
_TOLD = (
    (
        ("Failed to get AWS credentials", "MissingCredentials", "no credentials", "Unable to load credentials"),
        "no credentials for it were found. Set them as for any other program: for S3 AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    (("NoSuchBucket", "ContainerNotFound", "bucket does not exist"), "there is no such bucket. Make it, or check the address"),
    (
        ("status: 401", "status: 403", "Unauthorized", "Unauthenticated", "PermissionDenied", "AccessDenied"),
        "it refused the credentials. Check them, and that they may read and write there",
    ),
    (
        ("kind: Connect", "kind: Timeout", "connect error", "dns error", "timed out", "resolve region"),
        "it cannot be reached. Check the network and the endpoint (for S3 AWS_ENDPOINT_URL and AWS_REGION)",
    ),
)
_AS_IT_WAS = "What was done stays done; start again when that is put right."


def lancedb() -> Any:
    """The package.

    Raises:
        LibraryError: it is not installed; says how to install it.
    """
    try:
        import lancedb
    except ImportError as error:
        raise LibraryError(
            f"A library of scans needs the package LanceDB ({error}). Install it: pip install lancedb"
        ) from error
    return lancedb


def readable(name: str) -> AbstractContextManager[None]:
    """LanceDB's complaints about a table that it reads, as a LibraryError; as a StoreError when object storage did not
    answer, which says nothing of what lies there.
    """
    what = f"The table '{name}' of the library cannot be read"
    return _explained(LibraryError, what, "`coralbay library verify` tells what can be done.")


def writable() -> AbstractContextManager[None]:
    """LanceDB's complaints about what it writes, as a StoreError."""
    then = (
        "It is as it was. Check that the disk has room and that you may write in the library's folder, then start again; "
        "what is done stays done."
    )
    return _explained(StoreError, "The library could not be written", then)


def tidying() -> AbstractContextManager[None]:
    """LanceDB's complaints about what it could not tidy after a change, as a StoreError."""
    what = "The change was made, but the library could not be tidied"
    return _explained(StoreError, what, "Free some disk space; the next change tries again.")


@contextmanager
def _explained(kind: type[CoralBayError], what: str, then: str) -> Iterator[None]:
    """LanceDB's complaints as errors of a kind that say what could not be done, why, and what to do then."""
    try:
        yield
    except CoralBayError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        _storage_told(error)
        raise kind(f"{what} ({_first(error)}). {then}") from error


def _storage_told(error: Exception) -> None:
    """Raise StoreError when object storage refused or did not answer; its own words, which may tell of keys, are left out."""
    text = str(error)
    if "LocalFileSystem" in text or not any(word in text for word in _REMOTE):
        return
    for words, told in _TOLD:
        if any(word in text for word in words):
            raise StoreError(f"The library's storage did not do what was asked: {told}. {_AS_IT_WAS}") from None
    if "NotFound" in text or "NoSuchKey" in text or "status: 404" in text:
        return  # a file of the library is missing, which is damage
    raise StoreError(f"The library's storage did not do what was asked. {_AS_IT_WAS}") from None


def _first(error: Exception) -> str:
    text = error_message(error) if isinstance(error, OSError) else str(error).split("\n")[0]
    # What follows are places in LanceDB's own source.
    return text.removeprefix("lance error: ").split(", /")[0][:200]
