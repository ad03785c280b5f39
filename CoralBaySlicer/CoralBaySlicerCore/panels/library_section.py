"""Section of step 3: the folder and content of the library, adding scans, and checking it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBaySlicerCore.setup import packages
from CoralBaySlicerCore.work.dicom import database as dicom_database
from CoralBaySlicerCore.work.library import scans as library_scans
from CoralBaySlicerCore.work.library import tasks as scan_library
from CoralBaySlicerCore.work.remedies import describe_error
from CoralBaySlicerCore.work.worker import Task

from .base import Panel
from .sections.scan_opener import ScanOpener
from .tables.report_table import ReportTable

if TYPE_CHECKING:
    from CoralBayLib.library.ingest import Outcome
    from CoralBayLib.library.outliers import Outlier
    from CoralBayLib.library.stats import Stats
    from CoralBayLib.library.verify import Issue


class LibrarySection:
    """The chosen library.

    Args:
        panel: of step 3.
        opener: opens scans that are listed.
    """

    def __init__(self, panel: Panel, opener: ScanOpener) -> None:
        self._panel, self._opener = panel, opener
        self._shown_state: tuple | None = None
        self._changes = 0
        self._updating = False
        ui = panel.ui
        ui.libraryPath.connect("currentPathChanged(QString)", lambda *_: self._on_path())
        ui.addScanButton.connect("clicked(bool)", lambda *_: self.add_scan())
        ui.addFolderButton.connect("clicked(bool)", lambda *_: self.add_folder())
        ui.addDatabaseButton.connect("clicked(bool)", lambda *_: self.add_database())
        ui.checkLibraryButton.connect("clicked(bool)", lambda *_: self.check())
        ui.outliersButton.connect("clicked(bool)", lambda *_: self.find_outliers())
        ui.segmentOutliersButton.connect("clicked(bool)", lambda *_: self.find_segment_outliers())
        self._table = ReportTable(ui.libraryReport)

    def refresh(self) -> None:
        """Show the folder and the content of the library."""
        ui = self._panel.ui
        self._updating = True
        if ui.libraryPath.currentPath != scan_library.folder():
            ui.libraryPath.currentPath = scan_library.folder()
        self._updating = False
        ui.addScanButton.enabled = self._panel.volume is not None
        state = scan_library.folder(), self._changes
        if state == self._shown_state:
            return
        if packages.missing(packages.LIBRARY):
            ui.libraryLabel.text = _(
                "The library needs the Python package LanceDB. You are asked to install it at the first use."
            )
            return
        self._shown_state = state
        task = scan_library.statsTask(self._panel.logic, scan_library.folder())
        task.on_done = lambda found: self._show_stats(*found)
        task.on_failed = lambda error: self._show_error(error)

    def forget(self) -> None:
        """Read the content again at the next refresh."""
        self._shown_state = None

    # -- what the user does

    def add_scan(self) -> None:
        """Add the current scan: its file if it is unchanged, otherwise its voxels, without a path."""
        panel = self._panel

        def start(outcomes: list[Outcome]) -> Task:
            source = panel.logic.features.source(panel.volume)
            path = library_scans.source_of(panel.volume)
            folder, assume_hu = scan_library.folder(), source.config.assume_hu
            return scan_library.addTask(
                panel.logic, folder, lambda *_: path or source.scan.volume, outcomes, assume_hu=assume_hu
            )

        self._add(start)

    def add_folder(self) -> None:
        """Add the scans of a folder and its subfolders."""
        panel = self._panel
        folder = str(qt.QFileDialog.getExistingDirectory(panel.root, _("Folder with scans")) or "")
        if folder:
            self._add_paths(lambda _progress, _cancel: [folder], _("There are no scans in this folder. Choose another folder."))

    def add_database(self) -> None:
        """Add the CT series of Slicer's DICOM database."""
        panel = self._panel
        database = panel.attempt(_("The DICOM database cannot be used."), dicom_database.open_database)
        if database is not None:
            worker = panel.logic.worker
            self._add_paths(
                lambda _progress, cancel: dicom_database.ct_paths(database, worker, cancel),
                _("There is no CT series in the DICOM database. Import CTs with Slicer's DICOM module."),
            )

    def check(self) -> None:
        """Check the library, show its errors and offer to repair them."""
        panel, folder = self._panel, scan_library.folder()

        def repaired(findings: list[Issue]) -> None:
            self._changed()
            self._report([(each.path or each.encoder, each.text) for each in findings])
            slicer.util.infoDisplay(
                _("The library was repaired. Scans that were removed are listed under 'Library'; add them again.")
            )

        def show_findings(findings: list[Issue]) -> None:
            self._report([(each.path or each.encoder, each.text) for each in findings])
            if not findings:
                slicer.util.infoDisplay(_("No errors were found in the library."))
            elif not any(each.harmful for each in findings):
                slicer.util.infoDisplay(_("The library can be searched. Minor problems are listed under 'Library'."))
            elif slicer.util.confirmOkCancelDisplay(
                _(
                    "The library is damaged (details under 'Library'), so search results may be incomplete. Repair it? Damaged "
                    "entries are removed and can be added again."
                )
            ):
                panel.run(
                    _("The library could not be repaired."),
                    lambda: scan_library.checkTask(panel.logic, folder, True),
                    repaired,
                )

        failure = _("The library could not be checked.")
        panel.run(failure, lambda: scan_library.checkTask(panel.logic, folder, False), show_findings)

    def find_outliers(self, labels: str | None = None) -> None:
        """List the scans that are unlike the others.

        Args:
            labels: a folder of labeled patients, whose segments are compared, too.
        """
        panel, folder = self._panel, scan_library.folder()

        def show(found: list[Outlier]) -> None:
            # Files of labeled patients often have the same name.
            rows = [(each.path or each.scan[:12], _reasons(each)) for each in found]
            self._report(rows, labels is not None, lambda row: self._open(found[row].path))
            if not found:
                nothing = _("No scan of the library is unlike the others.")
                slicer.util.infoDisplay(nothing if labels is None else _("No scan and no segment is unlike the others."))

        failure = _("The scans of the library could not be compared.")
        panel.run(failure, lambda: scan_library.outliersTask(panel.logic, folder, labels), show)

    def find_segment_outliers(self) -> None:
        """List the scans and the segments of a folder's patients that are unlike the others."""
        title = _("Folder of patients with labels, whose scans are in the library")
        folder = str(qt.QFileDialog.getExistingDirectory(self._panel.root, title) or "")
        if folder:
            self.find_outliers(folder)

    # -- inner workings

    def _add_paths(self, paths: Callable, nothing: str) -> None:
        logic = self._panel.logic
        find_paths = scan_library.confirm_then(logic, paths, nothing)
        self._add(lambda outcomes: scan_library.addTask(logic, scan_library.folder(), find_paths, outcomes))

    def _add(self, start: Callable[[list[Outcome]], Task]) -> None:
        outcomes: list[Outcome] = []
        tasks: list[Task] = []

        def begin() -> Task:
            tasks[:] = [start(outcomes)]
            return tasks[0]

        def ended(error: Exception) -> bool:
            # Scans that were added stay, however the task ended.
            cancelled = isinstance(error, Cancelled)
            if outcomes:
                self._changed()
                self._show_outcomes(outcomes, _("Cancelled.") if cancelled else describe_error(error))
            elif cancelled and tasks[0].message is not None and tasks[0].message.is_timed:
                slicer.util.infoDisplay(
                    _(
                        "Cancelled before the first scans were added. Features that were computed are kept, so adding the "
                        "scans again is faster."
                    )
                )
            return bool(outcomes)

        def added(_outcomes: list[Outcome]) -> None:
            self._changed()
            self._show_outcomes(outcomes, "")

        self._panel.run(
            _("The scans could not be added to the library."),
            begin,
            added,
            allow_fallback=True,
            on_error=ended,
        )

    def _show_outcomes(self, outcomes: Sequence[Outcome], end: str) -> None:
        """Show how many scans were added and skipped."""
        counts = {state: sum(each.state == state for each in outcomes) for state in ("added", "known", "moved", "left out")}
        lines = [end] if end else []
        lines.append(_("Added to the library: {count}.").format(count=counts["added"]))
        if counts["known"] or counts["moved"]:
            lines.append(_("Already in the library: {count}.").format(count=counts["known"] + counts["moved"]))
        left_out = [each for each in outcomes if each.state == "left out"]
        self._report([(each.path, describe_error(CoralBayError(each.detail, remedy=each.remedy))) for each in left_out])
        if counts["left out"]:
            lines.append(_("Skipped: {count}. The reasons are listed under 'Library'.").format(count=counts["left out"]))
            slicer.util.warningDisplay("\n".join(lines))
        else:
            slicer.util.infoDisplay("\n".join(lines))

    def _report(
        self, rows: Sequence[tuple[str, str]], with_folder: bool = False, opened: Callable[[int], object] | None = None
    ) -> None:
        if rows:
            self._panel.ui.libraryBox.collapsed = False
        self._table.fill(rows, with_folder, opened)

    def _open(self, path: str) -> None:
        """Show a scan of the library and make it the current one."""

        def show(node: slicer.vtkMRMLScalarVolumeNode) -> None:
            library_scans.show(node, None)
            self._panel.parameters.volume = node

        self._opener.open(path, show)

    def _changed(self) -> None:
        self._changes += 1
        self._panel.refresh()

    def _show_stats(self, root: str, stats: Sequence[Stats]) -> None:
        ui = self._panel.ui
        scans = [_("{count} with {encoder}").format(count=each.scans, encoder=each.encoder) for each in stats if each.scans]
        ui.libraryLabel.text = (
            _("Scans in the library: {scans}").format(scans=", ".join(scans))
            if scans
            else _("The library is empty. Add scans to it.")
        )
        ui.libraryLabel.setToolTip(_("Folder of the library: {folder}").format(folder=root))
        if not scans:
            ui.libraryBox.collapsed = False

    def _show_error(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self._panel.ui.libraryLabel.text = describe_error(error)
            self._panel.ui.libraryBox.collapsed = False

    def _on_path(self) -> None:
        if not self._updating:
            scan_library.set_folder(self._panel.ui.libraryPath.currentPath)
            self.refresh()


def _reasons(found: Outlier) -> str:
    reasons = " ".join(f"{each}." for each in found.reasons)
    return _("Segment {name}: {reasons}").format(name=found.segment, reasons=reasons) if found.segment else reasons
