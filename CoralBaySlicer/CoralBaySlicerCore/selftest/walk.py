"""A walk through every step of the panel, with the faults that were once seen in Slicer looked for on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from CoralBaySlicerCore.panels.module_panel import ModulePanel
from CoralBaySlicerCore.scene import query_markups, segments, volumes
from CoralBaySlicerCore.scene.overlays import PROBABILITY

from .phantom import make_phantom
from .scan_walk import ScanProbeWalk
from .user import User
from .watch import LogWatch, error_dialogs, panel_width

_LINES = 40
"""Lines of text that a small screen shows of the panel."""


class Walk(User):
    """Works with all steps of the panel.

    Args:
        test: whose assertions are used.
        panel: of the module, which is shown.
        folder: for files; empty.
        encoder: name of a registered encoder that is quick.
    """

    def __init__(self, test: ScriptedLoadableModuleTest, panel: ModulePanel, folder: Path, encoder: str) -> None:
        super().__init__(test, panel, folder)
        self._encoder = encoder
        self.volume: Any = None
        self.center = np.zeros(3)

    def run(self) -> None:
        """Walk through all steps; each must leave the panel as wide as it was, and Slicer's log without a fault."""
        steps: tuple[Callable[[], None], ...] = (
            self.compute,
            self.click,
            self.end_place_mode,
            self.paint,
            self.apply,
            self.search,
            self.show_feature_map,
            ScanProbeWalk(self).run,
            self.open_other_steps,
            self.add_views,
            self.save,
            self.close_scene,
        )
        width, log = panel_width(), LogWatch()
        with error_dialogs() as errors:
            for step in steps:
                name = step.__name__ if step.__name__ != "run" else "scan_probe"
                self.test.delayDisplay(_("Self-test: {step}").format(step=name.replace("_", " ")))
                step()
                self.settle()
                self.test.assertEqual(errors, [], f"{name}: an error was shown.")
                self.test.assertLessEqual(panel_width(), width, f"{name}: the panel has become wider.")
                self.test.assertEqual(log.faults(), [], f"{name}: Slicer's log names a fault.")

    # -- the steps

    def compute(self) -> None:
        """Step 1: features; progress where the user looks; collapsed when done."""
        panel, ui, test = self.panel, self.panel.scan.ui, self.test
        self.parameters.encoder = self._encoder
        self.volume, self.center = make_phantom()
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)
        ui.volumeSelector.setCurrentNode(self.volume)
        self.settle()
        test.assertFalse(panel.scan.header.collapsed)
        self.press(ui.computeButton)
        if panel.activity.task is not None:
            test.assertTrue(ui.progressSlot.isAncestorOf(panel.ui.activityFrame), "Progress is not shown in step 1.")
        self.settle()
        test.assertIsNotNone(panel.logic.features.cached(self.volume), "The features were not computed.")
        test.assertTrue(panel.scan.header.collapsed, "Step 1 is not collapsed after its work is done.")

    def click(self) -> None:
        """Step 2: points, preview, legend, and what must be in sight."""
        panel, ui, test = self.panel, self.panel.segment.ui, self.test
        self.press(ui.addStructureButton)
        structure, background = panel.segment.few_shot.structures
        volumes.jump_to(self.center)
        for offset in ([0, 0, 0], [4, 3, 0]):
            structure.node.AddControlPointWorld(*(self.center + offset))
        for offset in ([-16, 0, 0], [0, 22, 0]):
            background.node.AddControlPointWorld(*(self.center + offset))
        self.settle()
        test.assertIsNotNone(panel.segment.few_shot.preview, "There is no preview.")
        test.assertEqual(panel.logic.overlays.shown, PROBABILITY)
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(panel.logic.overlays.node(PROBABILITY))
        red = slicer.app.layoutManager().sliceWidget("Red")
        if red.visible:
            test.assertEqual(tuple(legend.GetViewNodeIDs()), (red.mrmlSliceNode().GetID(),), "The legend is not in Red.")
        metrics = ui.structureTable.fontMetrics()
        test.assertGreaterEqual(
            ui.structureTable.columnWidth(0), metrics.horizontalAdvance(structure.name), "Names of structures are cut."
        )
        test.assertLessEqual(self.bottom(ui.applyButton), _LINES * max(metrics.height(), 15), "Apply is out of sight.")
        for each in (structure, background):
            test.assertGreater(each.node.GetDisplayNode().GetGlyphScale(), 3, "Points are small.")

    def end_place_mode(self) -> None:
        """Esc and the toolbar's arrow end the placing of points, and the button shows it."""
        panel, ui = self.panel.segment, self.panel.segment.ui
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        for end in (panel.shortcuts()["Esc"], interaction.SwitchToViewTransformMode):
            panel.click_on(1)
            self.settle()
            self.test.assertTrue(ui.placeButton.checked)
            end()
            slicer.app.processEvents()
            self.test.assertFalse(ui.placeButton.checked, "Place points stays pressed.")

    def paint(self) -> None:
        """Painted prompts; Esc puts the brush down."""
        panel, ui, test = self.panel, self.panel.segment.ui, self.test
        ui.paintBox.collapsed = False
        self.press(ui.paintButton)
        self.settle()
        node = slicer.mrmlScene.GetSingletonNode("CoralBaySlicer", "vtkMRMLSegmentEditorNode")
        test.assertEqual(node.GetActiveEffectName(), "Paint")
        painted = self.parameters.painted
        stroke = np.zeros(slicer.util.arrayFromVolume(self.volume).shape, np.uint8)
        i, j, k = np.round(self._to_ijk(self.center)).astype(int)
        stroke[k, j - 2 : j + 3, i - 2 : i + 3] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(stroke, painted, segments.ids(painted)[0], self.volume)
        self.settle()
        test.assertGreater((panel.segment.few_shot.prompts().labels == 1).sum(), 2, "The stroke is no prompt.")
        panel.segment.shortcuts()["Esc"]()
        test.assertFalse(node.GetActiveEffectName(), "Esc does not put the brush down.")
        ui.paintBox.collapsed = True

    def apply(self) -> None:
        """Apply, surfaces, undo."""
        ui, test = self.panel.segment.ui, self.test
        ui.show3DCheck.checked = True
        self.press(ui.applyButton)
        self.settle()
        output = self.parameters.output
        test.assertEqual(output.GetSegmentation().GetNumberOfSegments(), 1)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(output, segments.ids(output)[0], self.volume)
        i, j, k = np.round(self._to_ijk(self.center)).astype(int)
        test.assertTrue(mask[k, j, i], "The segment is not where the points are.")
        self.press(ui.undoApplyButton)
        self.settle()
        test.assertEqual(output.GetSegmentation().GetNumberOfSegments(), 0)
        self.press(ui.applyButton)

    def search(self) -> None:
        """Step 3: similar regions, and back to the preview."""
        panel, test = self.panel, self.test
        panel.similar.header.collapsed = False
        query_markups.make(self.volume).AddControlPointWorld(*self.center)
        self.press(panel.similar.ui.searchButton)
        self.settle()
        test.assertGreater(len(panel.similar.regions), 0)
        test.assertEqual(panel.logic.overlays.shown, "similarity")
        panel.similar.ui.showMapCheck.checked = False
        self.settle()
        test.assertEqual(panel.logic.overlays.shown, PROBABILITY)
        panel.similar.header.collapsed = True

    def show_feature_map(self) -> None:
        """Step 4: colors and clusters."""
        panel, test = self.panel, self.test
        panel.feature_maps.header.collapsed = False
        self.press(panel.feature_maps.ui.colorsButton)
        self.settle()
        test.assertEqual(panel.logic.overlays.shown, "features")
        self.press(panel.feature_maps.ui.clustersButton)
        self.settle()
        self.press(panel.feature_maps.ui.hideColorsButton)
        self.settle()
        test.assertEqual(panel.logic.overlays.shown, PROBABILITY)
        panel.feature_maps.header.collapsed = True

    def open_other_steps(self) -> None:
        """Every step and section is opened and closed again: none may widen the panel."""
        for part in self.panel.panels:
            for name, widget in vars(part.ui).items():
                if widget.__class__.__name__ == "ctkCollapsibleButton" and name.endswith(("Button", "Box")):
                    before = widget.collapsed
                    widget.collapsed = False
                    slicer.app.processEvents()
                    widget.collapsed = before

    def add_views(self) -> None:
        """A view that another layout adds shows the scan."""
        layout, nodes = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
        before = layout.layout
        layout.setLayout(nodes.SlicerLayoutTwoOverTwoView)
        self.settle()
        for name in layout.sliceViewNames():
            widget = layout.sliceWidget(name)
            if widget.visible:
                shown = widget.mrmlSliceCompositeNode().GetBackgroundVolumeID()
                self.test.assertEqual(shown, self.volume.GetID(), f"The view {name} does not show the scan.")
        layout.setLayout(before)

    def save(self) -> None:
        """The scene is saved with all of this in it."""
        self.test.assertTrue(slicer.util.saveScene(str(self.folder / "self-test.mrb")))

    def close_scene(self) -> None:
        """The scene closes while prompts are painted and an overlay is shown."""
        self.panel.segment.ui.paintBox.collapsed = False
        self.press(self.panel.segment.ui.paintButton)
        slicer.mrmlScene.Clear()
        self.settle()
        self.test.assertEqual(self.panel.segment.few_shot.structures, [])
        self.test.assertIsNotNone(self.panel.parameters)

    def _to_ijk(self, ras: np.ndarray) -> np.ndarray:
        matrix = volumes.ijk_to_ras(self.volume)
        return np.linalg.solve(matrix[:3, :3], ras - matrix[:3, 3])
