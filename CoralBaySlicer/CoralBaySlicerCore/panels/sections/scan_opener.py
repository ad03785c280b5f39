"""Opening scans of a library that are listed in a table."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.panels.tables.hit_table import missing_message
from CoralBaySlicerCore.work.library import scans as library_scans
from CoralBaySlicerCore.work.library import tasks as scan_library

if TYPE_CHECKING:
    from CoralBaySlicerCore.work.worker import Task


class ScanOpener:
    """Loads scans of a library, one at a time.

    Args:
        panel: of step 3.
        before: called before a scan is loaded.
        after: called when it was loaded or failed.
    """

    def __init__(
        self, panel: Panel, before: Callable[[], object] = lambda: None, after: Callable[[], object] = lambda: None
    ) -> None:
        self._panel, self._before, self._after = panel, before, after
        self._opening: Task | None = None

    def open(self, path: str, show: Callable[[slicer.vtkMRMLScalarVolumeNode], object]) -> None:
        """Show a scan; it is loaded if it is not in the scene. While another one is loaded, nothing happens.

        Args:
            path: of the file or series; "" for a scan that was not added from a file.
            show: called with the volume node.
        """
        node = library_scans.find_volume(path)
        if node is not None:
            show(node)
            return
        exists = scan_library.file_exists(path)
        if self._opening is not None or (exists is None and not _may_connect(path)):
            return
        if not (os.path.exists(path) if exists is None else exists):  # noqa: PTH110 - pathlib raises without access
            slicer.util.warningDisplay(missing_message(path))
        else:
            self._load(path, show)

    def _load(self, path: str, show: Callable[[slicer.vtkMRMLScalarVolumeNode], object]) -> None:
        panel = self._panel
        self._before()

        def start() -> Task:
            self._opening = library_scans.openTask(panel.logic, path)
            return self._opening

        def ended(*_args: object) -> bool:
            self._opening = None
            self._after()
            return False

        def done(made: slicer.vtkMRMLScalarVolumeNode) -> None:
            ended()
            panel.when_visible(lambda: show(made) if slicer.mrmlScene.IsNodePresent(made) else None)

        panel.run(_("The scan could not be loaded."), start, done, on_error=ended)


def _may_connect(path: str) -> bool:
    """Ask whether to connect to the network share of a scan, which the user has not named on this computer so far."""
    question = _(
        "The scan is on the network share {share}, from which nothing was added on this computer. To open it, this computer "
        "connects to the server, which learns your user name. Connect only if you know the server.\n\nConnect to it?"
    ).format(share=scan_library.share_of(path))
    if not slicer.util.confirmOkCancelDisplay(question, _("CoralBay: network share")):
        return False
    scan_library.remember_share(path)
    return True
