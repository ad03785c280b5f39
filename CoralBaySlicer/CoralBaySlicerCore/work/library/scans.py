"""Scans of a library in the scene: finding them, loading them, and showing a position in them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.imaging.formats import READABLE_SUFFIXES
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.colors import LIBRARY_REGION
from CoralBaySlicerCore.scene.hidden_nodes import KIND, add_hidden
from CoralBaySlicerCore.work.dicom.database import series_path
from CoralBaySlicerCore.work.worker import Task

from .tasks import read_scan

if TYPE_CHECKING:
    from CoralBayLib.imaging.grid import Volume
    from CoralBaySlicerCore.work.tasks import Tasks

_SOURCE = "CoralBaySlicer.Source"
_MARK = "place"


def source_of(volume: slicer.vtkMRMLScalarVolumeNode) -> str:
    """The path that a volume can be read from: a file, or that of a DICOM series, see `series_path`.

    "" if there is none, or if the volume was modified since it was read.
    """
    files = volumes.files_of(volume)
    if not files or volume.GetModifiedSinceRead():
        return ""
    path = files[0] if len(files) == 1 else series_path(files)
    return path if os.path.exists(path) else ""  # noqa: PTH110 - False where access is denied; pathlib raises


def find_volume(path: str) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume node of the scene that was read from a path, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if path else ():
        if not volumes.is_scan(node):
            continue
        files = volumes.files_of(node)
        if path in (node.GetAttribute(_SOURCE), *files) or (len(files) > 1 and str(Path(files[0]).parent) == path):
            return node
    return None


def openTask(logic: Tasks, path: str) -> Task:
    """Load a scan; the result is its volume node. Slicer reads files on the main thread, the reader reads DICOM."""
    is_folder = os.path.isdir(path)  # noqa: PTH112 - False where access is denied; pathlib raises
    if not is_folder and path.lower().endswith(READABLE_SUFFIXES):
        task = Task(_nothing, lambda _none: _load_file(path), title=_("Loading the scan"))
    else:
        task = Task(lambda *_: read_scan(path), partial(_add_volume, path), title=_("Loading the scan"))
    return logic.reader.start(task)


def show(volume: slicer.vtkMRMLScalarVolumeNode, ras: ArrayLike | None, label: str = "") -> None:
    """Show a scan in the slice views, centered on a marked position, or the whole scan.

    Args:
        volume: its node.
        ras: (3,) RAS mm in the volume's own space; None for the whole scan.
        label: of the mark.
    """
    slicer.util.setSliceViewerLayers(background=volume, fit=ras is None)
    hide_mark()
    if ras is None:
        return
    (world,) = volumes.to_world(volume, ras)
    mark = _mark() or _make_mark()
    mark.RemoveAllControlPoints()
    mark.AddControlPointWorld(*world)
    mark.SetNthControlPointLabel(0, label)
    mark.GetDisplayNode().SetVisibility(True)
    volumes.jump_to(world)


def hide_mark() -> None:
    """Hide the mark in the views."""
    mark = _mark()
    if mark is not None:
        mark.GetDisplayNode().SetVisibility(False)


def _mark() -> slicer.vtkMRMLMarkupsFiducialNode | None:
    found = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    return next((node for node in found if node.GetAttribute(KIND) == _MARK), None)


def _make_mark() -> slicer.vtkMRMLMarkupsFiducialNode:
    node = add_hidden("vtkMRMLMarkupsFiducialNode", _("Position in the library"), _MARK)
    node.CreateDefaultDisplayNodes()
    node.SetLocked(True)
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    for paint in (display.SetSelectedColor, display.SetColor, display.SetActiveColor):
        paint(*LIBRARY_REGION)
    return node


def _nothing(_progress: Progress, _cancel: CancelToken) -> None:
    return None


def _load_file(path: str) -> slicer.vtkMRMLScalarVolumeNode:
    try:
        return slicer.util.loadVolume(path, {"show": False})
    except RuntimeError as error:
        raise VolumeError(
            _("Slicer could not read {name}. The file may be damaged; see the error log.").format(name=Path(path).name)
        ) from error


def _add_volume(path: str, volume: Volume) -> slicer.vtkMRMLScalarVolumeNode:
    name = slicer.mrmlScene.GenerateUniqueName(_("CT from the library"))
    node = slicer.util.addVolumeFromArray(volume.array, ijkToRAS=volume.grid.ijk_to_ras, name=name)
    node.SetAttribute(_SOURCE, path)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(-160, 240)
    return node
