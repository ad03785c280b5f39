"""The nodes of the scene that hold the prompts of a volume: reads them, and observes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import slicer
import vtk
from slicer.util import VTKObservationMixin

from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import boxes, masks, segments, structures, volumes
from CoralBaySlicerCore.scene.clicks import extents
from CoralBaySlicerCore.scene.masks import Masks
from CoralBaySlicerCore.scene.structures import Structure


class PromptNodes(VTKObservationMixin):
    """Reads and observes the prompts of one volume, and the segmentations that bound them.

    Attributes:
        volume: the scan, or None.
        painted: segmentation node whose segments are prompts, or None.
        locked: segmentation node whose visible segments must not be touched, or None.
        neighbors: segmentation node whose segments must not be touched, but for those of the structures, or None.
    """

    volume: slicer.vtkMRMLScalarVolumeNode | None

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        self.painted: slicer.vtkMRMLSegmentationNode | None = None
        self.locked: slicer.vtkMRMLSegmentationNode | None = None
        self.neighbors: slicer.vtkMRMLSegmentationNode | None = None
        self._masks: Masks | None = None
        self._fingerprints: dict[str, tuple] = {}

    @property
    def structures(self) -> list[Structure]:
        """The structures of the volume, the background last."""
        return structures.of_volume(self.volume)

    def extents(self) -> dict[int, int]:
        """By label, which answers to first clicks are wanted; see the library's `Segmenter.fit`."""
        found = {each.label: extents.extent_of(each.node) for each in self.structures}
        return {label: extent for label, extent in found.items() if label and extent}

    def prompts(self) -> Prompts:
        """All prompts, clicked, painted and drawn as boxes, in the volume's own space; clicks in their order come first."""
        self._note_points()
        points, labels, names = structures.points_in(self.volume, self.structures)
        painted, painted_labels = segments.prompts(self.painted, names, self.volume)
        labels = np.concatenate([labels, painted_labels])
        return Prompts(np.concatenate([points, painted]), labels, names, boxes.boxes_of(self.structures, self.volume))

    def masks(self) -> Masks | None:
        """What must not be touched and what structures start from; None if there is nothing.

        Raises:
            VolumeError: a segmentation cannot be used.
        """
        known = self.structures
        names = [each.name for each in known]
        starts = [(*start, each.label) for each in known if each.label and (start := masks.start_of(each)) is not None]
        locked = []
        for node, visible_only in ((self.locked, True), (self.neighbors, False)):
            if node is not None:
                # What a structure starts from is that structure, whatever its name.
                own = {segment_id for segmentation, segment_id, _label in starts if segmentation is node}
                found = masks.lockable(node, names, visible_only)
                locked.append((node, {each: label for each, label in found.items() if each not in own}))
        start_segments = [(node, {segment_id: label}) for node, segment_id, label in starts]
        self._masks = masks.read(self.volume, locked, start_segments, self._masks)
        return self._masks

    @property
    def _is_moved(self) -> bool:
        """Whether the volume was put under another transform than its prompts."""
        if self.volume is None:
            return False
        parent = self.volume.GetTransformNodeID()
        return any(node.GetTransformNodeID() != parent for node in self._nodes())

    def _follow_transform(self) -> bool:
        """Put the prompts under the transform of the volume, where they are in the scan; returns whether it was hardened."""
        volume = self.volume
        if volume is None:
            self._fingerprints.clear()
            return False
        now = volumes.fingerprint(volume)
        # Hardening changes the voxels or the geometry together with the parent.
        hardened = self._is_moved and self._fingerprints.get(volume.GetID(), now) != now
        self._fingerprints[volume.GetID()] = now
        for node in self._nodes():
            if hardened:
                node.HardenTransform()
            volumes.copy_transform(node, volume)
        return hardened

    def _nodes(self) -> list[slicer.vtkMRMLMarkupsNode]:
        """The nodes of the points and of the boxes."""
        known = self.structures
        found = [boxes.node_of(each) for each in known]
        return [*(each.node for each in known), *(node for node in found if node is not None)]

    def _observe(
        self,
        changed: Callable[..., None],
        points_changed: Callable[..., None],
        drag_started: Callable[..., None],
        drag_ended: Callable[..., None],
    ) -> None:
        """Observe the current nodes, and no longer those observed before.

        Args:
            changed: called when a prompt, or what bounds it, may have changed.
            points_changed: called after points were placed or removed.
            drag_started: called when the user begins to drag a point.
            drag_ended: called when the user has dropped it.
        """
        for follower in (changed, points_changed, drag_started, drag_ended):
            # Not those of others, such as the panel's observer of the mouse mode.
            self.removeObservers(follower)
        for structure in self.structures:
            node = structure.node
            self.addObserver(node, node.PointModifiedEvent, changed)
            for event in (node.PointPositionDefinedEvent, node.PointPositionUndefinedEvent, node.PointRemovedEvent):
                self.addObserver(node, event, points_changed)
            self.addObserver(node, node.PointStartInteractionEvent, drag_started)
            self.addObserver(node, node.PointEndInteractionEvent, drag_ended)
            box = boxes.node_of(structure)
            if box is not None:
                self.addObserver(box, vtk.vtkCommand.ModifiedEvent, changed)
        starts = [start[0] for each in self.structures if (start := masks.start_of(each)) is not None]
        for segmentation in dict.fromkeys(filter(None, (self.painted, self.locked, self.neighbors, *starts))):
            inner = segmentation.GetSegmentation()
            for event in (
                inner.SourceRepresentationModified,
                inner.SegmentModified,
                inner.SegmentAdded,
                inner.SegmentRemoved,
            ):
                self.addObserver(inner, event, changed)
            self.addObserver(segmentation, segmentation.TransformModifiedEvent, changed)
        display = self.locked.GetDisplayNode() if self.locked is not None else None
        if display is not None:
            # Hidden segments may be touched.
            self.addObserver(display, vtk.vtkCommand.ModifiedEvent, changed)

    def _note_points(self) -> None:
        """Take note of new points and of first clicks that were removed."""
        known = self.structures
        structures.number_points(known)
        extents.forget_removed(each.node for each in known)

    def _adopt_painted(self) -> bool:
        """Add a structure for each painted segment that has a new name; returns whether there was one."""
        new = segments.new_names(self.painted, [each.name for each in self.structures])
        for name in new:
            structures.add(self.volume, name)
        return bool(new)
