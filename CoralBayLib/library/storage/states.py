"""The states of a LanceDB table: every change leaves a manifest, a file that lists what the table consists of from then on.

Searches read the newest manifest. Earlier ones are kept for processes that are still reading them, and compacting a table reads
them all, so that one damaged earlier manifest would make every later change fail.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FOLDER = "_versions"
_SUFFIX = ".manifest"
_INVERTED = 2**63
"""File names above this are 2**64 - 1 minus the version, so that the newest comes first in a listing."""
_END = struct.Struct("<QHH4s")
"""The last 16 bytes: the position of the manifest in its file, a version of two numbers, and a mark."""
_MARK = b"LANC"
_NO_DAMAGE = ("os error", "not found", "NotFound", "Permission")
"""Any of these in an error's text means that a file is missing or could not be opened."""


def damaged_manifests(table: Path, open_table: Callable[[], Any]) -> list[Path]:
    """The manifests of a table that cannot be read, as long as another one is left.

    While the newest cannot be read, only its damage, and what the files themselves show, is found; remove it and ask again.

    Args:
        table: its folder on this computer.
        open_table: opens it with LanceDB.

    Returns:
        Their files; empty also when none would be left, since there is no state to go back to.
    """
    manifests = {version: path for path in (table / _FOLDER).glob(f"*{_SUFFIX}") if (version := _version(path))}
    intact = {version for version, path in manifests.items() if _is_complete(path)}
    newest = max(manifests, default=0)
    if newest not in intact or not _can_be_read(open_table):
        intact.discard(newest)
    else:
        intact -= {version for version in intact - {newest} if not _can_be_read(open_table, version)}
    return [path for version, path in sorted(manifests.items()) if version not in intact] if intact else []


def _version(path: Path) -> int:
    """The number of the state that a manifest describes; 0 if the name has another form."""
    if not path.stem.isdigit():
        return 0
    number = int(path.stem)
    return 2**64 - 1 - number if number > _INVERTED else number


def _is_complete(path: Path) -> bool:
    """Whether a manifest has its end, and the length that it states."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    if len(data) < _END.size + 4:
        return False
    position, _, _, mark = _END.unpack(data[-_END.size :])
    if mark != _MARK or position > len(data) - _END.size - 4:
        return False
    (length,) = struct.unpack_from("<I", data, position)
    return bool(length) and position + 4 + length == len(data) - _END.size


def _can_be_read(open_table: Callable[[], Any], version: int = 0) -> bool:
    """Whether LanceDB can read a state, or the newest without a number; true also when something else than damage hinders."""
    try:
        table = open_table()
        if version:
            table.checkout(version)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # LanceDB panics on some damage, with an exception that is no Exception
        return any(mark in str(error) for mark in _NO_DAMAGE)
    return True
