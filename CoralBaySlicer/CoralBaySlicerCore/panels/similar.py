"""Step 3: search for similar regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CoralBayLib.core.errors import QueryError
from CoralBaySlicerCore.scene import overlays as overlay
from CoralBaySlicerCore.scene import place_mode, query_markups, segments, structures, volumes
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.scene.views import slices
from CoralBaySlicerCore.work.logic import FoundRegion

from .base import Panel
from .library_search import LibrarySearch
from .sections.exports import Exports
from .sections.matching import PlaceMatching
from .sections.region_segments import RegionSegmentsSection
from .sections.words import WordSearch
from .tables.region_table import RegionTable

if TYPE_CHECKING:
    from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
    from CoralBaySlicerCore.work.worker import Task

    from .activity import Activity


class SimilarPanel(Panel, VTKObservationMixin):
    """Searches for regions similar to a point, a segment or an ROI; shows a map and a ranked table."""

    name = "similar"
    ui_file = "SimilarPanel.ui"

    def __init__(self, logic: CoralBaySlicerLogic, activity: Activity) -> None:
        VTKObservationMixin.__init__(self)
        Panel.__init__(self, logic, activity)

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self._updating = False
        self.logic.overlays.offer(Owner.SIMILARITY, self._draw)
        for title, scope in ((_("This scan"), "scan"), (_("Library"), "library")):
            ui.scopeSelector.addItem(title, scope)
        for title, kind in ((_("Point"), "point"), (_("Segment"), "segment"), (_("Region of interest (ROI)"), "roi")):
            ui.querySelector.addItem(title, kind)
        self._table = RegionTable(ui.regionTable, self.go_to)
        self.library = LibrarySearch(self, self.query_points)
        self.matching = PlaceMatching(self, self.query_points)
        self.words = WordSearch(self, self.library.show_scans)
        self.region_segments = RegionSegmentsSection(self)
        self.exports = Exports(self, self._table)
        ui.scopeSelector.connect("currentIndexChanged(int)", lambda *_: self._on_scope())
        ui.querySelector.connect("currentIndexChanged(int)", lambda *_: self._on_kind())
        ui.querySegmentSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda *_: self._on_segment())
        ui.querySegmentSelector.connect("currentSegmentChanged(QString)", lambda *_: self._on_segment())
        ui.placeQueryButton.connect("clicked(bool)", lambda *_: self.place_query())
        ui.showQueryButton.connect("clicked(bool)", lambda *_: self.show_query())
        ui.searchButton.connect("clicked(bool)", lambda *_: self.search())
        ui.showMapCheck.connect("toggled(bool)", lambda *_: self._on_show())

    @property
    def in_library(self) -> bool:
        """Whether a library is searched instead of the scene."""
        return self.is_shown and self.parameters.scope == "library"

    @property
    def regions(self) -> list[FoundRegion]:
        """The results in the order of the table."""
        return self._table.regions

    def refresh(self) -> None:
        """Show the current state."""
        if not self.is_shown:
            return
        ui, kind = self.ui, self.parameters.queryKind
        self._updating = True
        self._show_scope()
        ui.querySelector.currentIndex = max(ui.querySelector.findData(kind), 0)
        kind = str(ui.querySelector.currentData)
        if ui.querySegmentSelector.currentNode() is not self.parameters.querySegmentation:
            ui.querySegmentSelector.setCurrentNode(self.parameters.querySegmentation)
        if ui.querySegmentSelector.currentSegmentID() != self.parameters.querySegment:
            ui.querySegmentSelector.setCurrentSegmentID(self.parameters.querySegment)
        ui.placeQueryButton.visible = ui.placeQueryButtonLabel.visible = kind == "point"
        ui.querySegmentSelector.visible = ui.querySegmentSelectorLabel.visible = kind == "segment"
        ui.roiSelector.visible = ui.roiSelectorLabel.visible = kind == "roi"
        node = query_markups.node(self.volume)
        ui.placeQueryButton.enabled = self.volume is not None
        ui.placeQueryButton.checked = node is not None and place_mode.is_placing(node)
        ui.showQueryButton.enabled = self._can_show_query(node)
        ui.otherScansLabel.text = self._about_others()
        ui.otherScansLabel.visible = bool(ui.otherScansLabel.text) and not self.in_library
        ui.distanceSpin.visible = ui.distanceSpinLabel.visible = kind != "whole"
        ui.showQueryButton.visible = kind != "whole"
        self.matching.refresh(kind == "point" and not self.in_library)
        ui.matchButton.enabled = node is not None and node.GetNumberOfDefinedControlPoints() > 0
        shown_id = self.volume.GetID() if self.volume is not None else ""
        has_map = shown_id in self.logic.similarities
        ui.searchButton.enabled = self.volume is not None
        self.words.refresh(self.in_library)
        ui.showMapCheck.enabled = ui.keepSimilarityButton.enabled = has_map
        ui.showMapCheck.checked = self.logic.overlays.owner is Owner.SIMILARITY
        ui.markupsButton.enabled = bool(self.regions)
        ui.segmentButton.enabled = has_map and any(each.node_id == shown_id for each in self.regions)
        self.region_segments.refresh(not self.in_library, ui.segmentButton.enabled)
        self._updating = False
        self._watch(node)

    def exit(self) -> None:
        """Stop making thumbnails and searching for each new query point until the user comes back."""
        self.removeObservers()
        self.library.leave()
        self._deferred.append(self.library.make_thumbnails)

    def close(self) -> None:
        """Stop watching the scene."""
        self.removeObservers()
        self.region_segments.close()

    def forget(self) -> None:
        """Drop the results."""
        super().forget()
        self.removeObservers()
        self._table.fill([])
        self.library.forget()
        self.matching.forget()
        self.words.forget()
        self.region_segments.forget()
        self.region_segments.close()

    # -- what the user does

    def place_query(self) -> None:
        """Start placing the query point, or stop it."""
        node = query_markups.node(self.volume) or query_markups.make(self.volume)
        if place_mode.is_placing(node):
            place_mode.stop()
        else:
            self._watch(node)
            # A point on another scan would be a query at a place that the user has not seen.
            slices.show_scan(self.volume)
            place_mode.start(node)
        self.refresh()

    def search(self) -> None:
        """Search for regions similar to the query."""
        # The user may have left the module since the click on the query point.
        if self.volume is None:
            return
        parameters, volume = self.parameters, self.volume
        if self.in_library:
            self.library.search()
            return

        def start() -> Task:
            points = self.query_points()
            others = volumes.other_scans(volume) if parameters.everywhere else []
            return self.logic.similarTask(
                volume,
                points,
                others,
                parameters.regionCount,
                parameters.regionDistance,
                parameters.similarityThreshold / 100,
            )

        self.run(_("The search failed."), start, self._on_found, allow_fallback=True)

    def query_points(self) -> np.ndarray:
        """The query, (N, 3) RAS mm of the world.

        Raises:
            QueryError: no query is chosen, or it is empty.
        """
        parameters, volume = self.parameters, self.volume
        if parameters.queryKind == "point":
            node = query_markups.node(volume)
            points = structures.Structure(1, node).world_points() if node is not None else np.empty((0, 3))
            if not len(points):
                raise QueryError(_("Press 'Place query point', then click in a slice view on the location to search for."))
            return points
        if parameters.queryKind == "segment":
            if parameters.querySegmentation is None or not parameters.querySegment:
                raise QueryError(_("Choose a segment to look for."))
            own = segments.points(parameters.querySegmentation, parameters.querySegment, volume)
            if not len(own):
                raise QueryError(_("The segment is empty. Choose another segment."))
            return volumes.to_world(volume, own)
        if parameters.queryRoi is None:
            raise QueryError(_("Choose a region of interest, or draw one with Slicer's Markups module."))
        return query_markups.points_in_roi(parameters.queryRoi, volume)

    def show_query(self) -> None:
        """Center the views on the query."""
        if self.in_library:
            self.library.show_query_scan()
        self.attempt(_("The query cannot be shown."), lambda: volumes.jump_to(self.query_points().mean(axis=0)))

    def go_to(self, region: FoundRegion) -> None:
        """Center the views on a region, in its scan."""
        volume = slicer.mrmlScene.GetNodeByID(region.node_id)
        if volume is None:
            # In another scan, the position would mean nothing.
            slicer.util.showStatusMessage(_("{name} is no longer in the scene.").format(name=region.volume), 5000)
            return
        if volume is not self.volume:
            slicer.util.setSliceViewerLayers(background=volume)
            self.parameters.volume = volume
        volumes.jump_to(region.ras)

    # -- inner workings

    def _show_scope(self) -> None:
        """Show the widgets for a search in the scene or in a library."""
        ui, in_library = self.ui, self.in_library
        ui.scopeSelector.currentIndex = max(ui.scopeSelector.findData(self.parameters.scope), 0)
        for widget in (ui.libraryLabel, ui.libraryBox, ui.hitTable, ui.excludeQueryScanCheck):
            widget.visible = in_library
        for widget in (ui.allScansCheck, ui.mapForm, ui.regionTable, ui.resultRow):
            widget.visible = not in_library
        ui.searchButton.text = _("Search library") if in_library else _("Find similar regions")
        whole = ui.querySelector.findData("whole")
        if in_library and whole < 0:
            ui.querySelector.addItem(_("Whole scan"), "whole")
        elif not in_library and whole >= 0:
            ui.querySelector.removeItem(whole)
        if in_library:
            self.library.refresh()

    def _can_show_query(self, node: slicer.vtkMRMLMarkupsFiducialNode | None) -> bool:
        if self.in_library and self.library.home not in (None, self.volume):
            return True
        if self.volume is None or self.parameters.queryKind == "point":
            return node is not None and node.GetNumberOfDefinedControlPoints() > 0
        if self.parameters.queryKind == "segment":
            return self.parameters.querySegmentation is not None and bool(self.parameters.querySegment)
        return self.parameters.queryRoi is not None

    def _about_others(self) -> str:
        """A message about the other scans: which must be computed first, and which were skipped; "" if there is none."""
        if not self.parameters.everywhere or self.volume is None:
            return ""
        others = volumes.other_scans(self.volume)
        lines = [] if others else [_("There is no other scan in the scene.")]
        known = [*others, self.volume] if others else []
        missing = [node.GetName() for node in known if self.logic.features.cached(node) is None]
        missing = [name for name in missing if name not in self.logic.skipped_scans]
        if missing:
            lines.append(_("Features to be computed first, which takes a while: {names}").format(names=", ".join(missing)))
        lines += [
            _("Skipped: {name}. {reason}").format(name=name, reason=why) for name, why in self.logic.skipped_scans.items()
        ]
        return "\n".join(lines) or _("The features of all scans are ready.")

    def _on_found(self, regions: list[FoundRegion]) -> None:
        self._table.fill(regions)
        self.when_visible(self._show_found)

    def _show_found(self) -> None:
        self.logic.overlays.request(Owner.SIMILARITY)
        self.refresh()

    def _draw(self) -> bool:
        found = self.logic.similarities.get(self.volume.GetID()) if self.volume is not None else None
        if found is None:
            return False
        parameters, overlays = self.parameters, self.logic.overlays
        overlays.update(overlay.SIMILARITY, found.percent, found.geometry, self.volume)
        overlays.set_threshold(overlay.SIMILARITY, parameters.similarityThreshold)
        shown = overlays.show_map(overlay.SIMILARITY, parameters.similarityOpacity / 100)
        overlays.render_in_3d(overlay.SIMILARITY, shown and parameters.showIn3D, parameters.similarityThreshold)
        return True

    def _watch(self, node: slicer.vtkMRMLMarkupsFiducialNode | None) -> None:
        self.removeObservers(self._on_point)
        if node is not None:
            self.addObserver(node, node.PointPositionDefinedEvent, self._on_point)

    def _on_point(self, node: slicer.vtkMRMLMarkupsFiducialNode, event: str) -> None:
        # The query is the last click only.
        place_mode.stop()
        while node.GetNumberOfControlPoints() > 1:
            node.RemoveNthControlPoint(0)
        qt.QTimer.singleShot(0, self.search)

    def _on_scope(self) -> None:
        if not self._updating and self.is_shown and self.ui.scopeSelector.currentIndex >= 0:
            self.parameters.scope = str(self.ui.scopeSelector.currentData)
            if self.in_library:
                self.logic.overlays.release(Owner.SIMILARITY)
            else:
                self.library.leave()
                if self.parameters.queryKind == "whole":
                    self.parameters.queryKind = "point"

    def _on_kind(self) -> None:
        if not self._updating and self.is_shown and self.ui.querySelector.currentIndex >= 0:
            self.parameters.queryKind = str(self.ui.querySelector.currentData)

    def _on_segment(self) -> None:
        if not self._updating and self.is_shown:
            with slicer.util.NodeModify(self.parameters.parameterNode):
                self.parameters.querySegmentation = self.ui.querySegmentSelector.currentNode()
                self.parameters.querySegment = self.ui.querySegmentSelector.currentSegmentID()

    def _on_show(self) -> None:
        if self._updating:
            return
        if self.ui.showMapCheck.checked:
            self.logic.overlays.request(Owner.SIMILARITY)
        else:
            self.logic.overlays.release(Owner.SIMILARITY)
