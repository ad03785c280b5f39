"""Color tables, color legends and volume rendering properties of the module's maps."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from .colors import Ramp


def fill(table: slicer.vtkMRMLColorTableNode, ramp: Ramp) -> None:
    """Set a color table to a ramp."""
    steps = np.linspace(0, len(ramp) - 1, 256)
    rgb = np.stack([np.interp(steps, range(len(ramp)), [stop[part] for stop in ramp]) for part in range(3)], axis=1)
    with slicer.util.NodeModify(table):
        if table.GetNumberOfColors() != 256:
            table.SetTypeToUser()
            table.SetNumberOfColors(256)
            table.GetLookupTable().SetRange(0, 255)
        for number, color in enumerate(rgb):
            table.SetColor(number, f"{round(number / 2.55)}", *color, 1.0)


def shade(shading: vtk.vtkVolumeProperty, ramp: Ramp, threshold: float) -> None:
    """Set up volume rendering of percent values: transparent below a threshold, more opaque the higher the value."""
    opacity, color = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for value, alpha in ((0, 0), (max(threshold - 5, 1), 0), (max(threshold, 2), 0.15), (100, 0.6)):
        opacity.AddPoint(value, alpha)
    for number, rgb in enumerate(ramp):
        color.AddRGBPoint(100 * number / (len(ramp) - 1), *rgb)
    shading.SetScalarOpacity(opacity)
    shading.SetColor(color)
    shading.SetInterpolationTypeToLinear()


def show_legend(node: slicer.vtkMRMLDisplayableNode, title: str, visible: bool, view: slicer.vtkMRMLSliceNode | None) -> None:
    """Show or hide the color legend of a volume node, in one slice view; None leaves it in the view of the last time."""
    if node.GetDisplayNode() is None:
        return
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node)
    if legend is None:
        if not visible:
            return
        legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
        legend.SetLabelFormat("%.0f")
        legend.SetNumberOfLabels(3)
        # In the corner, where a scan has air. The text is fitted to the size: Slicer's default covers a third of a view.
        legend.SetSize(0.04, 0.22)
        legend.SetPosition(0.99, 0.02)
        legend.SetSaveWithScene(False)
    if visible and legend.GetTitleText() != title:
        legend.SetTitleText(title)
    if visible and view is not None and legend.GetViewNodeIDs() != (view.GetID(),):
        # One legend is enough: all views show the same map.
        legend.SetViewNodeIDs([view.GetID()])
    legend.SetVisibility(visible)
