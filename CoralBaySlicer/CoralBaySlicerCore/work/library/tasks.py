"""Tasks on a library of scans: adding, searching, statistics and checking.

`CoralBayLib.library` imports torch, so it is imported inside the functions that run on the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, LibraryError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.imaging.grid import Volume
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.setup import packages, settings
from CoralBaySlicerCore.work.worker import Message, Task, TaskProgress, Worker

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.imaging.discovery import ScanSource
    from CoralBayLib.library import Library
    from CoralBayLib.library.drafts import DraftOptions, DraftResult
    from CoralBayLib.library.ingest import Outcome
    from CoralBayLib.library.outliers import Outlier
    from CoralBayLib.library.reports import Group
    from CoralBayLib.library.search import RegionHit, ScanHit
    from CoralBayLib.library.stats import Stats
    from CoralBayLib.library.verify import Issue
    from CoralBaySlicerCore.work.tasks import Tasks

ScanSelection = Callable[[TaskProgress, CancelToken], Volume | Sequence[str]]
"""Returns the scans to add, a `Volume` or paths. Called on the worker; may ask the user through it."""

_SETTING = "CoralBaySlicer/Library"


def folder() -> str:
    """The library's folder that the user chose on this computer; "" for the default location."""
    return settings.read(_SETTING)


def set_folder(path: str) -> None:
    """Save the choice of a folder."""
    settings.write(_SETTING, path)


def open_library(path: str) -> Library:
    """The `Library` in a folder, which need not exist; on the worker."""
    from CoralBayLib.library import Library

    return Library(path or None)


def share_of(path: str) -> str:
    """The network share that a scan of a library is on; "" for a path on this computer."""
    from CoralBayLib.library import locations

    return locations.share_of(path)


def file_exists(path: str) -> bool | None:
    """Whether the file of a scan still exists; None on a network share that the user has not named on this computer."""
    from CoralBayLib.library import locations

    return locations.file_exists(path) if path else False


def remember_share(path: str) -> None:
    """Look at the share of a path without asking from now on."""
    from CoralBayLib.library import locations

    locations.remember([path])


def read_scan(path: str) -> Volume:
    """The `Volume` of a scan's file or folder; on a worker."""
    from CoralBayLib.imaging.volume_io import read_volume

    return read_volume(path)


def addTask(logic: Tasks, path: str, scans: ScanSelection, outcomes: list[Outcome], assume_hu: bool = False) -> Task:
    """Add scans to a library. The result is `outcomes`, which is also filled as far as the task gets when it is cancelled.

    Args:
        logic: its worker runs the task.
        path: the library's folder; "" for the default location.
        scans: returns the scans to add.
        outcomes: the `Outcome` of each scan is appended as soon as it is done.
        assume_hu: skip the check that the values look like HU.

    Raises:
        CoralBayError: the user declined to install what is missing.
    """
    packages.ensure(packages.LIBRARY)
    config = logic.encoder_config()

    def run(progress: TaskProgress, cancel: CancelToken) -> list[Outcome]:
        from CoralBayLib.features.store import Store

        selected = scans(progress, cancel)
        encoder = logic.features.encoder(config, progress, cancel)

        def report(fraction: float, _message: str) -> None:
            number = min(count, int(fraction * count) + 1)
            text = _("Adding to the library: scan {n} of {count}").format(n=number, count=count)
            progress(fraction, Message(text, is_timed=True))

        count = 1
        workers = _YieldingWorkers(logic.worker, encoder)
        ingest = open_library(path).iter_add(
            selected, encoder, report, cancel, store=Store(), assume_hu=assume_hu, workers=workers
        )
        count = max(1, len(ingest.scans))
        for outcome in ingest:
            outcomes.append(outcome)
        return outcomes

    return logic.worker.start(Task(run, title=_("Adding to the library"), outlives_scene=True, interruptible=True))


class _YieldingWorkers:
    """The library's `DraftWorkers`: makes drafts in this process, and runs other pending tasks before each scan."""

    def __init__(self, worker: Worker, encoder: Encoder) -> None:
        self._worker = worker
        self._encoder = encoder

    def drafts(
        self, sources: Sequence[ScanSource], options: DraftOptions, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[DraftResult]:
        """See `DraftWorkers.drafts`."""
        from CoralBayLib.library.drafts import make_draft

        for source in sources:
            self._worker.run_pending()
            yield make_draft(source, self._encoder, options, progress, cancel)


def confirm_then(logic: Tasks, paths: Callable[[TaskProgress, CancelToken], list[str]], nothing: str) -> ScanSelection:
    """A selection of files and folders that the user confirms after seeing how many scans they contain.

    Args:
        logic: its worker asks the user.
        paths: finds files and folders, on the worker.
        nothing: the message if there are no scans.
    """

    def select(progress: TaskProgress, cancel: CancelToken) -> list[str]:
        from CoralBayLib.imaging.discovery import find_scans

        def report(_fraction: float, message: str) -> None:
            progress(0.0, Message(message))

        report(0.0, _("Looking for scans"))
        found = paths(progress, cancel)
        scans, skipped = find_scans(found, None, report, cancel)
        if not scans and not skipped:
            raise LibraryError(nothing)
        question = _(
            "Scans found: {count}. The features of new scans are computed, one scan after the other. This can take "
            "long, especially without a graphics card; other tasks of this module run between two scans.\n\nYou can cancel at "
            "any time. Scans that were already added stay in the library, and you can add the others later. Start?"
        ).format(count=len(scans))
        title = _("CoralBay: add to the library")
        if not logic.worker.on_main_thread(lambda: slicer.util.confirmOkCancelDisplay(question, title), cancel):
            raise Cancelled(_("Cancelled; nothing was changed."))
        return found

    return select


def searchTask(
    logic: Tasks,
    path: str,
    volume: slicer.vtkMRMLScalarVolumeNode,
    query: ArrayLike | None,
    count: int = 10,
    distance_mm: float = 20.0,
    others: bool = True,
) -> Task:
    """Search a library for regions, or scans, that are similar to a query; a new search cancels the previous one.

    The result is a list of `RegionHit`, or of `ScanHit`.

    Args:
        logic: its worker runs the task.
        path: the library's folder; "" for the default location.
        volume: the scan that the query is from.
        query: (N, 3) RAS points of the world; None for the whole scan.
        count: maximum number of hits.
        distance_mm: minimum distance between regions of one scan.
        others: do not search the scan that the query is from.

    Raises:
        CoralBayError: the user declined to install what is missing, or there is no image in the volume.
    """
    packages.ensure(packages.LIBRARY)
    source = logic.features.source(volume)
    points = None if query is None else volumes.from_world(volume, query)

    def run(progress: TaskProgress, cancel: CancelToken) -> tuple[FeaturePyramid, list[RegionHit] | list[ScanHit]]:
        from CoralBayLib.similarity.search import Query

        library = open_library(path)
        # Checked before the scan is embedded, which can take long.
        library.require_encoder(source.config.encoder)
        pyramid = logic.features.compute(source, subprogress(progress, 0, 0.9), cancel)
        raise_if_cancelled(cancel)
        if points is None:
            return pyramid, library.search_scans(pyramid, count, exclude_query_scan=others)
        region = Query.stroke(points)
        return pyramid, library.search_regions(pyramid, region, count, min_distance_mm=distance_mm, exclude_query_scan=others)

    def finish(result: tuple[FeaturePyramid, list[RegionHit] | list[ScanHit]]) -> list[RegionHit] | list[ScanHit]:
        logic.features.put(source, result[0])
        return result[1]

    return logic.worker.start(Task(run, finish, "similar", _("Searching the library")))


def statsTask(logic: Tasks, path: str) -> Task:
    """The folder of a library and its `Stats`, an empty list if there is no library yet.

    Runs on the reader, so it need not wait for computations.
    """

    def run(_progress: TaskProgress, _cancel: CancelToken) -> tuple[str, list[Stats]]:
        library = open_library(path)
        return str(library.storage.root), library.stats() if library.storage.exists() else []

    return logic.reader.start(Task(run, lane="library", title=_("Reading the library")))


def checkTask(logic: Tasks, path: str, repair: bool) -> Task:
    """Check, or repair, a whole library; the result is a list of its `Issue`s."""
    packages.ensure(packages.LIBRARY)

    def run(progress: TaskProgress, cancel: CancelToken) -> list[Issue]:
        return open_library(path).verify(repair, progress, cancel)

    title = _("Repairing the library") if repair else _("Checking the library")
    return logic.worker.start(Task(run, title=title, outlives_scene=True))


def outliersTask(logic: Tasks, path: str, labels: str | None = None) -> Task:
    """The scans of a library that are unlike the others, with the encoder that is chosen; a list of `Outlier`s.

    Args:
        logic: its worker runs the task.
        path: the library's folder; "" for the default location.
        labels: a folder of labeled patients, whose segments are compared, too.
    """
    packages.ensure(packages.LIBRARY)
    encoder = logic.encoder_config().encoder

    def run(progress: TaskProgress, cancel: CancelToken) -> list[Outlier]:
        def show(fraction: float, _message: str) -> None:
            progress(fraction, Message(_("Comparing the scans of the library")))

        return open_library(path).outliers(encoder, labels, progress=show, cancel=cancel)

    return logic.worker.start(Task(run, title=_("Comparing the scans of the library"), outlives_scene=True))


def sentencesTask(logic: Tasks, path: str, scans: Sequence[tuple[int, str]]) -> Task:
    """The sentences of the reports that a library keeps with some scans.

    The result is the number of these scans with a report, and the `Group`s of their sentences. Runs on the reader.

    Args:
        logic: its reader runs the task.
        path: the library's folder; "" for the default location.
        scans: rank and ID of each scan.
    """

    def run(_progress: TaskProgress, _cancel: CancelToken) -> tuple[int, list[Group]]:
        from CoralBayLib.library.reports import group_sentences, read_reports

        kept = read_reports(open_library(path).storage)
        reports = [(rank, kept[scan]) for rank, scan in scans if scan in kept]
        return len(reports), group_sentences(reports)

    return logic.reader.start(Task(run, lane="sentences", title=_("Reading the reports")))
