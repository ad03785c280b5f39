"""Step 5: scan probes, trained on a table and cross-validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import ScansError
from CoralBayLib.scan_probes.labels import current_task
from CoralBaySlicerCore.scene import scan_tables
from CoralBaySlicerCore.setup.encoder_cards import title
from CoralBaySlicerCore.work import scan_probes
from CoralBaySlicerCore.work.scan_probes import FitResult

from .base import Panel, chosen_path
from .scan_probe import ScanProbeSection
from .sections.positive_class import PositiveClass
from .tables.report_table import ReportTable

if TYPE_CHECKING:
    from CoralBaySlicerCore.work.worker import Task

_SCAN_NAMES = ("scan", "ct", "path", "file", "image", "volume")
_PATIENT_NAMES = ("patient", "patient_id", "patientid", "subject", "subject_id", "case")
_TIME_NAMES = ("time", "days", "months", "years")
_COLUMNS = {
    "scanColumn": _SCAN_NAMES,
    "patientColumn": _PATIENT_NAMES,
    "targetColumn": (),
    "timeColumn": _TIME_NAMES,
}


class ScansPanel(Panel):
    """Trains a scan probe on a table; shows its metrics, plots and predictions in new tables."""

    name = "scans"
    ui_file = "ScansPanel.ui"

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self._updating = False
        self._offered: tuple[str, ...] = ()
        self._shown: tuple[slicer.vtkMRMLPlotChartNode | None, slicer.vtkMRMLTableNode] | None = None
        self._report = ReportTable(ui.scansReport)
        self._positive = PositiveClass(self)
        self.probe = ScanProbeSection(self, lambda: self.study(to_learn=False), self.show_predictions, self.tell)
        tasks = ((_("Classification"), "classify"), (_("Regression (a number)"), "regress"), (_("Survival"), "survive"))
        for name, task in tasks:
            ui.taskSelector.addItem(name, task)
        ui.taskSelector.connect("currentIndexChanged(int)", lambda *_: self._on_task())
        for column in _COLUMNS:
            self._selector(column).connect("currentIndexChanged(int)", lambda _index, each=column: self._on_column(each))
        ui.loadTableButton.connect("clicked(bool)", lambda *_: self.load_table())
        ui.fitButton.connect("clicked(bool)", lambda *_: self.fit())
        ui.showScansButton.connect("clicked(bool)", lambda *_: self.show())
        ui.metricsLabel.visible = False

    def refresh(self) -> None:
        """Show the current state."""
        if not self.is_shown:
            return
        ui, parameters = self.ui, self.parameters
        self._updating = True
        ui.taskSelector.currentIndex = max(ui.taskSelector.findData(parameters.scansTask), 0)
        self._offer_columns(scan_tables.columns_of(parameters.scansTable))
        self._positive.refresh()
        self._updating = False
        survive = parameters.scansTask == "survive"
        ui.timeColumnSelector.visible = ui.timeColumnSelectorLabel.visible = survive
        another = parameters.everyScanAnother
        ui.patientColumnSelector.visible = ui.patientColumnSelectorLabel.visible = not another
        ui.targetColumnSelectorLabel.text = _("Event column:") if survive else _("Target column:")
        ui.scansEncoderLabel.text = _("Encoder: {name} (step 1)").format(name=title(parameters.encoder))
        ui.fitButton.enabled = parameters.scansTable is not None
        ui.showScansButton.visible = self._shown is not None
        self.probe.refresh()

    def forget(self) -> None:
        """Drop tables and plots, which belong to the scene; keep the probe, which does not."""
        super().forget()
        self._shown = None
        self._tell("", ())
        self.probe.forget()

    # -- what the user does

    def load_table(self) -> None:
        """Load a table from a file."""
        path = chosen_path(qt.QFileDialog.getOpenFileName(self.root, _("Table of scans"), "", _("Tables (*.csv *.tsv)")))
        if path:
            node = self.attempt(_("The table could not be loaded."), lambda: slicer.util.loadTable(path))
            if node is not None:
                self.parameters.scansTable = node
                self.refresh()

    def fit(self) -> None:
        """Train a probe on the table and cross-validate it."""
        source = self.parameters.scansTable

        def start() -> Task:
            kind = "attentive" if self.parameters.attentiveProbe else "linear"
            return scan_probes.fitTask(self.logic, self.study(), kind)

        self.run(
            _("The probe could not be trained."), start, lambda result: self._on_fitted(source, result), allow_fallback=True
        )

    def study(self, to_learn: bool = True) -> scan_tables.Study:
        """The table and the meaning of its columns.

        Args:
            to_learn: whether the target and patient columns are required.

        Raises:
            ScansError: a required column is not chosen.
        """
        parameters = self.parameters
        another, survive = parameters.everyScanAnother, parameters.scansTask == "survive"
        required = [(parameters.scanColumn, _("Choose the column with the paths of the scans."))]
        if to_learn:
            if not another:
                why = _("Choose the patient column, or check 'One scan per patient'.")
                required.append((parameters.patientColumn, why))
            required.append((parameters.targetColumn, _("Choose the target column.")))
            if survive:
                required.append((parameters.timeColumn, _("Choose the time column.")))
        if parameters.scansTable is not None:
            for column, words in required:
                if not column:
                    raise ScansError(words)
        return scan_tables.study_of(
            parameters.scansTable,
            scan=parameters.scanColumn,
            patient=None if another else parameters.patientColumn,
            target=parameters.targetColumn,
            time=parameters.timeColumn,
            task=current_task(parameters.scansTask),
            positive=self._positive.chosen,
        )

    def show(self) -> None:
        """Show the plot and the table beside the slice views."""
        if self._shown is not None:
            scan_tables.show(*(node if slicer.mrmlScene.IsNodePresent(node) else None for node in self._shown))

    def show_predictions(
        self, source: slicer.vtkMRMLTableNode, predictions: scan_tables.Predictions, name: str
    ) -> slicer.vtkMRMLTableNode:
        """Write predictions to a new table node, a copy of the source table with more columns; returns it."""
        if source is None or not slicer.mrmlScene.IsNodePresent(source):
            raise ScansError(_("The table was removed during the computation. Choose another and try again."))
        node = scan_tables.add_predictions(source, predictions, name)
        self._shown = (None, node)
        self._report.fill(predictions.left_out)
        return node

    # -- inner workings

    def _on_fitted(self, source: slicer.vtkMRMLTableNode, result: FitResult) -> None:
        target = result.probe.target
        self.probe.take(result.probe)
        predictions = self.attempt(
            _("The predictions could not be written."),
            lambda: self.show_predictions(source, result.predictions, _("{target}: predictions").format(target=target)),
        )
        if predictions is None:
            return
        metrics = scan_tables.add_metrics(result.evaluation.metrics, _("{target}: metrics").format(target=target))
        plots = scan_tables.add_charts(result.charts, target)
        self._shown = (plots[0], metrics)
        lines = [
            _("{target}: {scans} scans of {patients} patients, tested on patients not used for training.").format(
                target=target, scans=result.scans, patients=result.patients
            )
        ]
        lines += [f"{name}: {estimate}" for name, estimate in result.evaluation.metrics.items()]
        lines.append(_("Tables: {tables}").format(tables=", ".join([predictions.GetName(), metrics.GetName()])))
        self._tell("\n".join(lines), result.predictions.left_out)
        self.refresh()

    def tell(self, text: str) -> None:
        """Show a text below the buttons."""
        self.ui.metricsLabel.text = text
        self.ui.metricsLabel.visible = bool(text)

    def _tell(self, text: str, left_out: Sequence[tuple[str, str]]) -> None:
        self.tell(text)
        self._report.fill(left_out)

    def _selector(self, column: str) -> qt.QComboBox:
        return getattr(self.ui, f"{column}Selector")

    def _offer_columns(self, columns: tuple[str, ...]) -> None:
        """List the columns of the table, and choose those with usual names."""
        if columns != self._offered:
            self._offered = columns
            for column in _COLUMNS:
                selector = self._selector(column)
                selector.clear()
                for name in columns:
                    selector.addItem(name, name)
        with slicer.util.NodeModify(self.parameters.parameterNode):
            for column, usual in _COLUMNS.items():
                chosen = getattr(self.parameters, column)
                if columns and chosen not in columns:
                    chosen = next((name for name in columns if name.strip().casefold() in usual), "")
                    setattr(self.parameters, column, chosen)
                self._selector(column).currentIndex = self._selector(column).findData(chosen)

    def _on_column(self, column: str) -> None:
        if not self._updating and self.is_shown and self._selector(column).currentIndex >= 0:
            setattr(self.parameters, column, str(self._selector(column).currentData))

    def _on_task(self) -> None:
        if not self._updating and self.is_shown and self.ui.taskSelector.currentIndex >= 0:
            self.parameters.scansTask = str(self.ui.taskSelector.currentData)
