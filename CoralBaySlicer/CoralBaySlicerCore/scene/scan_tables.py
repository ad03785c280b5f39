"""Tables of scans in the scene: they are read for scan probes, and predictions, metrics and plots are written to new nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from CoralBayLib.core.errors import ScansError

from . import colors

if TYPE_CHECKING:
    from CoralBayLib.scan_probes.charts import Chart, Series
    from CoralBayLib.scan_probes.metrics import Estimate

_ATTRIBUTE = "CoralBaySlicer.Scans"
"""Marks the nodes of the plots, which the next plots replace."""


@dataclass(frozen=True)
class Study:
    """A table as plain data, and what its columns mean.

    Attributes:
        name: of the table node.
        columns: names of all columns.
        rows: text of each cell by its column.
        folder: which the paths of scans are relative to.
        scan: column of the scan's path.
        patient: column of the patient's name; None when every scan is of another patient.
        target: column of the variable to predict.
        time: survival: column of the time.
        task: "classification", "regression" or "survival".
        positive: classification: the positive one of two classes; "" for the last by name.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    folder: str
    scan: str
    patient: str | None = None
    target: str = ""
    time: str = ""
    task: str = "classification"
    positive: str = ""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a probe for the rows of a table.

    Attributes:
        names: of the new columns.
        values: (rows of the table, new columns); NaN where there is no prediction.
        fold: (rows of the table,) the fold that a scan was tested in, from 1; 0 for none; None for new scans.
        left_out: name of each row or scan that could not be used, and the reason.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    fold: NDArray[np.int64] | None
    left_out: tuple[tuple[str, str], ...]


def columns_of(table: slicer.vtkMRMLTableNode | None) -> tuple[str, ...]:
    """Names of a table node's columns; empty without a node."""
    return tuple(table.GetColumnName(n) for n in range(table.GetNumberOfColumns())) if table is not None else ()


def cells_of(table: slicer.vtkMRMLTableNode | None, column: str) -> list[str]:
    """The text of the cells of a table node's column; empty if there is none."""
    array = table.GetTable().GetColumnByName(column) if table is not None and table.GetTable() is not None else None
    return [array.GetVariantValue(row).ToString() for row in range(array.GetNumberOfTuples())] if array is not None else []


def study_of(table: slicer.vtkMRMLTableNode | None, **fields: Any) -> Study:
    """Read the cells of a table node; `fields` are the fields of `Study` that tell what the columns mean.

    Raises:
        ScansError: there is no table, or it is empty.
    """
    if table is None or table.GetTable() is None or not table.GetNumberOfRows():
        raise ScansError(_("Choose a table with a row for each scan, or load one from a CSV file."))
    columns, cells = columns_of(table), table.GetTable()
    rows = [
        {name: cells.GetValue(row, column).ToString() for column, name in enumerate(columns)}
        for row in range(table.GetNumberOfRows())
    ]
    storage = table.GetStorageNode()
    file = storage.GetFullNameFromFileName() if storage is not None and storage.GetFileName() else ""
    folder = str(Path(file).parent) if file else slicer.mrmlScene.GetRootDirectory()
    return Study(table.GetName(), columns, tuple(rows), folder, **fields)


def add_predictions(source: slicer.vtkMRMLTableNode, predictions: Predictions, name: str) -> slicer.vtkMRMLTableNode:
    """Add a table node: a copy of the source table with the predictions in further columns."""
    node = _new_table(name)
    node.GetTable().DeepCopy(source.GetTable())
    taken = set(columns_of(node))
    if predictions.fold is not None:
        _add_column(node, _unused_name(_("tested in fold"), taken), predictions.fold)
    for column, values in zip(predictions.names, predictions.values.T, strict=True):
        _add_column(node, _unused_name(column, taken), values)
    node.Modified()
    return node


def add_metrics(metrics: Mapping[str, Estimate], name: str) -> slicer.vtkMRMLTableNode:
    """Add a table node with each metric and its 95 % confidence interval."""
    node, names = _new_table(name), vtk.vtkStringArray()
    names.SetName(_("metric"))
    for metric in metrics:
        names.InsertNextValue(metric)
    node.AddColumn(names)
    for title, values in (
        (_("value"), [estimate.value for estimate in metrics.values()]),
        (_("95 % from"), [estimate.low for estimate in metrics.values()]),
        (_("to"), [estimate.high for estimate in metrics.values()]),
    ):
        _add_column(node, title, np.array(values))
    return node


def add_charts(charts: Sequence[Chart], target: str) -> list[slicer.vtkMRMLPlotChartNode]:
    """Add plot chart nodes, in place of those that the last call added."""
    for node in list(slicer.util.getNodesByClass("vtkMRMLNode")):
        if node.GetAttribute(_ATTRIBUTE) == "plot":
            slicer.mrmlScene.RemoveNode(node)
    nodes = []
    for chart in charts:
        node = _add_plot_node("vtkMRMLPlotChartNode", f"{target}: {chart.title}")
        node.SetTitle(f"{target}: {chart.title}")
        node.SetXAxisTitle(chart.x_label)
        node.SetYAxisTitle(chart.y_label)
        for number, series in enumerate(chart.series):
            node.AddAndObservePlotSeriesNodeID(_add_series(series, number).GetID())
        nodes.append(node)
    return nodes


def show(chart: slicer.vtkMRMLPlotChartNode | None, table: slicer.vtkMRMLTableNode | None) -> None:
    """Show a chart node, a table node, or both beside the slice views; either may be None."""
    layouts, selection = slicer.vtkMRMLLayoutNode, slicer.app.applicationLogic().GetSelectionNode()
    layout = layouts.SlicerLayoutFourUpPlotTableView if chart is not None else layouts.SlicerLayoutFourUpTableView
    slicer.app.layoutManager().setLayout(layout)
    if chart is not None:
        selection.SetActivePlotChartID(chart.GetID())
        slicer.app.applicationLogic().PropagatePlotChartSelection()
    if table is not None:
        selection.SetActiveTableID(table.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()


def _add_series(series: Series, number: int) -> slicer.vtkMRMLPlotSeriesNode:
    table = _add_plot_node("vtkMRMLTableNode", series.name, hidden=True)
    for title, values in (("x", series.x), ("y", series.y)):
        _add_column(table, title, np.asarray(values, float))
    node = _add_plot_node("vtkMRMLPlotSeriesNode", series.name, hidden=True)
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetXColumnName("x")
    node.SetYColumnName("y")
    node.SetPlotType(node.PlotTypeScatter)
    node.SetLineStyle({"points": node.LineStyleNone, "reference": node.LineStyleDot}.get(series.kind, node.LineStyleSolid))
    node.SetMarkerStyle(node.MarkerStyleCircle if series.kind in ("points", "linked") else node.MarkerStyleNone)
    node.SetColor(*(colors.PLOT_REFERENCE if series.kind == "reference" else colors.PLOT[number % len(colors.PLOT)]))
    return node


def _add_plot_node(node_class: str, name: str, hidden: bool = False) -> slicer.vtkMRMLNode:
    node = slicer.mrmlScene.CreateNodeByClass(node_class)
    node.UnRegister(None)
    node.SetName(name)
    node.SetAttribute(_ATTRIBUTE, "plot")
    # Before the node is added, because node selectors read this only then.
    node.SetHideFromEditors(hidden)
    return slicer.mrmlScene.AddNode(node)


def _new_table(name: str) -> slicer.vtkMRMLTableNode:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))


def _add_column(node: slicer.vtkMRMLTableNode, title: str, values: NDArray) -> None:
    array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    array.SetName(title)
    node.AddColumn(array)


def _unused_name(title: str, taken: set[str]) -> str:
    """The title, numbered when a column has it already; the result is added to `taken`."""
    number, name = 2, title
    while name in taken:
        number, name = number + 1, f"{title} ({number})"
    taken.add(name)
    return name
