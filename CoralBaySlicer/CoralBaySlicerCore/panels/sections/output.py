"""Section of step 2: the structures are written as segments, which are undone and shown in 3D."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.fewshot.options import Options
from CoralBaySlicerCore.interactive.controller import FewShot
from CoralBaySlicerCore.panels.base import Panel, chosen_path
from CoralBaySlicerCore.scene import segments, surfaces
from CoralBaySlicerCore.work.dicom.export import exportTask

if TYPE_CHECKING:
    from CoralBaySlicerCore.work.worker import Task


class Output:
    """Writes the structures into the segmentation that is chosen as output.

    Args:
        panel: of step 2.
        few_shot: the prompts of the scan and their preview.
    """

    def __init__(self, panel: Panel, few_shot: FewShot) -> None:
        self._panel, self._few_shot = panel, few_shot
        self._last: slicer.vtkMRMLSegmentationNode | None = None
        ui = panel.ui
        ui.applyButton.connect("clicked(bool)", lambda *_: self.apply())
        ui.undoApplyButton.connect("clicked(bool)", lambda *_: self.undo())
        ui.exportDicomButton.connect("clicked(bool)", lambda *_: self.export_dicom())
        ui.show3DCheck.connect("clicked(bool)", lambda *_: self.show_in_3d())

    def refresh(self) -> None:
        """Show what can be written and undone."""
        panel = self._panel
        self._last = panel.parameters.output
        panel.ui.applyButton.enabled = self._few_shot.preview is not None
        panel.ui.undoApplyButton.enabled = panel.logic.undo.can_restore(self._last)
        panel.ui.exportDicomButton.enabled = bool(segments.ids(self._last)) and panel.volume is not None

    def release(self) -> None:
        """Forget the output that was used with another scan: its segments of the same names would be replaced."""
        output = self._panel.parameters.output
        if output is not None and output is self._last and segments.is_of_another(output, self._panel.volume):
            self._panel.parameters.output = None

    def apply(self) -> None:
        """Write the structures as segments on the scan's own grid."""
        panel, few_shot, parameters = self._panel, self._few_shot, self._panel.parameters
        failure = _("The segments could not be created. Nothing was changed.")
        asked = panel.attempt(failure, lambda: (few_shot.prompts(), few_shot.masks(), few_shot.extents()))
        if asked is None:
            return
        prompts, masks, extents = asked
        options = Options(parameters.threshold / 100, parameters.connected)
        # The segments are those of the preview.
        probe, segmenter = few_shot.given, few_shot.segmenter

        def start() -> Task:
            return panel.logic.segmentTask(
                few_shot.volume,
                prompts,
                parameters.output,
                options,
                probe,
                few_shot.colors(),
                segmenter,
                masks,
                extents,
            )

        had_surfaces = surfaces.has_surfaces(parameters.output)

        def done(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
            parameters.output = segmentation
            panel.refresh()
            if parameters.solid or had_surfaces:
                self._show_surfaces(segmentation, centre=not had_surfaces)

        panel.run(failure, start, done)

    def undo(self) -> None:
        """Restore the segments as they were before the last Apply."""
        panel = self._panel
        surfaces.remove(panel.parameters.output)
        panel.logic.undo.restore(panel.parameters.output)
        panel.refresh()
        self.show_in_3d()

    def export_dicom(self) -> None:
        """Write the segments of the output as a DICOM SEG file."""
        panel, volume, output = self._panel, self._panel.volume, self._panel.parameters.output
        if volume is None or output is None:
            return
        answer = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Export as DICOM"), "segmentation.dcm", _("DICOM files (*.dcm)")
        )
        path = chosen_path(answer)
        if not path:
            return
        path = path if path.lower().endswith(".dcm") else f"{path}.dcm"

        def done(written: Path) -> None:
            slicer.util.showStatusMessage(_("Written: {name}").format(name=written.name), 5000)

        panel.run(_("The segmentation could not be exported."), lambda: exportTask(panel.logic, volume, output, path), done)

    def show_in_3d(self) -> None:
        """Show the output segments in the 3D views, or remove them, as the check box says."""
        panel = self._panel
        output = panel.parameters.output if panel.is_shown else None
        surfaces.remove(output)
        if output is not None and panel.parameters.solid:
            self._show_surfaces(output, centre=True)

    def _show_surfaces(self, segmentation: slicer.vtkMRMLSegmentationNode, centre: bool) -> None:
        panel = self._panel

        def done(_segmentation: slicer.vtkMRMLSegmentationNode) -> None:
            # Only the first time: later the user may have rotated the view.
            if centre and panel.is_shown:
                slicer.util.resetThreeDViews()

        panel.run(_("The segments could not be shown in 3D."), lambda: panel.logic.surfacesTask(segmentation), done)
