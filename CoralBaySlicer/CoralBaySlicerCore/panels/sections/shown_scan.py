"""Row above the steps: the slice views do not show the current scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CoralBaySlicerCore.scene.overlays import Overlays
from CoralBaySlicerCore.scene.views import slices


class ShownScan(VTKObservationMixin):
    """Says that maps are hidden while the slice views show another scan, and shows the current scan on request.

    Args:
        ui: with `shownScanRow`, `shownScanLabel` and `showScanButton`.
        overlays: the maps.
        changed: called when a slice view shows another scan than before.
    """

    def __init__(self, ui: Any, overlays: Overlays, changed: Callable[[], object]) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._overlays, self._changed = ui, overlays, changed
        self._backgrounds: dict[str, str | None] = {}
        ui.showScanButton.connect("clicked(bool)", lambda *_: self.show())
        ui.shownScanRow.visible = False

    def refresh(self) -> None:
        """Show or hide the row."""
        for view in slices.composites():
            if not self.hasObserver(view, vtk.vtkCommand.ModifiedEvent, self._on_view):
                self.addObserver(view, vtk.vtkCommand.ModifiedEvent, self._on_view)
        volume = self._overlays.scan()
        hidden = not slices.is_shown(volume)
        if volume is not None and hidden:
            self._ui.shownScanLabel.text = _(
                "The slice views do not show the scan '{scan}'. What is computed for it is not drawn over another scan."
            ).format(scan=volume.GetName())
        self._ui.shownScanRow.visible = volume is not None and hidden

    def show(self) -> None:
        """Show the current scan in the slice views."""
        slices.show_scan(self._overlays.scan())
        self._changed()

    def _on_view(self, view: slicer.vtkMRMLSliceCompositeNode, _event: str) -> None:
        # Views are modified often: by the maps too, and by each change of an opacity.
        shown = view.GetBackgroundVolumeID()
        if self._backgrounds.get(view.GetID(), "") != shown:
            self._backgrounds[view.GetID()] = shown
            self._changed()
