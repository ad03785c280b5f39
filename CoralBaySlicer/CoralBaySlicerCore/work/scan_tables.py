"""What becomes of probes on whole scans in the scene: tables and plots, all in nodes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from CoralBaySlicerCore.scene import colors

from .scan_probes import Learnt, Predictions

_OURS = "CoralBaySlicer.Scans"


def add_predictions(source: Any, predictions: Predictions, name: str) -> Any:
    """A new table node: a copy of the user's table with the predictions as further columns."""
    node = _new_table(name)
    node.GetTable().DeepCopy(source.GetTable())
    taken = {node.GetColumnName(n) for n in range(node.GetNumberOfColumns())}
    if predictions.fold is not None:
        _add_column(node, _free(_("tested in fold"), taken), predictions.fold)
    for column, values in zip(predictions.names, predictions.values.T, strict=True):
        _add_column(node, _free(column, taken), values)
    node.Modified()
    return node


def add_figures(learnt: Learnt, name: str) -> Any:
    """A new table node with each figure and its 95 % interval."""
    node, figures = _new_table(name), learnt.evaluation.figures
    labels = vtk.vtkStringArray()
    labels.SetName(_("figure"))
    for figure in figures:
        labels.InsertNextValue(figure)
    node.AddColumn(labels)
    for title, values in (
        (_("value"), [each.value for each in figures.values()]),
        (_("95 % from"), [each.low for each in figures.values()]),
        (_("to"), [each.high for each in figures.values()]),
    ):
        _add_column(node, title, np.array(values))
    return node


def add_charts(charts: Sequence[Any], target: str) -> list[Any]:
    """Plot charts of the library's, in place of those of the time before."""
    for node in list(slicer.util.getNodesByClass("vtkMRMLNode")):
        if node.GetAttribute(_OURS) == "plot":
            slicer.mrmlScene.RemoveNode(node)
    made = []
    for chart in charts:
        node = _ours("vtkMRMLPlotChartNode", f"{target}: {chart.title}")
        node.SetTitle(f"{target}: {chart.title}")
        node.SetXAxisTitle(chart.x_label)
        node.SetYAxisTitle(chart.y_label)
        for number, series in enumerate(chart.series):
            node.AddAndObservePlotSeriesNodeID(_add_series(series, number).GetID())
        made.append(node)
    return made


def show(chart: Any, table: Any) -> None:
    """Show a chart and a table, of which one may be None, beside the slice views."""
    layouts, selection = slicer.vtkMRMLLayoutNode, slicer.app.applicationLogic().GetSelectionNode()
    layout = layouts.SlicerLayoutFourUpPlotTableView if chart is not None else layouts.SlicerLayoutFourUpTableView
    slicer.app.layoutManager().setLayout(layout)
    if chart is not None:
        selection.SetActivePlotChartID(chart.GetID())
        slicer.app.applicationLogic().PropagatePlotChartSelection()
    if table is not None:
        selection.SetActiveTableID(table.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()


def _add_series(series: Any, number: int) -> Any:
    table = _ours("vtkMRMLTableNode", series.name, hidden=True)
    for title, values in (("x", series.x), ("y", series.y)):
        _add_column(table, title, np.asarray(values, float))
    node = _ours("vtkMRMLPlotSeriesNode", series.name)
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetXColumnName("x")
    node.SetYColumnName("y")
    node.SetPlotType(node.PlotTypeScatter)
    node.SetLineStyle({"points": node.LineStyleNone, "reference": node.LineStyleDot}.get(series.kind, node.LineStyleSolid))
    node.SetMarkerStyle(node.MarkerStyleCircle if series.kind in ("points", "linked") else node.MarkerStyleNone)
    node.SetColor(*(colors.PLOT_REFERENCE if series.kind == "reference" else colors.PLOT[number % len(colors.PLOT)]))
    return node


def _ours(node_class: str, name: str, hidden: bool = False) -> Any:
    node = slicer.mrmlScene.CreateNodeByClass(node_class)
    node.UnRegister(None)
    node.SetName(name)
    node.SetAttribute(_OURS, "plot")
    # Before it is added: selectors look once, when it comes.
    node.SetHideFromEditors(hidden)
    return slicer.mrmlScene.AddNode(node)


def _new_table(name: str) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))


def _add_column(node: Any, title: str, values: NDArray) -> None:
    array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    array.SetName(title)
    node.AddColumn(array)


def _free(title: str, taken: set[str]) -> str:
    """A name that no column has yet."""
    number, free = 2, title
    while free in taken:
        number, free = number + 1, f"{title} ({number})"
    taken.add(free)
    return free
