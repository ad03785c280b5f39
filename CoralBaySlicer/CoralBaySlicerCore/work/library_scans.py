"""Scans of a library in the scene: found there, loaded, and a place in them shown."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.imaging.formats import READABLE_SUFFIXES
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.colors import LIBRARY_REGION
from CoralBaySlicerCore.scene.hidden_nodes import KIND, add_hidden

from .dicom_database import place_of
from .scan_library import read
from .worker import Task

if TYPE_CHECKING:
    from .tasks import Tasks

_SOURCE = "CoralBaySlicer.Source"
_MARK = "place"


def source_of(volume: Any) -> str:
    """The path that a volume's voxels can be read from: a file, or what stands for a DICOM series; "" when there is none.

    A volume that was changed since it was read is no longer what its file holds.
    """
    files = _files(volume)
    if not files or volume.GetModifiedSinceRead():
        return ""
    path = files[0] if len(files) == 1 else place_of(files)
    return path if os.path.exists(path) else ""


def loaded(path: str) -> Any:
    """The volume node of the scene that was read from a path, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if path else ():
        if not volumes.is_scan(node):
            continue
        files = _files(node)
        if path in (node.GetAttribute(_SOURCE), *files) or (len(files) > 1 and os.path.dirname(files[0]) == path):
            return node
    return None


def openTask(logic: Tasks, path: str) -> Task:
    """Load a scan; the result is its volume node. DICOM is read on the reader, files by Slicer."""
    if not os.path.isdir(path) and path.lower().endswith(READABLE_SUFFIXES):
        run, finish = _nothing, lambda _read: _load(path)
    else:
        run, finish = lambda *_: read(path), partial(_node, path)
    return logic.reader.start(Task(run, finish, title=_("Loading the scan")))


def show(volume: Any, ras: ArrayLike | None, label: str = "") -> None:
    """Show a scan in the slice views, centred on a place with a mark, or as a whole.

    Args:
        volume: its node.
        ras: the place, RAS mm of the volume's own space; None for the whole.
        label: beside the mark.
    """
    slicer.util.setSliceViewerLayers(background=volume, fit=ras is None)
    unmark()
    if ras is None:
        return
    (world,) = volumes.to_world(volume, [ras])
    mark = _mark() or _make_mark()
    mark.RemoveAllControlPoints()
    mark.AddControlPointWorld(*world)
    mark.SetNthControlPointLabel(0, label)
    mark.GetDisplayNode().SetVisibility(True)
    volumes.jump_to(world)


def unmark() -> None:
    """Take the mark out of the views."""
    if _mark() is not None:
        _mark().GetDisplayNode().SetVisibility(False)


def _mark() -> Any:
    found = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    return next((node for node in found if node.GetAttribute(KIND) == _MARK), None)


def _make_mark() -> Any:
    made = add_hidden("vtkMRMLMarkupsFiducialNode", _("Place in the library"), _MARK)
    made.CreateDefaultDisplayNodes()
    made.SetLocked(True)
    display = made.GetDisplayNode()
    display.SetSaveWithScene(False)
    for paint in (display.SetSelectedColor, display.SetColor, display.SetActiveColor):
        paint(*LIBRARY_REGION)
    return made


def _files(volume: Any) -> list[str]:
    """The absolute paths of the files that a volume was read from or written to."""
    storage = volume.GetStorageNode()
    if storage is None or not storage.GetFileName():
        return []
    names = [storage.GetNthFileName(n) for n in range(storage.GetNumberOfFileNames())] or [storage.GetFileName()]
    return [os.path.abspath(storage.GetAbsoluteFilePath(name) or name) for name in names]


def _nothing(_progress: Progress, _cancel: CancelToken) -> None:
    return None


def _load(path: str) -> Any:
    try:
        return slicer.util.loadVolume(path, {"show": False})
    except RuntimeError as error:
        raise VolumeError(
            _("Slicer could not read {name}. The file may be damaged; see the error log.").format(name=os.path.basename(path))
        ) from error


def _node(path: str, volume: Any) -> Any:
    name = slicer.mrmlScene.GenerateUniqueName(_("CT of the library"))
    node = slicer.util.addVolumeFromArray(volume.array, ijkToRAS=volume.grid.ijk_to_ras, name=name)
    node.SetAttribute(_SOURCE, path)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(-160, 240)
    return node
