"""Maps kept as scalar volumes for other modules: name, units, color table, saved with the scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBaySlicerCore.scene import color_nodes, overlays, volumes
from CoralBaySlicerCore.scene.volumes import KEPT_MAP

_QUANTITIES = {
    overlays.PROBABILITY: ("probability", "Probability"),
    overlays.UNCERTAINTY: ("uncertainty", "Uncertainty"),
    overlays.SIMILARITY: ("similarity", "Similarity"),
}
"""Code value and meaning of the quantity, in the private coding scheme of CoralBay, as DICOM's parametric maps have them."""
_SCHEME = "99CORALBAY"


def keep(
    kind: str,
    percent: NDArray[np.uint8],
    geometry: NDArray[np.float64],
    scan: slicer.vtkMRMLScalarVolumeNode,
    structure: str = "",
    color: Sequence[float] | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume node with a copy of a map. The views are left as they are.

    Args:
        kind: `overlays.PROBABILITY`, `UNCERTAINTY` or `SIMILARITY`.
        percent: values from 0 to 100, [k, j, i].
        geometry: (4, 4), IJK to the scan's own RAS mm.
        scan: whose parent transform the new node gets.
        structure: name of the structure that the probability is of.
        color: of that structure, RGB from 0 to 1.
    """
    titles = {
        overlays.PROBABILITY: _("{scan} probability of {structure}"),
        overlays.UNCERTAINTY: _("{scan} uncertainty"),
        overlays.SIMILARITY: _("{scan} similarity"),
    }
    name = titles[kind].format(scan=scan.GetName(), structure=structure)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.SetAttribute(KEPT_MAP, kind)
    volumes.put_array(node, percent.copy(), geometry, scan)
    units, quantity = slicer.vtkCodedEntry(), slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("%", "UCUM", "Percent")
    value, meaning = _QUANTITIES[kind]
    quantity.SetValueSchemeMeaning(value, _SCHEME, meaning)
    node.SetVoxelValueUnits(units)
    node.SetVoxelValueQuantity(quantity)
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", _("{map} colors").format(map=node.GetName()))
    color_nodes.fill(table, overlays.ramp_of(kind, color))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.SetAndObserveColorNodeID(table.GetID())
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 100)
    return node
