"""The nodes of a cohort's scan in the scene: the volume, the segmentation, and the structures to click on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CohortError, VolumeError
from CoralBayLib.core.names import fold
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBayLib.imaging.grid import Volume
from CoralBaySlicerCore.scene import boxes, masks, segments, structures, volumes
from CoralBaySlicerCore.scene.colors import label_color
from CoralBaySlicerCore.scene.masks import Masks
from CoralBaySlicerCore.work.library.scans import find_volume

_COHORT, _SCAN, _OWN = "CoralBaySlicer.Cohort", "CoralBaySlicer.CohortScan", "CoralBaySlicer.CohortVolume"


@dataclass(frozen=True, eq=False)
class Opened:
    """A scan of a cohort as plain data.

    Attributes:
        cohort: the cohort's folder.
        scan: its name in the cohort.
        path: of the scan.
        volume: its voxels.
        segments: the voxels of each structure, by name; empty ones where nothing was segmented yet.
        state: the word for how far the scan is.
    """

    cohort: str
    scan: str
    path: str
    volume: Volume
    segments: dict[str, CroppedMask]
    state: str


@dataclass(frozen=True, eq=False)
class Annotation:
    """What a person made of the scan that is open, as plain data.

    Attributes:
        scan: its name in the cohort.
        masks: voxels of the segments, with the labels of the cohort; None if all are empty.
        structures: the cohort's structures of which there is a segment.
        prompts: points and boxes, in the volume's own space.
        volume: the scan.
    """

    scan: str
    masks: Masks | None
    structures: tuple[str, ...]
    prompts: Prompts
    volume: volumes.VolumeSnapshot


def current(cohort: str) -> slicer.vtkMRMLSegmentationNode | None:
    """The segmentation of the scan of a cohort that was opened last; None if none is open."""
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if cohort and node.GetAttribute(_COHORT) == cohort
    ]
    return found[-1] if found else None


def scan_of(segmentation: slicer.vtkMRMLSegmentationNode | None) -> str:
    """The name of the scan in its cohort; "" without one."""
    return (segmentation.GetAttribute(_SCAN) or "") if segmentation is not None else ""


def volume_of(segmentation: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume that a segmentation belongs to."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentation.GetNodeReference(role)


def put(
    opened: Opened, earlier_key: tuple | None = None
) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]:
    """Add the nodes of a scan to the scene, in place of those of the scan that was open before.

    A volume that was loaded from the same file is used as it is.

    Args:
        opened: the scan.
        earlier_key: `voxels_key` of the segmentation that was open when the scan was requested.

    Raises:
        CohortError: that segmentation was changed since then; its changes would be lost.
    """
    earlier = current(opened.cohort)
    if earlier_key is not None and earlier is not None and voxels_key(earlier) != earlier_key:
        raise CohortError(
            _(
                "The segmentation of {scan} was changed while the other scan was prepared, so it stays open. Open the other "
                "scan again; you are then asked about the changes."
            ).format(scan=scan_of(earlier))
        )
    volume = find_volume(opened.path)
    if volume is not None and not volumes.read(volume).volume.grid.same_as(opened.volume.grid):
        volume = None
    added: list[slicer.vtkMRMLNode] = []
    try:
        if volume is None:
            volume = _add_volume(opened)
            added.append(volume)
        segmentation = segments.new(volume, _("{scan} segmentation").format(scan=opened.scan))
        added.append(segmentation)
        _fill(segmentation, volume, opened)
    except Exception:
        for node in reversed(added):
            slicer.mrmlScene.RemoveNode(node)
        raise
    if earlier is not None:
        remove(earlier, keep_volume=volume)
    return volume, segmentation


def _add_volume(opened: Opened) -> slicer.vtkMRMLScalarVolumeNode:
    array, matrix = opened.volume.array, opened.volume.grid.ijk_to_ras
    volume = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, name=opened.scan)
    volume.SetAttribute(_OWN, opened.cohort)
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(-160, 240)
    return volume


def _fill(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode, opened: Opened) -> None:
    """Add a segment and a structure for each name; a structure with voxels starts from its segment."""
    inner, ids = segmentation.GetSegmentation(), {}
    for number, name in enumerate(opened.segments, start=1):
        # Slicer cannot write an empty image into a segment, so an empty one is added first.
        ids[name] = inner.AddEmptySegment(inner.GenerateUniqueSegmentID(name), name, label_color(number))
    filled = {name: cropped for name, cropped in opened.segments.items() if cropped.mask.any()}
    segments.write_masks(segmentation, volume, volumes.read(volume), filled, {})
    known = {fold(each.name): each for each in structures.of_volume(volume)}
    for name in opened.segments:
        structure = known.get(fold(name)) or structures.add(volume, name)
        if name in filled:
            masks.set_start(structure, segmentation, ids[name])
    segmentation.SetAttribute(_COHORT, opened.cohort)
    segmentation.SetAttribute(_SCAN, opened.scan)


def remove(segmentation: slicer.vtkMRMLSegmentationNode, keep_volume: slicer.vtkMRMLScalarVolumeNode | None = None) -> None:
    """Remove a scan of a cohort from the scene, with its structures; a volume that the cohort did not load stays."""
    volume = volume_of(segmentation)
    slicer.mrmlScene.RemoveNode(segmentation)
    if volume is None or volume is keep_volume or not volume.GetAttribute(_OWN):
        return
    for structure in structures.of_volume(volume):
        boxes.remove(structure)
        structures.remove(structure)
    slicer.mrmlScene.RemoveNode(volume)


def read(segmentation: slicer.vtkMRMLSegmentationNode, labels: Mapping[int, str]) -> Annotation:
    """Read what a person made of the scan that is open.

    Args:
        segmentation: of the scan.
        labels: names of the cohort's structures, by label.

    Raises:
        CohortError: the volume was removed, or no segment is named as a structure.
        VolumeError: segments cannot be read.
    """
    volume = volume_of(segmentation)
    if volume is None:
        raise CohortError(_("The volume of this scan was removed from the scene. Open the scan again from the table."))
    label_by_segment = masks.named(segmentation, labels)
    if not label_by_segment:
        raise CohortError(
            _("No segment has the name of a structure of the cohort ({names}). Rename the segments.").format(
                names=", ".join(labels.values())
            )
        )
    found = masks.read(volume, [], [(segmentation, label_by_segment)])
    clicked = structures.of_volume(volume)
    points, point_labels, names = structures.points_in(volume, clicked)
    prompts = Prompts(points, point_labels, names, boxes.boxes_of(clicked, volume))
    present = tuple(name for label, name in labels.items() if label in label_by_segment.values())
    return Annotation(scan_of(segmentation), found, present, prompts, volumes.read(volume))


def key_of(segmentation: slicer.vtkMRMLSegmentationNode, labels: Mapping[int, str]) -> tuple:
    """A value that changes when the segments of a scan change; () when they cannot be read."""
    volume = volume_of(segmentation)
    if volume is None:
        return ()
    return masks.key_of(volume, [(segmentation, masks.named(segmentation, labels))])


def voxels_key(segmentation: slicer.vtkMRMLSegmentationNode | None) -> tuple | None:
    """A value that changes when any segment changes; None when there is no segmentation that can be read."""
    if segmentation is None:
        return None
    inner = segmentation.GetSegmentation()
    names = dict(enumerate((inner.GetSegment(each).GetName() for each in segments.ids(segmentation)), start=1))
    try:
        return key_of(segmentation, names)
    except VolumeError:  # accepting it says what is wrong
        return None
