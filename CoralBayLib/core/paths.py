"""Where files go: the user's cache folder, and writing that leaves a whole file or none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from .errors import CoralBayError, StoreError


def cache_dir() -> Path:
    """The folder for downloads and other things that can be made again; it need not exist yet.

    `CORALBAY_CACHE` when it is set; otherwise `coralbay` in the platform's place for caches (on Linux that follows the
    XDG base directory specification).
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
    """Write a file whole or not at all: yields a temporary path in the same folder, renamed to `path` at the end.

    The temporary path keeps the suffix, since writers choose the format by it. When the block raises, it is removed
    and whatever stood at `path` stays as it was.

    Example::

        with atomic_write("out.nrrd") as temporary:
            SimpleITK.WriteImage(image, str(temporary))

    Raises:
        StoreError: the folder is missing, or writing failed (disk full, no permission); says how much space is free.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise StoreError(f"Cannot write {path.name}: the folder {path.parent} does not exist. Make it, or choose another.")
    temporary = path.with_name(f".{uuid4().hex}{''.join(path.suffixes[-2:])}")
    try:
        yield temporary
        os.replace(temporary, path)
    except CoralBayError:
        raise
    except (OSError, RuntimeError) as error:  # SimpleITK reports every failure as a RuntimeError
        raise StoreError(
            f"Could not write {path}: {error_message(error)}. Nothing was changed there. The disk has "
            f"{shutil.disk_usage(path.parent).free / 1e6:,.0f} MB free: check that this is enough and that you may "
            "write in this folder, or choose another."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def error_message(error: BaseException) -> str:
    """One line of an exception: the operating system's words, or the last telling line of ITK's long report."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
