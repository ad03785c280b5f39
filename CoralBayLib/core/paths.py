"""The user's cache folder, and writing files completely or not at all."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from .errors import CoralBayError, StoreError
from .formatting import format_bytes


def cache_dir() -> Path:
    """The folder for downloads and computed files that can be made again; it need not exist yet.

    The environment variable `CORALBAY_CACHE` names it; without it, it is `coralbay` in the platform's cache folder (on
    Linux according to the XDG base directory specification).
    """
    chosen = os.environ.get("CORALBAY_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "coralbay"


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
    path = Path(path)
    if not path.parent.is_dir():
        raise StoreError(f"Cannot write {path.name}: the folder {path.parent} does not exist. Create it, or choose another.")
    temporary = path.with_name(f".{uuid4().hex}{''.join(path.suffixes[-2:])}")
    try:
        yield temporary
        os.replace(temporary, path)
    except CoralBayError:
        raise
    except (OSError, RuntimeError) as error:  # SimpleITK reports every failure as a RuntimeError
        raise StoreError(
            f"Could not write {path}: {error_message(error)}. Nothing was changed. The disk has "
            f"{format_bytes(shutil.disk_usage(path.parent).free)} free. Check that this is enough and that you have "
            "permission to write in this folder, or choose another."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def error_message(error: BaseException) -> str:
    """One line from an exception: the operating system's message, or the last line of ITK's long report."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
