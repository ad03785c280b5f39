"""Tasks on a cohort of scans: reading its state, adding scans, opening, accepting, and preparing what is next.

`CoralBayLib.cohort` is imported inside the functions that run on a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CohortError
from CoralBayLib.core.progress import CancelToken, subprogress
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBayLib.imaging.grid import Volume
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.setup import packages, settings
from CoralBaySlicerCore.work.compute.masks import masks_on
from CoralBaySlicerCore.work.dicom.database import ct_paths, open_database
from CoralBaySlicerCore.work.library.scans import source_of
from CoralBaySlicerCore.work.library.tasks import open_library
from CoralBaySlicerCore.work.worker import Message, Task, TaskProgress

from . import nodes
from .nodes import Annotation, Opened

if TYPE_CHECKING:
    from CoralBayLib.cohort import Cohort, Learner, ScanStatus
    from CoralBayLib.imaging.discovery import Skipped
    from CoralBaySlicerCore.work.session import EncoderConfig
    from CoralBaySlicerCore.work.tasks import Tasks

_FOLDER, _BY = "CoralBaySlicer/Cohort", "CoralBaySlicer/CohortBy"
Selected = Callable[[TaskProgress, CancelToken], Sequence[str | tuple[str, Volume]]]
"""Returns the scans to add: paths, or names with voxels. Called on the worker."""


@dataclass(frozen=True)
class Contents:
    """What a cohort holds.

    Attributes:
        folder: of the cohort.
        name: of the cohort.
        labels: names of the structures, by label.
        scans: the `ScanStatus` of each.
        unfinished: names of files whose writing was interrupted.
    """

    folder: str
    name: str
    labels: dict[int, str]
    scans: list[ScanStatus]
    unfinished: list[str]


def folder() -> str:
    """The cohort that was open last on this computer; "" for none."""
    return settings.read(_FOLDER)


def set_folder(path: str) -> None:
    """Remember which cohort is open."""
    settings.write(_FOLDER, path)


def annotator() -> str:
    """The name or initials that are written beside what is accepted on this computer; "" for none."""
    return settings.read(_BY)


def set_annotator(name: str) -> None:
    """Remember the name or initials."""
    settings.write(_BY, name)


def learner_of(logic: Tasks, config: EncoderConfig, progress: TaskProgress, cancel: CancelToken) -> Learner:
    """What learns and suggests, with the encoder of a configuration; called on the worker."""
    from CoralBayLib.cohort import ProbeLearner
    from CoralBayLib.features.store import Store

    return ProbeLearner(logic.features.encoder(config, progress, cancel), Store(), config.assume_hu)


def contents_of(path: str) -> Contents:
    """Read a cohort; on a worker.

    Raises:
        CohortError: there is no cohort, or it is damaged.
    """
    from CoralBayLib.cohort import Cohort

    cohort = Cohort.open(path)
    description = cohort.description
    unfinished = [each.name for each in cohort.unfinished()]
    return Contents(str(cohort.folder), description.name, description.labels, cohort.status(), unfinished)


def contentsTask(logic: Tasks, path: str) -> Task:
    """The `Contents` of a cohort; on the reader, so that it does not wait for computations."""
    return logic.reader.start(Task(lambda *_args: contents_of(path), lane="cohort", title=_("Reading the cohort")))


def createTask(logic: Tasks, path: str, structures: Sequence[str]) -> Task:
    """Make a cohort in a new or empty folder; the result is its `Contents`."""

    def run(_progress: TaskProgress, _cancel: CancelToken) -> Contents:
        from CoralBayLib.cohort import Cohort

        return contents_of(str(Cohort.create(path, structures).folder))

    return logic.reader.start(Task(run, title=_("Making the cohort"), outlives_scene=True))


def addTask(logic: Tasks, path: str, select: Selected) -> Task:
    """Add scans; the result is their names, and what was skipped."""

    def run(progress: TaskProgress, cancel: CancelToken) -> tuple[list[str], list[Skipped]]:
        from CoralBayLib.cohort import Cohort

        cohort, chosen = Cohort.open(path), select(progress, cancel)
        paths = [each for each in chosen if isinstance(each, str)]
        added, skipped = cohort.add(paths, lambda _fraction, text: progress(0.0, Message(text)), cancel)
        for each in chosen:
            cancel.raise_if_cancelled()
            if not isinstance(each, str):
                added.append(cohort.add_volume(each[1], each[0]))
        return added, [each for each in skipped if each.is_fault]

    return logic.worker.start(Task(run, title=_("Adding scans to the cohort"), outlives_scene=True))


def scene_scans() -> Selected:
    """The volumes of the scene: their files, or copies of their voxels where there is no unchanged file."""
    chosen: list[str | tuple[str, Volume]] = []
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if volumes.is_scan(node):
            scan = volumes.read(node)
            # The scene may change while the worker writes.
            copy = Volume(scan.volume.array.copy(), scan.volume.grid)
            chosen.append(source_of(node) or (scan.name, copy))
    if not chosen:
        raise CohortError(_("There is no volume in the scene. Load scans, or add a folder."))
    return lambda *_args: chosen


def database_scans(logic: Tasks) -> Selected:
    """The CT series of Slicer's DICOM database."""
    database = open_database()
    return lambda _progress, cancel: ct_paths(database, logic.worker, cancel)


def library_scans(library: str) -> Selected:
    """The scans of the library that are on this computer."""
    packages.ensure(packages.LIBRARY)

    def select(_progress: TaskProgress, _cancel: CancelToken) -> list[str]:
        found = sorted({record.path for record in open_library(library).scans() if record.path and Path(record.path).exists()})
        if not found:
            raise CohortError(_("The library has no scan whose file is on this computer. Add scans to it in step 3."))
        return found

    return select


def relocateTask(logic: Tasks, path: str, where: str) -> Task:
    """Find scans that were moved; the result is the names of those found, and of those missing."""

    def run(_progress: TaskProgress, _cancel: CancelToken) -> tuple[list[str], list[str]]:
        from CoralBayLib.cohort import Cohort

        return Cohort.open(path).relocate(where)

    return logic.reader.start(Task(run, title=_("Looking for moved scans"), outlives_scene=True))


def openTask(
    logic: Tasks, path: str, scan: str = "", skip: Sequence[str] = (), keep: Annotation | None = None, by: str = ""
) -> Task:
    """Open a scan with its segmentation or, where there is none, with a suggestion.

    The result is its volume node and its segmentation node; None if there is no scan left.

    Args:
        logic: its worker computes.
        path: the cohort's folder.
        scan: its name; "" for the one that teaches most.
        skip: names of scans to pass over.
        keep: a correction to keep first.
        by: who made it.
    """
    packages.ensure()
    config, before = logic.encoder_config(), nodes.voxels_key(nodes.current(path))

    def run(progress: TaskProgress, cancel: CancelToken) -> Opened | None:
        from CoralBayLib.cohort import Cohort, State

        cohort = Cohort.open(path)
        if keep is not None:
            _write(cohort, keep, by, accept=False)
        status = {each.name: each for each in cohort.status()}
        chosen = status.get(scan) if scan else cohort.next(skip)
        if chosen is None:
            return None
        some_accepted = any(each.state is State.ACCEPTED for each in status.values())
        if some_accepted and chosen.state in (State.TO_DO, State.SUGGESTED):
            learner = learner_of(logic, config, progress, cancel)
            learning = Cohort.open(path, learner=learner)
            learning.learn(subprogress(progress, 0.1, 0.4), cancel)
            if learning.probe is not None:
                learning.suggest(chosen.name, subprogress(progress, 0.4, 0.9), cancel)
        return _opened(cohort, chosen.name)

    def finish(opened: Opened | None) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode] | None:
        return None if opened is None else nodes.put(opened, before)

    return logic.worker.start(Task(run, finish, "cohort", _("Opening the next scan"), interruptible=True))


def _opened(cohort: Cohort, scan: str) -> Opened:
    from CoralBayLib.imaging.segmentation_io import read_segmentation

    volume, file = cohort.read(scan), cohort.segmentation(scan)
    labels = None if file is None else read_segmentation(file)[0].array
    masks = {
        name: CroppedMask.of(np.zeros((1, 1, 1), bool) if labels is None else labels == label)
        for label, name in cohort.structures.items()
    }
    status = next(each for each in cohort.status() if each.name == scan)
    return Opened(str(cohort.folder), scan, status.path, volume, masks, status.state.value)


def writeTask(logic: Tasks, path: str, made: Annotation, by: str, accept: bool) -> Task:
    """Accept what a person made of a scan, or keep it for later. The probe does not learn yet; see `prepareTask`.

    The result is the file of the segmentation.
    """

    def run(_progress: TaskProgress, _cancel: CancelToken) -> Path:
        from CoralBayLib.cohort import Cohort

        return _write(Cohort.open(path), made, by, accept)

    title = _("Accepting the segmentation") if accept else _("Keeping the segmentation for later")
    return logic.worker.start(Task(run, title=title, outlives_scene=True))


def _write(cohort: Cohort, made: Annotation, by: str, accept: bool) -> Path:
    grid = made.volume.volume.grid
    _locked, labelmap = masks_on(made.masks, grid)
    write = partial(cohort.accept if accept else cohort.keep, by=by, structures=made.structures)
    return write(made.scan, labelmap or Volume(np.zeros(grid.shape, np.uint8), grid), made.prompts)


def prepareTask(logic: Tasks, path: str) -> Task:
    """Let the probe learn what was accepted, and make the suggestion for the scan that comes next.

    The result is the name of that scan, or "".
    """
    packages.ensure()
    config = logic.encoder_config()

    def run(progress: TaskProgress, cancel: CancelToken) -> str:
        from CoralBayLib.cohort import Cohort

        cohort = Cohort.open(path, learner=learner_of(logic, config, progress, cancel))
        cohort.learn(subprogress(progress, 0, 0.4), cancel)
        logic.worker.run_pending()
        following = cohort.next()
        if following is None or cohort.probe is None:
            return ""
        cohort.suggest(following.name, subprogress(progress, 0.4, 1), cancel)
        return following.name

    title = _("Learning, and preparing the next scan")
    return logic.worker.start(Task(run, lane="cohort-prepare", title=title, outlives_scene=True, interruptible=True))


def cardTask(logic: Tasks, path: str) -> Task:
    """Write the model card; the result is its file."""

    def run(_progress: TaskProgress, _cancel: CancelToken) -> Path:
        from CoralBayLib.cohort import Cohort

        return Cohort.open(path).model_card()

    return logic.reader.start(Task(run, title=_("Writing the model card"), outlives_scene=True))
