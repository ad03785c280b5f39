"""The self-test's walk through step 5 (scan probes) and step 6 (cohort)."""

from __future__ import annotations

import slicer

from CoralBaySlicerCore.work.cohort import tasks

from .phantom import make_phantom
from .user import User

_SCANS = 10


class ScanProbeWalk:
    """Trains a scan probe on phantoms with and without a bright ball, and makes a cohort.

    Args:
        walk: works with the panel.
    """

    def __init__(self, walk: User) -> None:
        self._walk = walk

    def run(self) -> None:
        """Walk through both steps."""
        self._train()
        self._make_cohort()

    def _train(self) -> None:
        walk, panel = self._walk, self._walk.panel
        ui, test = panel.scans.ui, walk.test
        panel.scans.header.collapsed = False
        walk.parameters.scansTable = slicer.util.loadTable(str(self._write_scans()))
        walk.parameters.targetColumn = "finding"
        walk.settle()
        test.assertEqual(ui.positiveSelector.currentText, "ball", "The positive class cannot be chosen.")
        walk.press(ui.fitButton)
        walk.settle()
        test.assertIn("AUROC", ui.metricsLabel.text)
        parts = slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")
        test.assertTrue(parts)
        tables = [part.GetTableNode() for part in parts]
        test.assertTrue(all(node.GetHideFromEditors() for node in (*parts, *tables)), "Parts of plots are listed.")
        layout = slicer.app.layoutManager()
        before = layout.layout
        walk.press(ui.showScansButton)
        walk.settle()
        layout.setLayout(before)
        panel.scans.header.collapsed = True

    def _write_scans(self) -> object:
        folder, rows = self._walk.folder, ["scan,patient,finding"]
        for number in range(_SCANS):
            node, _center = make_phantom(seed=number)
            if number % 2 == 0:
                array = slicer.util.arrayFromVolume(node)
                array[array > 150] = 40
            slicer.util.saveNode(node, str(folder / f"scan{number}.nrrd"))
            slicer.mrmlScene.RemoveNode(node)
            rows.append(f"scan{number}.nrrd,P{number},{'ball' if number % 2 else 'none'}")
        path = folder / "study.csv"
        path.write_text("\n".join(rows), encoding="utf-8")
        return path

    def _make_cohort(self) -> None:
        walk, panel = self._walk, self._walk.panel.cohort
        test, used = walk.test, tasks.folder()
        panel.header.collapsed = False
        walk.settle()
        test.assertFalse(panel.ui.newCohortButton.enabled)
        panel.ui.structuresEdit.text = "Ball"
        walk.settle()
        test.assertTrue(panel.ui.newCohortButton.enabled)
        folder = walk.folder / "cohort"
        folder.mkdir()
        try:
            # The button asks for the folder in a dialog of the system.
            panel.run("", lambda: tasks.createTask(panel.logic, str(folder), ["Ball"]), panel._show)
            walk.settle()
            test.assertIn("Ball", panel.ui.cohortLabel.text)
        finally:
            panel.ui.structuresEdit.text = ""
            tasks.set_folder(used)
        walk.settle()
        panel.header.collapsed = True
