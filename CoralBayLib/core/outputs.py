"""Checks of the files that a command will write, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import StoreError
from .paths import error_message, expand, is_replaceable, looks_like_dicom, printable, status_of

DETACHED_HEADERS = (".nhdr", ".mhd", ".hdr")
"""Suffixes of headers whose voxels are in another file of the same name."""
Location = str | os.PathLike | None


def require_writable(
    path: str | os.PathLike, inputs: Iterable[Location] = (), *, suffixes: Sequence[str] = (), others: Iterable[Location] = ()
) -> Path:
    """Refuse an output file that cannot or must not be written.

    Args:
        path: the file that will be written; an existing file that is not an input may be replaced.
        inputs: files and folders that are read; None is ignored.
        suffixes: of which the file's name must have one, in lower case; any name is taken without them.
        others: other outputs of the same command; None is ignored.

    Returns:
        The path, with `~` expanded.

    Raises:
        StoreError: the name is empty, has another suffix, is a folder, is one of the inputs or other outputs (also by another
            name or link), or its folder does not exist or is write-protected.
    """
    if not os.fspath(path):  # a variable of a shell that is not set
        raise StoreError("The name of the file to write is empty. Give the name of a file.")
    path = expand(path)
    if suffixes and not path.name.lower().endswith(tuple(suffixes)):
        raise StoreError(f"Cannot tell the format from the name {path.name}. Use one of {', '.join(suffixes)}.")
    existing = status_of(path)
    if existing is not None and path.is_dir():
        raise StoreError(f"Cannot write {path}: it is a folder. Give the name of a file.")
    if "\0" in str(path):
        raise StoreError(f"Cannot write {printable(path)!r}: a name cannot have a zero character. Give another name.")
    if not is_replaceable(path):
        raise StoreError(f"Cannot write {path}: it is a device or a pipe, not a file. Give the name of a file.")
    for each in inputs:
        if each is not None and (is_same_file(path, each) or (existing is not None and _is_part_of(path, expand(each)))):
            raise StoreError(f"Writing {path} would overwrite an input, {each}. Choose another name.")
    for each in others:
        if each is not None and is_same_file(path, each):
            raise StoreError(f"Two results would be written to one file, {path}. Choose another name for one of them.")
    _require_folder(path.parent, f"Cannot write {path.name}: the folder {path.parent}")
    return path


def require_writable_folder(path: str | os.PathLike, inputs: Iterable[Location] = (), names: Iterable[str] = ()) -> Path:
    """Refuse an output folder that cannot be made or written; it is made if necessary.

    Args:
        path: the folder.
        inputs: files that are read; None is ignored.
        names: of the files that will be written in the folder.

    Returns:
        The path, with `~` expanded.

    Raises:
        StoreError: the name is empty, the folder cannot be made or written, or one of the files in it is an input or a folder.
    """
    if not os.fspath(path):
        raise StoreError("The name of the folder to write to is empty. Give the name of a folder.")
    path, read = expand(path), [*inputs]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {path} cannot be made: {error_message(error)}. Choose another.") from error
    _require_folder(path, f"The folder {path}")
    for name in names:
        require_writable(path / name, read)
    return path


def require_outside(path: str | os.PathLike, folder: str | os.PathLike, what: str) -> None:
    """Refuse an output inside a folder whose files belong together, such as a library.

    Raises:
        StoreError: the path lies in the folder.
    """
    try:
        inside = expand(path).resolve().is_relative_to(expand(folder).resolve())
    except (OSError, RuntimeError, ValueError):
        return
    if inside:
        raise StoreError(f"{path} lies in {what} {folder}, whose files must not be changed. Choose another folder.")


def is_same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether two paths lead to one file: by the same name, another spelling of it, or a link."""
    one, other = expand(one), expand(other)
    first, second = status_of(one), status_of(other)
    if first is not None and second is not None:
        return os.path.samestat(first, second)
    try:
        return first is None and second is None and one.resolve() == other.resolve()
    except (OSError, RuntimeError, ValueError):  # a circle of links
        return False


def _is_part_of(path: Path, scan: Path) -> bool:
    """Whether an existing file is one of several that a scan consists of: a DICOM slice, or the voxels of a header."""
    if scan.is_file() and _is_dicom(scan):
        scan = scan.parent
    if scan.suffix.lower() in DETACHED_HEADERS:
        return is_same_file(path.parent, scan.parent) and path.stem.split(".")[0] == scan.stem
    if not scan.is_dir() or not is_same_file(path.parent, scan):
        return False
    return _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    """Whether an existing file is a DICOM slice; also where that cannot be told."""
    try:
        return looks_like_dicom(path)
    except OSError:
        return True


def _require_folder(folder: Path, what: str) -> None:
    if status_of(folder) is None or not folder.is_dir():
        raise StoreError(f"{what} does not exist. Create it, or choose another.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"{what} is write-protected. Choose another.")
