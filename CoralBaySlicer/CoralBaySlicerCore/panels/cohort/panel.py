"""Step 6: the same structures in many scans, one after the other, while a probe learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.cohort.status import State
from CoralBayLib.core.errors import Cancelled
from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.panels.tables.cohort_table import CohortTable
from CoralBaySlicerCore.panels.tables.report_table import ReportTable
from CoralBaySlicerCore.scene import structures
from CoralBaySlicerCore.work.cohort import nodes, tasks
from CoralBaySlicerCore.work.cohort.nodes import Annotation
from CoralBaySlicerCore.work.cohort.tasks import Contents, Selected
from CoralBaySlicerCore.work.library import tasks as scan_library
from CoralBaySlicerCore.work.remedies import describe_error
from CoralBaySlicerCore.work.worker import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from CoralBayLib.imaging.discovery import Skipped


class CohortPanel(Panel):
    """Goes through the scans of a cohort: next, correct, accept."""

    name = "cohort"
    ui_file = "CohortPanel.ui"

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self.contents: Contents | None = None
        self._read: str | None = None
        self._keys: dict[str, tuple] = {}
        self.table = CohortTable(ui.cohortTable, self.open_scan)
        self._report = ReportTable(ui.cohortReport)
        ui.annotatorEdit.text = tasks.annotator()
        actions: dict[qt.QPushButton, Callable[[], None]] = {
            ui.openCohortButton: self.open_cohort,
            ui.newCohortButton: self.new_cohort,
            ui.addSceneButton: self.add_scene,
            ui.addCohortFolderButton: self.add_folder,
            ui.addCohortDatabaseButton: self.add_database,
            ui.addCohortLibraryButton: self.add_library,
            ui.relocateButton: self.relocate,
            ui.nextScanButton: self.next_scan,
            ui.keepButton: lambda: self.write(accept=False),
            ui.acceptButton: lambda: self.write(accept=True),
            ui.cardButton: self.make_card,
        }
        for button, action in actions.items():
            button.connect("clicked(bool)", lambda *_args, each=action: each())
        ui.structuresEdit.connect("textChanged(QString)", lambda *_: self.refresh())
        ui.annotatorEdit.connect("editingFinished()", lambda: tasks.set_annotator(str(ui.annotatorEdit.text).strip()))

    def refresh(self) -> None:
        """Show the current state."""
        if self._read != tasks.folder():
            self._reload()
        ui, contents = self.ui, self.contents
        opened = nodes.scan_of(self._segmentation)
        has_cohort = contents is not None
        ui.newCohortButton.enabled = bool(str(ui.structuresEdit.text).strip())
        ui.cohortContents.enabled = has_cohort
        ui.keepButton.enabled = ui.acceptButton.enabled = bool(opened)
        ui.nextScanButton.enabled = has_cohort and bool(contents and contents.scans)
        ui.cardButton.enabled = has_cohort
        ui.acceptButton.text = _("Accept {scan}").format(scan=opened) if opened else _("Accept")
        if contents is None:
            return
        accepted = sum(scan.state is State.ACCEPTED for scan in contents.scans)
        ui.cohortLabel.text = _("{name}: {structures}. Accepted: {accepted} of {count} scans.").format(
            name=contents.name, structures=", ".join(contents.labels.values()), accepted=accepted, count=len(contents.scans)
        )
        ui.cohortLabel.setToolTip(_("Folder of the cohort: {folder}").format(folder=contents.folder))
        self.table.fill(contents.scans, opened)
        ui.relocateButton.visible = any(not scan.path for scan in contents.scans)

    def forget(self) -> None:
        """Drop what belongs to the scene; the cohort stays open."""
        super().forget()
        self._keys = {}

    # -- what the user does

    def open_cohort(self) -> None:
        """Open the folder of a cohort."""
        folder = str(qt.QFileDialog.getExistingDirectory(self.root, _("Folder of the cohort")) or "")
        if folder:
            self.run(_("The cohort could not be opened."), lambda: tasks.contentsTask(self.logic, folder), self._show)

    def new_cohort(self) -> None:
        """Make a cohort for the structures that were typed."""
        names = [name.strip() for name in str(self.ui.structuresEdit.text).split(",") if name.strip()]
        folder = str(qt.QFileDialog.getExistingDirectory(self.root, _("New or empty folder for the cohort")) or "")
        if folder:
            failure = _("The cohort could not be created.")
            self.run(failure, lambda: tasks.createTask(self.logic, folder, names), self._show)

    def add_scene(self) -> None:
        """Add the volumes of the scene."""
        self._add(tasks.scene_scans)

    def add_folder(self) -> None:
        """Add the scans of a folder and its subfolders."""
        folder = str(qt.QFileDialog.getExistingDirectory(self.root, _("Folder with scans")) or "")
        if folder:
            self._add(lambda: lambda *_args: [folder])

    def add_database(self) -> None:
        """Add the CT series of Slicer's DICOM database."""
        self._add(lambda: tasks.database_scans(self.logic))

    def add_library(self) -> None:
        """Add the scans of the library of step 3."""
        self._add(lambda: tasks.library_scans(scan_library.folder()))

    def relocate(self) -> None:
        """Find scans that were moved."""
        folder = str(qt.QFileDialog.getExistingDirectory(self.root, _("Folder in which the scans are now")) or "")
        if not folder:
            return

        def done(result: tuple[list[str], list[str]]) -> None:
            found, missing = result
            self._report.fill([(name, _("Not found in this folder.")) for name in missing])
            slicer.util.infoDisplay(
                _("Found: {found}. Still missing: {missing}.").format(found=len(found), missing=len(missing))
            )
            self._reload()

        failure = _("The search for the moved scans failed.")
        self.run(failure, lambda: tasks.relocateTask(self.logic, tasks.folder(), folder), done)

    def next_scan(self) -> None:
        """Open the scan from which the probe learns most, with a suggestion."""
        opened = nodes.scan_of(self._segmentation)
        self._open("", (opened,) if opened and not self._is_accepted(opened) else ())

    def open_scan(self, scan: str) -> None:
        """Open a scan of the table."""
        self._open(scan, ())

    def write(self, accept: bool) -> None:
        """Accept the segmentation of the open scan, or keep it for later."""
        annotation = self.attempt(_("The segmentation could not be read."), self._annotation)
        if annotation is None or (accept and not self._confirm_preview(annotation)):
            return
        assert self._segmentation is not None
        folder, by, node_id = tasks.folder(), tasks.annotator(), self._segmentation.GetID()

        def done(_file: Path) -> None:
            # As they were written: the user may have painted on since.
            self._keys[node_id] = annotation.masks.key if annotation.masks is not None else ()
            self._reload()
            if accept:
                self._prepare(folder)

        failure = _("The segmentation could not be written. The cohort was not changed.")
        self.run(failure, lambda: tasks.writeTask(self.logic, folder, annotation, by, accept), done)

    def make_card(self) -> None:
        """Write the model card."""

        def done(file: Path) -> None:
            slicer.util.infoDisplay(_("The model card was written: {file}").format(file=file))

        self.run(_("The model card could not be written."), lambda: tasks.cardTask(self.logic, tasks.folder()), done)

    # -- inner workings

    @property
    def _segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """Of the scan that is open."""
        return nodes.current(self.contents.folder) if self.contents is not None else None

    def _is_accepted(self, scan: str) -> bool:
        found = self.contents.scans if self.contents is not None else ()
        return any(each.name == scan and each.state is State.ACCEPTED for each in found)

    def _open(self, scan: str, skip: tuple[str, ...]) -> None:
        segmentation, keep = self._segmentation, None
        if segmentation is not None and self._has_changed(segmentation):
            question = _(
                "The segmentation of {scan} was changed since it was opened or accepted. It is kept for later, without being "
                "accepted, and another scan is opened. Continue?"
            ).format(scan=nodes.scan_of(segmentation))
            if self._is_accepted(nodes.scan_of(segmentation)):
                question = _(
                    "The segmentation of {scan} was changed after it was accepted. The changes are lost unless you accept it "
                    "again. Open another scan without them?"
                ).format(scan=nodes.scan_of(segmentation))
            if not slicer.util.confirmOkCancelDisplay(question):
                return
            if not self._is_accepted(nodes.scan_of(segmentation)):
                keep = self.attempt(_("The segmentation could not be read."), self._annotation)
                if keep is None:
                    return
        folder, by = tasks.folder(), tasks.annotator()

        def done(result: tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode] | None) -> None:
            self._reload()
            if result is None:
                slicer.util.infoDisplay(_("There is no other scan left to annotate."))
                return
            self._note_key()
            self.when_visible(lambda: self._present(*result))

        failure = _("The scan could not be opened. The scene was not changed.")
        self.run(failure, lambda: tasks.openTask(self.logic, folder, scan, skip, keep, by), done, allow_fallback=True)

    def _present(self, volume: slicer.vtkMRMLScalarVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        """Show an opened scan in the views and choose it in the other steps."""
        parameters = self.parameters
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.volume, parameters.output = volume, segmentation
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        failure = _("The features of the scan could not be computed.")
        if self.logic.features.cached(volume) is None:
            self.run(failure, lambda: self.logic.embedTask(volume), allow_fallback=True)

    def _annotation(self) -> Annotation:
        segmentation, contents = self._segmentation, self.contents
        assert segmentation is not None
        assert contents is not None
        return nodes.read(segmentation, contents.labels)

    def _confirm_preview(self, annotation: Annotation) -> bool:
        """Ask, if there are clicks that no Apply has written since the scan was opened."""
        segmentation = self._segmentation
        if segmentation is None or not len(annotation.prompts) or self._has_changed(segmentation):
            return True
        volume = nodes.volume_of(segmentation)
        if volume is None or not any(len(each.world_points()) for each in structures.of_volume(volume)):
            return True
        return bool(
            slicer.util.confirmOkCancelDisplay(
                _("There are clicks that were not applied: press 'Apply' in step 2 to use them. Accept without them?")
            )
        )

    def _has_changed(self, segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
        assert self.contents is not None
        known = self._keys.get(segmentation.GetID())
        return known is not None and known != nodes.key_of(segmentation, self.contents.labels)

    def _note_key(self) -> None:
        """Remember the voxels of the open scan as they are."""
        segmentation = self._segmentation
        if segmentation is not None and self.contents is not None:
            self._keys[segmentation.GetID()] = nodes.key_of(segmentation, self.contents.labels)

    def _prepare(self, folder: str) -> None:
        """Learn, and make the next suggestion, while the user may already go on."""

        def failed(error: Exception) -> bool:
            if not isinstance(error, Cancelled):
                self._report.fill([(_("Next scan"), describe_error(error))])
            self._reload()
            return True

        failure = _("The probe could not learn from the scan. The segmentation is accepted.")
        self.run(failure, lambda: tasks.prepareTask(self.logic, folder), lambda _scan: self._reload(), on_error=failed)

    def _add(self, select: Callable[[], Selected]) -> None:
        def start() -> Task:
            return tasks.addTask(self.logic, tasks.folder(), select())

        def done(result: tuple[list[str], list[Skipped]]) -> None:
            added, skipped = result
            self._report.fill([(each.path, each.reason) for each in skipped])
            slicer.util.infoDisplay(_("Added to the cohort: {count}.").format(count=len(added)))
            self._reload()

        self.run(_("The scans could not be added to the cohort."), start, done)

    def _show(self, contents: Contents) -> None:
        tasks.set_folder(contents.folder)
        self.contents, self._read = contents, contents.folder
        self._report.fill([(name, _("Writing was interrupted; this file is not used.")) for name in contents.unfinished])
        self.refresh()

    def _reload(self) -> None:
        """Read the cohort that was open last."""
        folder = self._read = tasks.folder()
        if not folder:
            self.contents = None
            return

        def done(contents: Contents) -> None:
            self.contents = contents
            self.refresh()

        def failed(error: Exception) -> None:
            if not isinstance(error, Cancelled):
                self.contents = None
                self.ui.cohortLabel.text = describe_error(error)
                self.refresh()

        task = tasks.contentsTask(self.logic, folder)
        task.on_done, task.on_failed = done, failed
