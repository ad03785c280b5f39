"""The on-disk format of a library: its version mark, and how files and tables are named.

`library.json` holds the format version. Each encoder has a basis (`NAME.basis.safetensors`) and two LanceDB tables
(`regions_NAME.lance`, `scans_NAME.lance`).
"""

from __future__ import annotations

import json
import re

from CoralBayLib.core.errors import LibraryError

FORMAT_VERSION = 1
MARK = "library.json"
BASIS_SUFFIX = ".basis.safetensors"


def mark_text() -> str:
    """The content of the version mark."""
    return json.dumps({"format": FORMAT_VERSION})


def require_format(mark: bytes, name: str, root: str) -> None:
    """Refuse a library of another format.

    Args:
        mark: the content of the version mark.
        name: what messages call the mark, for example its path.
        root: the path or address of the library.

    Raises:
        LibraryError: the mark is damaged, or the format is another.
    """
    try:
        version = json.loads(mark)["format"]
        if type(version) is not int:
            raise ValueError(f"its format is {str(version)[:40]}, which is not a whole number")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise LibraryError(f"{name} cannot be read ({error}). Put it back: {mark_text()}") from error
    if version > FORMAT_VERSION:
        raise LibraryError(
            f"The library in {root} has format {version}; this version of CoralBay reads formats up to {FORMAT_VERSION}. "
            "Update CoralBay, or choose another library."
        )
    if version < FORMAT_VERSION:
        raise LibraryError(
            f"The library in {root} has format {version}, which is too old to be read. Add the scans to a new folder; "
            "embeddings that are still in the store are not computed again."
        )


def slug(encoder: str) -> str:
    """An encoder's name as it appears in the names of files and tables."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", encoder)


def basis_name(encoder: str) -> str:
    """The name of the file that holds an encoder's basis."""
    return f"{slug(encoder)}{BASIS_SUFFIX}"
