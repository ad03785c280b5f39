"""Section of step 2: prompts painted with the Segment Editor."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.names import fold
from CoralBaySlicerCore.interactive.controller import FewShot
from CoralBaySlicerCore.scene import place_mode, segments
from CoralBaySlicerCore.scene.overlays import Owner

from .base import Panel

_EFFECTS = ("Paint", "Draw", "Erase")
_EDITOR_HEIGHT = 340
"""Height of the visible part of the editor, in pixels."""


class Painting:
    """Creates a segmentation for painted prompts and edits it with Slicer's Segment Editor.

    Args:
        panel: of step 2.
        few_shot: the prompts of the scan.
    """

    def __init__(self, panel: Panel, few_shot: FewShot) -> None:
        self._panel, self._few_shot = panel, few_shot
        self._editor: slicer.qMRMLSegmentEditorWidget | None = None
        self._area: qt.QScrollArea | None = None
        panel.ui.paintButton.connect("clicked(bool)", lambda *_: self.paint())

    def refresh(self) -> None:
        """Show the chosen segmentation in the editor."""
        panel = self._panel
        panel.ui.paintButton.enabled = panel.volume is not None
        if self._editor is not None and self._area is not None and self._editor.mrmlSegmentEditorNode() is not None:
            self._area.visible = panel.parameters.painted is not None
            if self._editor.segmentationNode() is not panel.parameters.painted:
                self._editor.setSegmentationNode(panel.parameters.painted)
            if panel.parameters.painted is not None and self._editor.sourceVolumeNode() is not panel.volume:
                self._editor.setSourceVolumeNode(panel.volume)

    def paint(self) -> None:
        """Start painting. Each structure of the table gets a segment."""
        panel, few_shot, volume = self._panel, self._few_shot, self._panel.volume
        if volume is None:
            return
        place_mode.stop()
        panel.logic.overlays.request(Owner.PREVIEW)
        if panel.parameters.painted is None:
            name = _("{volume} painted prompts").format(volume=volume.GetName())
            panel.parameters.painted = segments.new(volume, name)
        painted = panel.parameters.painted
        if not few_shot.structures:
            few_shot.add_structure()
        inner = painted.GetSegmentation()
        present = {fold(inner.GetSegment(each).GetName()) for each in segments.ids(painted)}
        for structure in few_shot.structures:
            if fold(structure.name) not in present:
                inner.AddEmptySegment("", structure.name, structure.color)
        editor = self._open_editor()
        panel.refresh()
        active = few_shot.active_structure
        editor.setCurrentSegmentID(inner.GetSegmentIdBySegmentName(active.name) if active else "")
        editor.setActiveEffectByName("Paint")

    def stop(self) -> None:
        """Put the brush down."""
        if self._editor is not None and self._editor.mrmlSegmentEditorNode() is not None:
            self._editor.setActiveEffectByName("")

    def forget(self) -> None:
        """Let go of the scene before it closes, as Slicer's own Segment Editor does."""
        self.stop()
        if self._editor is not None:
            self._editor.setSegmentationNode(None)
            self._editor.setSourceVolumeNode(None)
            self._editor.removeViewObservations()
            self._editor.setMRMLSegmentEditorNode(None)
        if self._area is not None:
            self._area.visible = False

    def close(self) -> None:
        """Disconnect from the views and the scene."""
        self.forget()

    def _open_editor(self) -> slicer.qMRMLSegmentEditorWidget:
        editor = self._editor
        if editor is None:
            editor = self._editor = slicer.qMRMLSegmentEditorWidget()
            editor.setMRMLScene(slicer.mrmlScene)
            editor.segmentationNodeSelectorVisible = False
            editor.sourceVolumeNodeSelectorVisible = False
            editor.switchToSegmentationsButtonVisible = False
            editor.show3DButtonVisible = False
            editor.maskingSectionVisible = False
            editor.unorderedEffectsVisible = False
            editor.setEffectNameOrder(_EFFECTS)
            editor.maximumNumberOfUndoStates = 10
            # Slicer's editor needs more width than the panel has: it scrolls, so that the panel keeps its width.
            self._area = qt.QScrollArea()
            self._area.setWidgetResizable(True)
            self._area.setFrameShape(qt.QFrame.NoFrame)
            self._area.setMinimumHeight(_EDITOR_HEIGHT)
            self._area.setWidget(editor)
            self._panel.ui.editorFrame.layout().addWidget(self._area)
        tag, kind = "CoralBaySlicer", "vtkMRMLSegmentEditorNode"
        node = slicer.mrmlScene.GetSingletonNode(tag, kind)
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass(kind)
            node.UnRegister(None)
            node.SetSingletonTag(tag)
            node = slicer.mrmlScene.AddNode(node)
        if editor.mrmlSegmentEditorNode() is not node:
            editor.setMRMLSegmentEditorNode(node)
        editor.setupViewObservations()
        return editor
