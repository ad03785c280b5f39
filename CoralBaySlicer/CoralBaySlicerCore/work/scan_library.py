"""A library of scans: added to, searched and checked on the worker.

The library's heavy parts are imported inside the functions, so that torch is loaded by the worker at first use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import qt
import slicer
from numpy.typing import ArrayLike
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, LibraryError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.setup import packages

from .worker import Counted, Shown, Task, Worker

if TYPE_CHECKING:
    from .tasks import Tasks

Wanted = Callable[[Progress, CancelToken], Any]
"""Says on the worker what is to be added: a volume of CoralBayLib, or paths. May ask the user through the worker."""

_SETTING = "CoralBaySlicer/Library"


def folder() -> str:
    """The library's folder that the user chose on this computer; "" for the usual place."""
    return str(qt.QSettings().value(_SETTING) or "")


def set_folder(path: str) -> None:
    """Keep the choice of a folder."""
    qt.QSettings().setValue(_SETTING, path)


def opened(path: str) -> Any:
    """The library's `Library` in a folder, which need not exist; on the worker."""
    from CoralBayLib.library import Library

    return Library(path or None)


def is_there(path: str) -> bool:
    """Whether a scan is where the library knows it."""
    return bool(path) and os.path.exists(path)


def read(path: str) -> Any:
    """The library's Volume of a scan's file or folder; on a worker."""
    from CoralBayLib.imaging.volume_io import read_volume

    return read_volume(path)


def addTask(logic: Tasks, path: str, wanted: Wanted, outcomes: list[Any], assume_hu: bool = False) -> Task:
    """Add scans to a library. The result is `outcomes`, which has what was done when the task is cancelled, too.

    Args:
        logic: whose worker computes.
        path: the library's folder; "" for the usual place.
        wanted: says what to add.
        outcomes: grows by the library's `Outcome` of each scan as soon as it is done.
        assume_hu: skip the check that the values look like HU.

    Raises:
        CoralBayError: the user declined to install what is missing.
    """
    packages.ensure(packages.LIBRARY)
    choice = logic.choice()

    def run(progress: Progress, cancel: CancelToken) -> list[Any]:
        from CoralBayLib.features.store import Store

        with our_words():
            scans = wanted(progress, cancel)
            encoder = logic.features.encoder(choice, progress, cancel)

            def tell(fraction: float, _message: str) -> None:
                number = min(count, int(fraction * count) + 1)
                progress(fraction, Counted(_("Adding to the library: scan {n} of {count}").format(n=number, count=count)))

            count = 1
            options = {"store": Store(), "assume_hu": assume_hu, "workers": _GivingWay(logic.worker, encoder)}
            adding = opened(path).adding(scans, encoder, tell, cancel, **options)
            count = max(1, len(adding.scans))
            for outcome in adding:
                outcomes.append(outcome)
        return outcomes

    return logic.worker.start(Task(run, title=_("Adding to the library"), outlives_scene=True, gives_way=True))


class _GivingWay:
    """The library's `Workers`: makes drafts in this process, and before each scan lets other work go first."""

    def __init__(self, worker: Worker, encoder: Any) -> None:
        self._worker = worker
        self._encoder = encoder

    def drafts(
        self, sources: Sequence[Any], wanted: Any, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[Any]:
        """As in `Workers`."""
        from CoralBayLib.library.workers import make

        for source in sources:
            self._worker.run_pending()
            yield make(source, self._encoder, wanted, progress, cancel)


def confirm_then(logic: Tasks, paths: Callable[[Progress, CancelToken], list[str]], nothing: str) -> Wanted:
    """What to add after the user has heard how many scans there are and has agreed.

    Args:
        logic: whose worker asks.
        paths: finds files and folders, on the worker.
        nothing: said when there are no scans.
    """

    def wanted(progress: Progress, cancel: CancelToken) -> list[str]:
        from CoralBayLib.library.discovery import find_scans

        def tell(_fraction: float, message: str) -> None:
            progress(0.0, Shown(message))

        tell(0.0, _("Looking for scans"))
        found = paths(progress, cancel)
        scans, left_out = find_scans(found, None, tell, cancel)
        if not scans and not left_out:
            raise LibraryError(nothing)
        question = _(
            "Scans found: {count}. Those that are new to the library are embedded one after the other, which may take long, "
            "above all without a graphics card; other work of this module is done between two scans.\n\nYou can cancel at any "
            "time: scans that are done stay in the library, and adding them again goes on from there. Start?"
        ).format(count=len(scans))
        title = _("CoralBay: add to the library")
        if not logic.worker.on_main_thread(lambda: slicer.util.confirmOkCancelDisplay(question, title), cancel):
            raise Cancelled(_("Cancelled; nothing was changed."))
        return found

    return wanted


def searchTask(
    logic: Tasks,
    path: str,
    volume: Any,
    query: ArrayLike | None,
    count: int = 10,
    distance_mm: float = 20.0,
    others: bool = True,
) -> Task:
    """Find regions, or scans, of a library that are like a query; a newer search stops an older one.

    The result is a list of the library's `RegionHit`, or of `ScanHit`.

    Args:
        logic: whose worker computes.
        path: the library's folder; "" for the usual place.
        volume: the scan that the query is from.
        query: (N, 3) RAS points of the world; None for the whole scan.
        count: most to find.
        distance_mm: between regions of one scan.
        others: leave out the scan that the query is from.

    Raises:
        CoralBayError: the user declined to install what is missing, or there is no image in the volume.
    """
    packages.ensure(packages.LIBRARY)
    source = logic.features.source(volume)
    points = None if query is None else volumes.from_world(volume, query)

    def run(progress: Progress, cancel: CancelToken) -> Any:
        from CoralBayLib.library.storage.folder import file_name
        from CoralBayLib.similarity.search import Query

        with our_words():
            library = _existing(path)
            known = library.folder.names()
            if file_name(source.choice.encoder) not in known:
                raise LibraryError(
                    _(
                        "The library holds features of {known}, none of {encoder}. Choose one of them in step 1, or add scans."
                    ).format(known=", ".join(known) or _("no encoder yet"), encoder=source.choice.encoder)
                )
            pyramid = logic.features.compute(source, subprogress(progress, 0, 0.9), cancel)
            raise_if_cancelled(cancel)
            if points is None:
                return pyramid, library.search_scans(pyramid, count, others=others)
            place = Query.stroke(points)
            return pyramid, library.search_regions(pyramid, place, count, min_distance_mm=distance_mm, others=others)

    def finish(result: Any) -> Any:
        logic.features.put(source, result[0])
        return result[1]

    return logic.worker.start(Task(run, finish, "similar", _("Searching the library")))


def statsTask(logic: Tasks, path: str) -> Task:
    """What a library holds: its folder, and its `Stats`, of which there are none when there is no library yet.

    It is read by the reader, so that it need not wait for what is computed.
    """

    def run(_progress: Progress, _cancel: CancelToken) -> tuple[str, Sequence[Any]]:
        with our_words():
            library = opened(path)
            return str(library.folder.root), library.stats() if library.folder.exists() else []

    return logic.reader.start(Task(run, lane="library", title=_("Looking into the library")))


def checkTask(logic: Tasks, path: str, repair: bool) -> Task:
    """Read a whole library; the result are the library's `Finding`s."""
    packages.ensure(packages.LIBRARY)

    def run(progress: Progress, cancel: CancelToken) -> list[Any]:
        with our_words():
            return _existing(path).verify(repair, progress, cancel)

    title = _("Repairing the library") if repair else _("Checking the library")
    return logic.worker.start(Task(run, title=title, outlives_scene=True))


def _existing(path: str) -> Any:
    library = opened(path)
    if not library.folder.exists():
        raise LibraryError(
            _("There is no library in {folder} yet. Add scans under 'Library', or choose another folder there.").format(
                folder=library.folder.root
            )
        )
    library.folder.require()
    return library


@contextmanager
def our_words() -> Iterator[None]:
    """What the library says about commands, said about the buttons that do the same."""
    try:
        yield
    except LibraryError as error:
        raise LibraryError(in_our_words(str(error))) from error


def in_our_words(text: str) -> str:
    """A text in which buttons stand in place of commands."""
    check_button, add_button = _("'Check' under 'Library'"), _("a button under 'Library'")
    for command, button in (
        ("`coralbay library verify --repair`", check_button),
        ("`coralbay library verify`", check_button),
        ("`coralbay library add`", add_button),
    ):
        text = text.replace(command, button)
    return text
