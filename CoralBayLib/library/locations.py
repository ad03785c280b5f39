"""Where the scans of a library lie, and whether this computer may look there unasked.

A library holds paths that its maker chose, and a library may come from anybody. To look whether a path on a network share
exists is to connect to its server, and Windows sends the user's name and a proof of the password along. So a share is looked at
only after the user has named it: by adding scans from it, by opening a library on it, or by opening a scan.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.paths import atomic_write, cache_dir

_FILE = "network_shares.json"
_AUTOMOUNTS = ("/net/", "/Network/Servers/")
"""Below these, Linux and macOS connect to the server that the next part of a path names."""


def share_of(path: str | os.PathLike) -> str:
    r"""The network share that a path is on, such as \\server\share; "" for a path on this computer.

    Paths are read as Windows writes them on every computer, since a library may have been made on another.
    """
    text = os.fspath(path)
    if sys.platform == "win32":
        text = text.replace("/", "\\")
    if text.startswith("\\\\"):
        parts = text[2:].split("\\")
        if parts[0] == "?" and len(parts) > 1:
            # \\?\C:\folder is on this computer; \\?\UNC\server\share is a share.
            if parts[1].upper() != "UNC":
                return "" if parts[1].endswith(":") else "\\\\?"
            parts = parts[2:]
        return "\\\\" + "\\".join(parts[:2]).lower()
    for prefix in _AUTOMOUNTS:
        if text.startswith(prefix):
            return prefix + text.removeprefix(prefix).split("/")[0]
    return ""


def remember(paths: Iterable[str | os.PathLike]) -> None:
    """Keep the shares of paths that the user named, for this and later sessions."""
    shares = {share for path in paths if (share := share_of(path))}
    known = _known() if shares else set()
    if shares <= known:
        return
    path = cache_dir() / _FILE
    # Without the file, the next session asks again.
    with suppress(OSError, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(sorted(shares | known), indent=1), encoding="utf-8")


def file_exists(path: str) -> bool | None:
    """Whether the file or folder of a scan still exists; None, without a look, on a share that the user has not named."""
    share = share_of(path)
    if share and share not in _known():
        return None
    return os.path.exists(path)  # noqa: PTH110 - False where access is denied; pathlib raises


def real_path(path: str | os.PathLike) -> str:
    """The path of a scan with symbolic links followed, by which one file is recognized under two names.

    An address of object storage stays as it is, and so do links on a share that the user has not named.
    """
    text = os.fspath(path)
    if not text or "://" in text:
        return text
    share = share_of(text)
    if share and share not in _known():
        return os.path.abspath(text)  # noqa: PTH100 - follows no links
    return os.path.realpath(text)


def _known() -> set[str]:
    try:
        content = json.loads(Path(cache_dir() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, StoreError, RecursionError):
        return set()
    return {each for each in content if isinstance(each, str)} if isinstance(content, list) else set()
