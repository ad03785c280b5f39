"""A cohort: a folder that holds what is to be segmented in which scans, what is done, and a probe that learns from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import CohortError, StoreError
from CoralBayLib.core.names import printable_name
from CoralBayLib.core.outputs import require_outside, require_writable
from CoralBayLib.core.paths import atomic_write, error_message, expand
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.segmentation_io import read_segmentation

from .adding import relocated, with_scans, with_volume
from .card import CurvePoint, curve_of, model_card
from .choice import choose_next
from .description import FILE, Description, ScanEntry, checked_structures, locked, now, read_description, write_description
from .learner import Learner, ProbeLearner
from .records import Records
from .status import ScanStatus, State
from .teaching import Teaching, dice_by_structure, volumes_ml

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder
    from CoralBayLib.features.store import Store
    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.imaging.discovery import Skipped


class Cohort:
    """Scans in which the same structures are segmented one after the other, while a probe learns from what was accepted.

    Everything is in one folder. Every file is written completely or not at all, and nothing that a person made is
    overwritten, so work goes on after a crash, on another day, or by another person, also on another computer.

    Attributes:
        folder: of the cohort.

    Example::

        cohort = Cohort.create("cohort", ["liver", "spleen"])
        cohort.add(["scans"])
        cohort = Cohort.open("cohort", encoder, store)
        scan = cohort.next()
        cohort.accept(scan.name, labelmap, prompts, by="AB")     # and the probe learns
        cohort.suggest(cohort.next().name)                       # a file that Slicer opens
    """

    def __init__(self, folder: Path, learner: Learner | None = None) -> None:
        self.folder = folder
        self._records = Records(folder)
        self._teaching = Teaching(folder, self._records, learner)

    @classmethod
    def create(cls, folder: str | os.PathLike, structures: Sequence[str], name: str = "") -> Cohort:
        """Make a cohort without scans.

        Args:
            folder: new or empty.
            structures: names of what is to be segmented in every scan; the first gets label 1.
            name: of the cohort; by default that of the folder.

        Raises:
            CohortError: the folder is not empty, or the names of the structures cannot be used.
            StoreError: the folder cannot be written.
        """
        path = _absolute(folder)
        names = checked_structures(structures)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / FILE).exists():
                raise CohortError(f"There is a cohort in {path} already. Open it, or choose another folder.")
            if any(not entry.name.startswith(".") for entry in path.iterdir()):
                raise CohortError(f"The folder {path} is not empty. Choose a new or an empty one for the cohort.")
        except OSError as error:
            raise StoreError(f"The folder {path} cannot be used: {error_message(error)}. Choose another.") from error
        with locked(path):
            write_description(path, Description(printable_name(name) or path.name, names, None, now()))
        return cls(path)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike,
        encoder: Encoder | None = None,
        store: Store | None = None,
        *,
        learner: Learner | None = None,
    ) -> Cohort:
        """Open a cohort.

        Args:
            folder: of the cohort.
            encoder: for suggestions and learning; everything else works without it.
            store: where features are kept, or None.
            learner: learns in place of a `ProbeLearner` with that encoder.

        Raises:
            CohortError: there is no cohort, it is damaged, or of a newer version.
        """
        path = _absolute(folder)
        read_description(path)
        return cls(path, learner or (None if encoder is None else ProbeLearner(encoder, store)))

    @property
    def description(self) -> Description:
        """Name, structures, encoder and scans, as they are on the disk now."""
        return read_description(self.folder)

    @property
    def structures(self) -> dict[int, str]:
        """Names of the structures by label."""
        return self.description.labels

    def add(
        self, scans: Iterable[str | os.PathLike], progress: Progress | None = None, cancel: CancelToken | None = None
    ) -> tuple[list[str], list[Skipped]]:
        """Add scans: files, folders with scans in them, folders of DICOM slices. Nothing is read or copied yet.

        Returns:
            added: names of the scans that are new; those that the cohort has already are not added again.
            left_out: files and folders that are no scans although they look like it.

        Raises:
            StoreError: the cohort cannot be written.
            Cancelled: `cancel` was called; nothing was changed.
        """
        with locked(self.folder, cancel):
            description, added, left_out = with_scans(self.description, self.folder, scans, progress, cancel)
            write_description(self.folder, description)
        return [each.name for each in added], left_out

    def add_volume(self, volume: Volume, name: str) -> str:
        """Add a scan that is in no file: it is written into the cohort's folder. Returns its name in the cohort.

        Raises:
            StoreError: it cannot be written.
        """
        with locked(self.folder):
            description, entry = with_volume(self.description, self.folder, volume, name)
            write_description(self.folder, description)
        return entry.name

    def relocate(self, folder: str | os.PathLike) -> tuple[list[str], list[str]]:
        """Find the scans that were moved, by their names.

        Args:
            folder: where the scans are now; subfolders are searched.

        Returns:
            The names of the scans that were found, and of those that are still missing.
        """
        with locked(self.folder):
            description, found, missing = relocated(self.description, self.folder, folder)
            write_description(self.folder, description)
        return found, missing

    def status(self) -> list[ScanStatus]:
        """What is known of every scan, in the order in which they were added.

        A file that is damaged is named in the flags of its scan.
        """
        return self._records.status(self.description)

    def unfinished(self) -> list[Path]:
        """Segmentations without a record, whose writing a crash interrupted; they count for nothing and may be deleted."""
        return self._records.unfinished()

    def next(self, skip: Sequence[str] = ()) -> ScanStatus | None:
        """The scan to annotate next, by the rule in `choice`; None if all are accepted.

        Args:
            skip: names of scans to pass over.

        Raises:
            CohortError: the cohort has no scans, or none of those to annotate is where it was.
        """
        description, scans = self.description, self.status()
        if not scans:
            raise CohortError("The cohort has no scans yet. Add some.")
        left = [scan for scan in scans if scan.state is not State.ACCEPTED]
        if left and not any(scan.path for scan in left):
            description.scan(left[0].name).require(self.folder)
        return choose_next(scans, self._records.measured(), skip)

    def read(self, scan: str) -> Volume:
        """The CT of a scan.

        Raises:
            CohortError: there is no such scan, it is not where it was, or it is another one than before.
            VolumeError: it cannot be read.
        """
        return self._teaching.read(self.description.scan(scan))

    def segmentation(self, scan: str) -> Path | None:
        """The segmentation of a scan that is in force: accepted, else corrected, else suggested; None without one.

        Raises:
            CohortError: there is no such scan, or the record or the file is damaged.
        """
        self.description.scan(scan)
        return self._records.segmentation(scan)

    def learn(self, progress: Progress | None = None, cancel: CancelToken | None = None) -> None:
        """Let the probe learn what was accepted but not learned yet, as without an encoder or after a crash.

        Raises:
            CohortError: the features are others than before; or a scan or segmentation to learn from is missing or damaged.
            Cancelled: `cancel` was called; the probe is as it was.
        """
        self._teaching.teach(progress, cancel)

    def suggest(self, scan: str, progress: Progress | None = None, cancel: CancelToken | None = None) -> Path:
        """Segment a scan with the probe, and keep the result as a suggestion.

        The probe first learns what was accepted but not learned yet. A suggestion that the same probe made already is not
        computed again.

        Args:
            scan: its name.
            progress: called with the fraction done and a message.
            cancel: checked between steps.

        Returns:
            The suggestion, a `.seg.nrrd`.

        Raises:
            CohortError: nothing was accepted yet, the scan is accepted already, or the features are others than before.
            VolumeError: the scan cannot be read.
            Cancelled: `cancel` was called; nothing was changed, except for what the probe has learned.
        """
        entry = self._entry(scan)
        if self._records.accepted.latest(scan) is not None:
            raise CohortError(
                f"The scan '{scan}' is accepted already. Open its segmentation to change it, and accept it again."
            )
        self._teaching.teach(subprogress(progress, 0, 0.3), cancel)
        return self._teaching.suggest(entry, subprogress(progress, 0.3, 1), cancel)

    def keep(
        self,
        scan: str,
        labelmap: Volume,
        prompts: Prompts | None = None,
        *,
        by: str = "",
        structures: Sequence[str] | None = None,
    ) -> Path:
        """Keep a correction that is not finished, so that it can be continued later; the probe does not learn from it.

        Arguments, result and errors are those of `accept`.
        """
        return self._write(State.CORRECTED, self._entry(scan), labelmap, prompts, by, structures)

    def accept(
        self,
        scan: str,
        labelmap: Volume | None = None,
        prompts: Prompts | None = None,
        *,
        by: str = "",
        structures: Sequence[str] | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Path:
        """Write the segmentation of a scan, and let the probe learn from it.

        When it is written, it is accepted, whatever happens to the learning: that is made up for at the next suggestion. A
        scan can be accepted again; earlier segmentations stay in the folder.

        Args:
            scan: its name.
            labelmap: on the grid of the scan, with the labels of `structures`; by default the correction or suggestion.
            prompts: clicks, strokes and boxes that led to it, which are kept beside it.
            by: who accepts it, a name or initials; "" to leave that out.
            structures: names of those that were looked for, all by default. One that is listed and has no voxel is absent
                in this scan; one that is not listed is not annotated.
            progress: called with the fraction done and a message.
            cancel: checked between steps of the learning.

        Returns:
            The segmentation, a `.seg.nrrd`. Its record, a JSON file of the same name, lies beside it.

        Raises:
            CohortError: no such scan or structure, another grid, or nothing to accept.
            StoreError: it cannot be written.
            Cancelled: `cancel` was called; the segmentation is accepted if it had been written.
        """
        entry = self._entry(scan)
        if labelmap is None:
            suggested = self._records.segmentation(scan)
            if suggested is None:
                raise CohortError(f"There is no segmentation of '{scan}' to accept. Give one, or make a suggestion first.")
            labelmap = read_segmentation(suggested)[0]
        raise_if_cancelled(cancel)
        path = self._write(State.ACCEPTED, entry, labelmap, prompts, by, structures)
        if self._teaching.can_learn:
            self._teaching.teach(progress, cancel)
        return path

    def learning_curve(self) -> list[CurvePoint]:
        """Dice of each suggestion against what was accepted, by number of patients that were learned before."""
        return curve_of(self._records.accepted_records(self.description))

    def model_card(self, path: str | os.PathLike | None = None) -> Path:
        """Write the model card: what the probe learned from, and its learning curve.

        Args:
            path: of the Markdown file; by default `model-card.md` in the cohort's folder.

        Raises:
            StoreError: it cannot be written.
        """
        if path is not None:
            require_outside(path, self.folder, "the cohort")
        target = self.folder / "model-card.md" if path is None else require_writable(path, suffixes=(".md",))
        description, probe = self.description, self._records.probes.latest("probe")
        records = self._records.accepted_records(description)
        text = model_card(description, self.status(), records, None if probe is None else probe.record)
        with atomic_write(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return target

    @property
    def probe(self) -> Path | None:
        """The file of the probe, as it is now; None before anything was learned."""
        latest = self._records.probes.latest("probe")
        return None if latest is None else latest.file

    def _entry(self, scan: str) -> ScanEntry:
        return self.description.scan(scan)

    def _write(
        self,
        state: State,
        entry: ScanEntry,
        labelmap: Volume,
        prompts: Prompts | None,
        by: str,
        structures: Sequence[str] | None,
    ) -> Path:
        description = self.description
        looked_for = list(description.structures if structures is None else structures)
        unknown = [name for name in looked_for if name not in description.structures]
        if unknown:
            raise CohortError(
                f"The cohort has no structure '{unknown[0]}'. Its structures are {', '.join(description.structures)}."
            )
        volume = self._teaching.read(entry)
        labelmap = self._teaching.checked(labelmap, volume, description)
        suggestion = self._records.suggestions.latest(entry.name)
        record: dict[str, Any] = {
            "scan": entry.name,
            "by": printable_name(by),
            "when": now(),
            "structures": looked_for,
            "volume_ml": volumes_ml(labelmap, description.labels, looked_for),
            "empty": not labelmap.array.any(),
            "encoder": description.encoder,
            "probe": None if suggestion is None else suggestion.record.get("probe"),
            "patients": None if suggestion is None else suggestion.record.get("patients"),
            "suggestion": None if suggestion is None else suggestion.file.name,
        }
        if suggestion is not None and state is State.ACCEPTED:
            before = read_segmentation(self._records.suggestions.require_intact(suggestion))[0]
            record["suggestion_dice"] = dice_by_structure(before, labelmap, description.labels, looked_for)
            record["estimated_dice"] = suggestion.record.get("estimated_dice")
        return self._teaching.write_labels(state, entry, labelmap, description, record, prompts)


def _absolute(folder: str | os.PathLike) -> Path:
    return Path(os.path.abspath(expand(folder)))  # noqa: PTH100 - normalizes "..", keeps symbolic links
