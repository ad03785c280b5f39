"""Names of files for GDCM, which takes them as UTF-8 and ends the process where they are not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import error_message, printable


@contextmanager
def gdcm_names(files: Sequence[str]) -> Iterator[list[str]]:
    """The names by which GDCM can open files, in the same order: links to those whose names are not UTF-8.

    Args:
        files: absolute or relative paths.

    Raises:
        VolumeError: a link is needed and cannot be made.
    """
    if all(printable(file) == file for file in files):
        yield list(files)
        return
    with tempfile.TemporaryDirectory(prefix="coralbay-") as folder:
        names = []
        for n, file in enumerate(files):
            link = Path(folder) / f"{n}.dcm"
            try:
                link.symlink_to(Path(file).absolute())
            except (OSError, NotImplementedError) as error:
                raise VolumeError(
                    f"The name {printable(Path(file).name)}, or that of its folder, is not UTF-8, which DICOM files need "
                    f"({error_message(error)}). Rename it."
                ) from error
            names.append(str(link))
        yield names
