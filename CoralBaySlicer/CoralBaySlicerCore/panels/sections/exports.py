"""Section of step 3: what was found as points, as a segment, and as a volume."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.panels.tables.region_table import RegionTable
from CoralBaySlicerCore.scene import overlays, query_markups
from CoralBaySlicerCore.scene.maps import kept


class Exports:
    """Makes nodes of the results of a search.

    Args:
        panel: of step 3.
        table: with the regions.
    """

    def __init__(self, panel: Panel, table: RegionTable) -> None:
        self._panel, self._table = panel, table
        panel.ui.markupsButton.connect("clicked(bool)", lambda *_: self.to_markups())
        panel.ui.segmentButton.connect("clicked(bool)", lambda *_: self.to_segment())
        panel.ui.keepSimilarityButton.connect("clicked(bool)", lambda *_: self.keep_map())

    def to_markups(self) -> None:
        """Create a point list of the regions."""
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", _("Similar regions"))
        node.CreateDefaultDisplayNodes()
        for region in self._table.regions:
            index = node.AddControlPointWorld(*region.ras)
            node.SetNthControlPointLabel(index, f"{region.rank} ({region.score:.2f})")

    def to_segment(self) -> None:
        """Write the regions of this scan as a segment."""
        panel, volume = self._panel, self._panel.volume
        if volume is None:
            return
        parameters = panel.parameters

        def write() -> slicer.vtkMRMLSegmentationNode:
            found = panel.logic.similarities[volume.GetID()]
            return query_markups.write_segment(volume, found.regions, found.geometry, parameters, panel.logic.undo)

        panel.attempt(_("The segment could not be created."), write)
        panel.refresh()

    def keep_map(self) -> None:
        """Keep the similarity of this scan as a volume of its own."""
        panel, volume = self._panel, self._panel.volume
        found = panel.logic.similarities.get(volume.GetID()) if volume is not None else None
        if found is None:
            return
        node = panel.attempt(
            _("The map could not be kept."), lambda: kept.keep(overlays.SIMILARITY, found.percent, found.geometry, volume)
        )
        if node is not None:
            slicer.util.showStatusMessage(_("Kept as volume: {name}").format(name=node.GetName()), 5000)
