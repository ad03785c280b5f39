"""Section of step 3: search in a library, results with thumbnails, and opening them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBaySlicerCore.work.library import scans as library_scans
from CoralBaySlicerCore.work.library import tasks as scan_library
from CoralBaySlicerCore.work.library.thumbnails import Thumbnails
from CoralBaySlicerCore.work.remedies import describe_error

from .base import Panel
from .library_section import LibrarySection
from .sections.scan_opener import ScanOpener
from .tables.hit_table import HitTable, is_region
from .tables.report_table import ReportTable

if TYPE_CHECKING:
    from CoralBayLib.imaging.grid import Volume
    from CoralBayLib.library.reports import Group
    from CoralBayLib.library.search import RegionHit, ScanHit
    from CoralBaySlicerCore.work.worker import Task


class LibrarySearch:
    """The search in a library of scans.

    Args:
        panel: of step 3.
        query_points: gives the points of the query, (N, 3) RAS mm of the world; raises `QueryError`.
    """

    def __init__(self, panel: Panel, query_points: Callable[[], NDArray[np.float64]]) -> None:
        self._panel, self._query_points = panel, query_points
        self._home = ""
        self.table = HitTable(panel.ui.hitTable, self.open)
        headers = (_("Scans"), _("Sentence in their reports"))
        self._sentences = ReportTable(panel.ui.sentenceTable, headers)
        self._thumbnails = Thumbnails(panel.logic.reader)
        # Scans are read one after the other; the thumbnails can wait.
        self._opener = ScanOpener(panel, self._thumbnails.stop, lambda: panel.when_visible(self.make_thumbnails))
        self.section = LibrarySection(panel, self._opener)

    def refresh(self) -> None:
        """Show the current state."""
        self.section.refresh()

    def forget(self) -> None:
        """Called when the scene closes, with the scan of the query."""
        self.leave()
        self._home = ""
        self.table.fill([])
        self._sentences.fill([])
        self.section.forget()

    def leave(self) -> None:
        """Stop making thumbnails and remove the mark from the views."""
        self._thumbnails.stop()
        library_scans.hide_mark()

    @property
    def home(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The scan of the last query, or None."""
        return slicer.mrmlScene.GetNodeByID(self._home) if self._home else None

    def show_query_scan(self) -> None:
        """Show the scan of the last query."""
        if self.home is not None and self.home is not self._panel.volume:
            slicer.util.setSliceViewerLayers(background=self.home)
            self._panel.parameters.volume = self.home

    def search(self) -> None:
        """Search the library for the query."""
        panel, parameters, volume = self._panel, self._panel.parameters, self._panel.volume
        if volume is None:
            return

        def start() -> Task:
            query = None if parameters.queryKind == "whole" else self._query_points()
            return scan_library.searchTask(
                panel.logic,
                scan_library.folder(),
                volume,
                query,
                parameters.regionCount,
                parameters.regionDistance,
                parameters.othersOnly,
            )

        failure = _("The library could not be searched.")
        panel.run(failure, start, partial(self._on_found, volume.GetID()), allow_fallback=True)

    def show_scans(self, hits: list[ScanHit]) -> None:
        """Show scans that were found without a scan to compare with."""
        self._on_found("", hits)

    def open(self, hit: RegionHit | ScanHit) -> None:
        """Show a result; its scan is loaded if necessary."""
        if hit.is_query_scan and self.home is not None:
            self._show(hit, self.home)
        else:
            self._opener.open(hit.path, partial(self._show, hit))

    def _on_found(self, home: str, hits: list[RegionHit] | list[ScanHit]) -> None:
        self._home = home
        library_scans.hide_mark()
        self.table.fill(hits)
        self._show_sentences(hits)
        self._panel.when_visible(self.make_thumbnails)
        self._panel.refresh()
        if not hits:
            slicer.util.infoDisplay(
                _("Nothing was found: the library contains no other scan. Add scans, or clear 'Exclude the query scan'.")
            )

    def _show_sentences(self, hits: list[RegionHit] | list[ScanHit]) -> None:
        """Show the sentences of the reports of scans that were found, if the library keeps reports."""
        self._sentences.fill([])
        scans = [(hit.rank, hit.scan) for hit in hits if not is_region(hit)]
        if not scans:
            return

        def show(found: tuple[int, list[Group]]) -> None:
            count, groups = found
            self._sentences.fill(
                [(_("{some} of {all}").format(some=len(group.ranks), all=count), "\n".join(group.wordings)) for group in groups]
            )

        task = scan_library.sentencesTask(self._panel.logic, scan_library.folder(), scans)
        task.on_done = show
        task.on_failed = lambda error: self._sentences.fill([("", describe_error(error))])

    def make_thumbnails(self) -> None:
        """Request the thumbnails of all results."""
        sources: dict[str, Callable[[], Volume]] = {}
        home = self.home
        for hit in self.table.hits:
            node = home if hit.is_query_scan else library_scans.find_volume(hit.path)
            if node is not None:
                volume = self._panel.logic.features.source(node).scan.volume
                sources[hit.scan] = partial(_same, volume)
            elif hit.file_exists:
                sources[hit.scan] = partial(scan_library.read_scan, hit.path)
        places = [(hit.scan, getattr(hit, "ras", None)) for hit in self.table.hits]
        self._thumbnails.request(sources, places, self.table.show_picture)

    def _show(self, hit: RegionHit | ScanHit, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        ras, label = (hit.ras, f"{hit.rank} ({hit.score:.2f})") if is_region(hit) else (None, "")
        library_scans.show(node, ras, label)
        self._panel.parameters.volume = node


def _same(volume: Volume) -> Volume:
    return volume
