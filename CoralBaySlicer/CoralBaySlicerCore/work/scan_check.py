"""The check of a scan of the scene: what is known of it and of its file, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError, VolumeError
from CoralBayLib.core.formatting import format_file_size
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled
from CoralBaySlicerCore.scene import volumes

from .dicom.database import series_path
from .remedies import describe_error
from .worker import Task

if TYPE_CHECKING:
    from CoralBayLib.imaging.facts import FileFacts
    from CoralBayLib.imaging.grid import Grid
    from CoralBayLib.imaging.inspection import ScanReport

    from .tasks import Tasks

_LEAST_ANGLE_DEG = 0.1
"""Smaller angles come from rounding."""
_SAME_MM = 0.1
"""Least distance between the corners of a volume and those of its file that is reported."""


@dataclass(frozen=True, eq=False)
class ScanCheck:
    """The result of a check.

    Attributes:
        name: of the volume node.
        scan: the library's `ScanReport` of the voxels in the scene; None when the node holds no 3D image.
        path: of the file, or of the DICOM series; "" when the scene does not know of one.
        file: the `ScanReport` of that file; None when there is none, or it was not checked.
        missing_package: the Python package without which the file could not be checked; "" if it was.
        transform: of the volume: "", "linear" or "nonlinear".
        modified: whether the voxels were changed since they were read from the file.
        scan_faults: why the scan in the scene cannot be used.
        file_faults: why the file cannot be used, as far as that is not true of the scan in the scene, too.
    """

    name: str
    scan: ScanReport | None
    path: str
    file: ScanReport | None
    missing_package: str
    transform: str
    modified: bool
    scan_faults: tuple[CoralBayError, ...]
    file_faults: tuple[CoralBayError, ...]


def checkTask(logic: Tasks, volume: slicer.vtkMRMLScalarVolumeNode, assume_hu: bool = False) -> Task:
    """Check a volume node and its file; the result is a `ScanCheck`.

    Runs on the reader, so it does not wait for computations. It needs no package that CoralBay installs, except for the
    file, which is then left out.

    Args:
        logic: its reader runs the task.
        volume: the scan's node.
        assume_hu: skip the check that the values look like HU.
    """
    name, files, modified = volume.GetName(), volumes.files_of(volume), bool(volume.GetModifiedSinceRead())
    parent = volume.GetParentTransformNode()
    transform = "" if parent is None else "nonlinear" if volumes.is_transformed_nonlinearly(volume) else "linear"
    try:
        snapshot, refusal = volumes.read(volume), None
    except VolumeError as error:
        snapshot, refusal = None, error

    def run(progress: Progress, cancel: CancelToken) -> ScanCheck:
        from CoralBayLib.imaging.inspection import inspect_scan, inspect_volume

        scan = inspect_volume(snapshot.volume, name, assume_hu) if snapshot is not None else None
        raise_if_cancelled(cancel)
        progress(0.3, "")
        path = "" if not files else files[0] if len(files) == 1 else series_path(files)
        file, missing = None, ""
        try:
            file = inspect_scan(path, assume_hu=assume_hu) if path else None
        except ImportError as error:
            missing = error.name or str(error)
        scan_faults = (*([refusal] if refusal is not None else []), *(_faults(scan) if scan is not None else []))
        # What is wrong with the values in the scene is as wrong in the file.
        said = {str(fault) for fault in scan_faults}
        file_faults = tuple(fault for fault in (file.faults if file else ()) if str(fault) not in said)
        return ScanCheck(name, scan, path, file, missing, transform, modified, scan_faults, file_faults)

    return logic.reader.start(Task(run, lane="check", title=_("Checking {name}").format(name=name)))


def _faults(scan: ScanReport) -> Iterable[CoralBayError]:
    if scan.kind == "labelmap":
        yield VolumeError(_("The values look like the labels of a segmentation, not like a CT. Choose the CT."))
    yield from scan.faults


def describe(check: ScanCheck) -> str:
    """The result as text for the user."""
    if check.scan_faults:
        paragraphs = [_("'{name}' cannot be used as it is:").format(name=check.name), *_bullets(check.scan_faults)]
    else:
        paragraphs = [_("'{name}' can be used. No fault was found in it.").format(name=check.name)]
    if check.file_faults:
        paragraphs += [
            _("Its file cannot be used as it is, for example for a library or on the command line:"),
            *_bullets(check.file_faults),
        ]
    known = [*_of_scan(check.scan), *_of_transform(check.transform), *_of_file(check)]
    return "\n\n".join([*paragraphs, "\n".join([_("What is known:"), *(f"- {line}" for line in known)])])


def _bullets(faults: Iterable[CoralBayError]) -> list[str]:
    return [f"- {describe_error(fault)}" for fault in faults]


def _of_scan(scan: ScanReport | None) -> list[str]:
    grid = scan.facts.grid if scan is not None else None
    if scan is None or grid is None:
        return []
    extent = [n * spacing for n, spacing in zip(grid.size, grid.spacing_mm, strict=True)]
    lines = [
        _("Size: {size} voxels of {spacing} mm, {extent} mm in all").format(
            size=_by(grid.size), spacing=_by(grid.spacing_mm, ".3g"), extent=_by(extent, ".0f")
        ),
        _orientation(grid),
    ]
    if scan.values is not None:
        low, high = scan.values
        text = {
            True: _("Values: {low} to {high}, as in a CT in Hounsfield units (HU)"),
            False: _("Values: {low} to {high}, not Hounsfield units (HU)"),
            None: _("Values: {low} to {high}"),
        }[scan.is_hu]
        lines.append(text.format(low=f"{low:g}", high=f"{high:g}"))
    return lines


def _orientation(grid: Grid) -> str:
    planes = {"axial": _("Axial slices"), "coronal": _("Coronal slices"), "sagittal": _("Sagittal slices")}
    text = planes[grid.slice_plane]
    if grid.obliqueness_deg >= _LEAST_ANGLE_DEG:
        text += _(", oblique by {angle} degrees").format(angle=f"{grid.obliqueness_deg:.1f}")
    else:
        text += _(", not oblique")
    if grid.shear_deg >= _LEAST_ANGLE_DEG:
        text += _(", axes sheared by {angle} degrees").format(angle=f"{grid.shear_deg:.1f}")
    return text


def _of_transform(transform: str) -> list[str]:
    texts = {
        "linear": _("A linear transform is applied in the scene. It does not change the features, and results follow it."),
        "nonlinear": _(
            "A non-linear transform is applied in the scene. Features are computed on the untransformed volume, and results "
            "are placed under the same transform."
        ),
    }
    return [texts[transform]] if transform else []


def _of_file(check: ScanCheck) -> list[str]:
    if not check.path:
        return [_("File: none. The volume was made in the scene, or loaded without keeping its file name.")]
    name = Path(check.path).name
    if check.missing_package:
        return [
            _(
                "File: {name}. It was not checked, because the Python package {package} is not installed. CoralBay asks to "
                "install it when features are computed."
            ).format(name=name, package=check.missing_package)
        ]
    if check.file is None:
        return []
    facts = check.file.facts
    lines = [_("File: {name}").format(name=", ".join([name, *_of_bytes(facts)])), *facts.notes]
    if check.modified:
        lines.append(_("The volume was changed in the scene after it was read from this file."))
    grid = check.scan.facts.grid if check.scan else None
    if grid is not None and facts.grid is not None and not grid.canonical().same_as(facts.grid.canonical(), _SAME_MM):
        lines.append(_("The volume has another size, spacing, position or orientation than its file."))
    return lines


def _of_bytes(facts: FileFacts) -> Sequence[str]:
    """Format, size and compression; for a DICOM series also its description and slices."""
    parts = [facts.format] if facts.format else []
    if facts.series is not None:
        if facts.series.description:
            parts.append(_("series '{description}'").format(description=facts.series.description))
        parts.append(_("images: {count}").format(count=facts.series.images))
        if facts.series.slices:
            parts.append(_("slices of the scan: {count}").format(count=facts.series.slices))
    if facts.bytes:
        parts.append(format_file_size(facts.bytes))
    if facts.checksum == "correct":
        parts.append(_("compressed, checksum correct"))
    elif facts.checksum is not None:
        parts.append(_("no checksum in this format") if not facts.compression else _("compressed, no checksum in this format"))
    return parts


def _by(numbers: Iterable[float], form: str = "g") -> str:
    return " x ".join(f"{n:{form}}" for n in numbers)
