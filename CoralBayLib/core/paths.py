"""The user's cache folder, and writing files completely or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from .errors import CoralBayError, StoreError
from .formatting import format_bytes

TEMPORARY = ".coralbay-tmp-"
"""Prefix of the names of files that are being written."""
DICOM_SUFFIXES = (".dcm", ".ima")
"""Suffixes of DICOM files; many have none."""
_STALE_SECONDS = 24 * 3600
_MOST_SUFFIX = 12
"""Characters of a suffix that tells a format; a longer one is part of the name."""


def cache_dir() -> Path:
    """The folder for downloads and computed files that can be made again; it need not exist yet.

    The environment variable `CORALBAY_CACHE` names it; without it, it is `coralbay` in the platform's cache folder (on
    Linux according to the XDG base directory specification).
    """
    chosen = os.environ.get("CORALBAY_CACHE")
    if chosen:
        return expand(chosen)
    try:
        if os.environ.get("HOME") == "" and sys.platform != "win32":
            return _nameless_cache_dir()  # Python would take the root of the file system
        home = Path.home()
    except (RuntimeError, KeyError):  # no HOME and no entry in the list of users, as in a container
        return _nameless_cache_dir()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "coralbay"


def _nameless_cache_dir() -> Path:
    """A cache folder for a user without a home folder: in the folder for temporary files, and this user's only."""
    chosen = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if chosen:
        return Path(chosen) / "coralbay"
    path = Path(tempfile.gettempdir()) / f"coralbay-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        is_own = path.is_dir() and not path.is_symlink() and (not hasattr(os, "getuid") or path.stat().st_uid == os.getuid())
    except OSError:
        is_own = False
    if not is_own:
        raise StoreError(
            f"There is no home folder, and {path} cannot be used as a cache folder. Set the environment variable "
            "CORALBAY_CACHE to a folder that you can write."
        )
    return path


def expand(path: str | os.PathLike) -> Path:
    """The path, with `~` expanded; unchanged where there is no such home folder."""
    path = Path(path)
    try:
        return path.expanduser()
    except (RuntimeError, KeyError):
        return path


def status_of(path: str | os.PathLike) -> os.stat_result | None:
    """The status of a file or folder; None when there is none, also for a name that no file can have.

    Raises:
        StoreError: whether it exists is not known, such as without permission for its folder.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - takes text with any bytes
    except ValueError:  # a NUL byte
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise StoreError(f"{shortened(path)} cannot be used: {error_message(error)}. Choose another.") from error


def is_replaceable(path: Path) -> bool:
    """Whether writing a file may replace what is there: nothing, a file or a link, but no folder, device or pipe."""
    status = status_of(path)
    return status is None or stat.S_ISREG(status.st_mode)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is named or begins as DICOM.

    Raises:
        OSError: its name does not say so, and it cannot be read.
    """
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def shortened(path: str | os.PathLike, most: int = 200) -> str:
    """A path as text for a message; the middle of a very long one is left out."""
    text = os.fspath(path)
    text = text if isinstance(text, str) else os.fsdecode(text)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def remove_quietly(path: Path) -> bool:
    """Delete a file if that is possible; tells whether it was deleted."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def remove_leftovers(folder: Path) -> int:
    """Delete temporary files of `atomic_write` whose process has ended; returns how many.

    Files of processes on other computers, which may share the folder, are deleted after a day.
    """
    removed = 0
    try:
        found = list(folder.glob(f"{TEMPORARY}*"))
    except OSError:
        return 0
    for path in found:
        if is_leftover(path.name.removeprefix(TEMPORARY), path):
            removed += remove_quietly(path)
    return removed


def temporary_tag() -> str:
    """What a temporary file's name has behind its prefix: this computer, this process, and a random part."""
    return f"{_computer()}-{os.getpid()}-{uuid4().hex[:12]}"


def is_leftover(tag: str, path: Path) -> bool:
    """Whether a temporary file belongs to no process any more.

    Args:
        tag: the file's name without its prefix, which begins with `temporary_tag`.
        path: the file.
    """
    parts = tag.split("-")
    import psutil

    try:
        if len(parts) >= 3 and parts[0] == _computer():
            return int(parts[1]) != os.getpid() and not psutil.pid_exists(int(parts[1]))
        return time.time() - path.stat().st_mtime > _STALE_SECONDS
    except (OSError, ValueError, OverflowError):
        return False


def _computer() -> str:
    """Eight digits for this computer, and on Linux this container: process numbers hold only within it."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the link names nothing that exists
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode("utf-8", "surrogateescape")).hexdigest()[:8]


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file completely or not at all.

    Yields a temporary path in the same folder, which is renamed to `path` when the block ends. It has the same suffix,
    because many writers choose the format by the suffix. When the block raises, the temporary file is removed, and an
    existing file at `path` is unchanged.

    Example::

        with atomic_write("out.nrrd") as temporary:
            SimpleITK.WriteImage(image, str(temporary))

    Raises:
        StoreError: the folder is missing, or writing failed (disk full, no permission); the message says how much
            space is free.
    """
    path = expand(path)
    if status_of(path.parent) is None or not path.parent.is_dir():
        raise StoreError(
            f"Cannot write {shortened(path.name)}: the folder {path.parent} does not exist. Create it, or choose another."
        )
    if not is_replaceable(path):
        raise StoreError(f"Cannot write {shortened(path)}: it is a device or a pipe, not a file. Give the name of a file.")
    remove_leftovers(path.parent)
    suffix = "".join(each for each in path.suffixes[-2:] if len(each) <= _MOST_SUFFIX)
    temporary = path.with_name(f"{TEMPORARY}{temporary_tag()}{suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except CoralBayError:
        raise
    except (OSError, RuntimeError) as error:  # SimpleITK reports every failure as a RuntimeError
        raise StoreError(
            f"Could not write {shortened(path)}: {error_message(error)}. Nothing was changed. The disk has "
            f"{format_bytes(shutil.disk_usage(path.parent).free)} free. Check that this is enough and that you have "
            "permission to write in this folder, or choose another."
        ) from error
    finally:
        remove_quietly(temporary)


def printable(path: str | os.PathLike) -> str:
    """A path as text that can be printed and stored: bytes that are not UTF-8 are replaced by question marks."""
    return os.fspath(path).encode("utf-8", "replace").decode("utf-8")


def error_message(error: BaseException) -> str:
    """One line from an exception: the operating system's message, or the last line of ITK's long report."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
