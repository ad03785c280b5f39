"""Section of step 2: a probe is saved, loaded, and applied to other volumes or to a folder."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.imaging.scan_folders import existing_segmentations
from CoralBaySlicerCore.interactive.controller import FewShot
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.work.batch import applyProbeToFolderTask
from CoralBaySlicerCore.work.remedies import describe_error

from .base import Panel, chosen_path

if TYPE_CHECKING:
    from CoralBayLib.fewshot.batch import FolderResult
    from CoralBayLib.fewshot.probe import Probe


class Transfer:
    """Use of the probe on other scans.

    Args:
        panel: of step 2.
        few_shot: the prompts of the scan.
    """

    def __init__(self, panel: Panel, few_shot: FewShot) -> None:
        self._panel, self._few_shot = panel, few_shot
        self._shown: list[tuple[str, str]] = []
        ui = panel.ui
        ui.folderReport.visible = False
        ui.saveProbeButton.connect("clicked(bool)", lambda *_: self.save())
        ui.loadProbeButton.connect("clicked(bool)", lambda *_: self.load())
        ui.applyToButton.connect("clicked(bool)", lambda *_: self.apply())
        ui.applyFolderButton.connect("clicked(bool)", lambda *_: self.apply_to_folder())

    def refresh(self) -> None:
        """List the other volumes of the scene."""
        ui, panel = self._panel.ui, self._panel
        shown = [(node.GetID(), node.GetName()) for node in volumes.other_scans(panel.volume)]
        if shown != self._shown:
            self._shown = shown
            ui.targetList.clear()
            for _id, name in shown:
                item = qt.QListWidgetItem(name)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
                item.setCheckState(qt.Qt.Unchecked)
                ui.targetList.addItem(item)
        has_probe = panel.logic.probe is not None
        ui.saveProbeButton.enabled = ui.applyFolderButton.enabled = has_probe
        ui.applyToButton.enabled = has_probe and bool(shown)

    def save(self) -> None:
        """Write the probe to a file."""
        path = chosen_path(
            qt.QFileDialog.getSaveFileName(self._panel.root, _("Save probe"), "probe.safetensors", "*.safetensors")
        )
        if path:
            self._panel.run(_("The probe could not be saved."), lambda: self._panel.logic.saveProbeTask(path), lambda _: None)

    def load(self) -> None:
        """Load a probe and show its preview of the scan."""
        path = chosen_path(qt.QFileDialog.getOpenFileName(self._panel.root, _("Load probe"), "", "*.safetensors"))
        if not path:
            return
        panel, few_shot = self._panel, self._few_shot

        def read(*_args: object) -> Probe:
            from CoralBayLib.fewshot.probe import Probe

            return Probe.load(path)

        def show(probe: Probe) -> None:
            if panel.volume is not None:
                few_shot.add_missing(probe.names_)
                bounds = panel.attempt(_("The segments at 'Do not touch' or 'Start from' cannot be used."), few_shot.masks)
                few_shot.show_probe(probe, few_shot.prompts(), bounds, few_shot.extents())
                panel.logic.overlays.request(Owner.PREVIEW)
            panel.refresh()

        def done(probe: Probe) -> None:
            panel.logic.probe = probe
            panel.when_visible(partial(show, probe))

        panel.run(_("The probe could not be loaded."), lambda: panel.logic.workTask(read, _("Loading the probe")), done)

    def apply(self) -> None:
        """Segment the checked volumes."""
        panel, items = self._panel, self._panel.ui.targetList
        ticked = [self._shown[row][0] for row in range(items.count) if items.item(row).checkState() == qt.Qt.Checked]
        targets = [slicer.mrmlScene.GetNodeByID(each) for each in ticked]
        threshold = panel.parameters.threshold / 100

        def done(made: list[slicer.vtkMRMLSegmentationNode]) -> None:
            slicer.util.infoDisplay(_("Scans segmented: {count}").format(count=len(made)))

        panel.run(
            _("The probe could not be applied. Nothing was changed."),
            lambda: panel.logic.applyProbeTask(panel.logic.probe, [node for node in targets if node], threshold),
            done,
        )

    def apply_to_folder(self) -> None:
        """Segment every scan of a folder; each segmentation is a file beside its scan."""
        panel, probe = self._panel, self._panel.logic.probe
        if probe is None:
            return
        folder = str(qt.QFileDialog.getExistingDirectory(panel.root, _("Folder with scans")) or "")
        if not folder:
            return

        failure = _("Not all scans of the folder could be segmented. The files that were written are complete.")
        existing = panel.attempt(failure, lambda: existing_segmentations(folder))
        if existing is None:
            return
        question = _("These segmentations already exist and will be replaced:")
        if existing and not slicer.util.confirmOkCancelDisplay("\n".join([question, *(path.name for path in existing)])):
            return

        def done(result: FolderResult) -> None:
            summary = _("Segmentations written to {folder}: {written}. Scans skipped: {failed}.").format(
                folder=folder, written=len(result.written), failed=len(result.failed)
            )
            reasons = [f"{path.name}: {describe_error(error)}" for path, error in result.failed.items()]
            panel.ui.folderReport.setPlainText("\n".join([summary, *reasons]))
            panel.ui.folderReport.visible = True
            if reasons:
                slicer.util.warningDisplay("\n\n".join([summary, _("The reasons are listed below the button.")]))
            else:
                slicer.util.infoDisplay(summary)

        threshold = panel.parameters.threshold / 100
        panel.run(
            failure,
            lambda: applyProbeToFolderTask(panel.logic, probe, folder, threshold, overwrite=True),
            done,
        )
