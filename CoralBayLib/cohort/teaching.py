"""Teaches the probe of a cohort with the accepted scans, and makes suggestions with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from CoralBayLib.core.errors import Cancelled, CohortError, CoralBayError, Remedy
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, subprogress
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.palette import label_color
from CoralBayLib.imaging.patients.measures import measure
from CoralBayLib.imaging.segmentation_io import Segment, read_segmentation, write_segmentation
from CoralBayLib.imaging.volume_io import read_volume

from .description import Description, ScanEntry, locked, now, read_description, write_description
from .fingerprint import content_fingerprint
from .learner import Learner, Lesson
from .records import Records
from .revisions import Revision
from .status import State

if TYPE_CHECKING:
    from CoralBayLib.fewshot.prompts import Prompts

_TOLERANCE_MM = 0.1
_PROBE = "probe"
_ATTEMPTS = 5


class Teaching:
    """Learning and suggesting in one cohort.

    Args:
        folder: of the cohort.
        records: of the cohort.
        learner: None where nothing is to be learned or suggested.
    """

    def __init__(self, folder: Path, records: Records, learner: Learner | None) -> None:
        self._folder, self._records, self._learner = folder, records, learner

    @property
    def can_learn(self) -> bool:
        """Whether there is a learner."""
        return self._learner is not None

    def read(self, entry: ScanEntry) -> Volume:
        """The CT of a scan; what describes it is noted when it is read first.

        Raises:
            CohortError: it is not where it was, or it is another one than before.
            VolumeError: it cannot be read.
        """
        volume = read_volume(entry.require(self._folder))
        content, facts = content_fingerprint(volume), self._records.scan_facts(entry.name)
        if facts is None:
            self._records.note_scan(entry.name, content, measure(volume))
        elif facts["content"] != content:
            raise CohortError(
                f"The scan '{entry.name}' was changed: its voxels or its position are not what they were when the cohort read "
                "it first. Put the original file back, or add the changed scan under another name."
            )
        return volume

    def checked(self, labelmap: Volume, volume: Volume, description: Description) -> Volume:
        """A labelmap of a scan, on the scan's own grid.

        Raises:
            CohortError: it has another grid, or labels that the cohort has no structures for.
        """
        if not labelmap.grid.same_as(volume.grid, _TOLERANCE_MM):
            raise CohortError("The segmentation has another geometry than the scan. Save it with the geometry of the scan.")
        labels = np.unique(labelmap.array)
        unknown = [int(label) for label in labels if label and int(label) not in description.labels]
        if unknown or labels[0] < 0:
            raise CohortError(
                f"The segmentation has the label {(unknown or labels.tolist())[0]}, which the cohort does not have."
            )
        return Volume(labelmap.array, volume.grid)

    def write_labels(
        self,
        state: State,
        entry: ScanEntry,
        labelmap: Volume,
        description: Description,
        record: Mapping[str, Any],
        prompts: Prompts | None = None,
    ) -> Path:
        """Write a segmentation of a scan, with its record; returns its file.

        Raises:
            CohortError: the scan was accepted in the meantime, and this is a correction.
            StoreError: it cannot be written.
        """
        segments = [Segment(label, name, label_color(label)) for label, name in description.labels.items()]
        is_accepted = state is State.ACCEPTED
        with locked(self._folder):
            if not is_accepted and self._records.accepted.latest(entry.name) is not None:
                raise CohortError(
                    f"The scan '{entry.name}' was accepted in the meantime. Accept the segmentation to replace it."
                )
            write = partial(write_segmentation, labelmap, segments)
            return self._records.of_state(state).add(entry.name, write, record, None if is_accepted else 0, prompts).file

    def suggest(self, entry: ScanEntry, progress: Progress | None = None, cancel: CancelToken | None = None) -> Path:
        """See `Cohort.suggest`; the probe is up to date."""
        learner, probe = self._require_learner(), self._records.probes.latest(_PROBE)
        if probe is None:
            raise CohortError("Nothing was accepted yet, so there is nothing to suggest from. Segment and accept a scan first.")
        known = self._records.suggestions.latest(entry.name)
        if known is not None and known.record.get("probe") == probe.record["sha256"]:
            return self._records.suggestions.require_intact(known)
        report(progress, 0.0, "Reading the scan")
        volume, description = self.read(entry), read_description(self._folder)
        pyramid = learner.embed(volume, subprogress(progress, 0.1, 0.7), cancel)
        raise_if_cancelled(cancel)
        report(progress, 0.7, "Segmenting with the probe")
        names = description.labels
        file = self._records.probes.require_intact(probe)
        suggested = learner.suggest(file, pyramid, volume.grid, names, subprogress(progress, 0.7, 0.95), cancel)
        labelmap = self.checked(suggested.labelmap, volume, description)
        raise_if_cancelled(cancel)
        record = {
            "scan": entry.name,
            "when": now(),
            "encoder": description.encoder,
            "probe": probe.record["sha256"],
            "patients": len(probe.record["learned"]),
            "volume_ml": volumes_ml(labelmap, names, description.structures),
            "estimated_dice": {names[label]: round(float(dice), 4) for label, dice in suggested.dice.items() if label in names},
        }
        return self.write_labels(State.SUGGESTED, entry, labelmap, description, record)

    def teach(self, progress: Progress | None = None, cancel: CancelToken | None = None) -> None:
        """Let the probe learn what was accepted and not learned yet.

        If a scan was accepted again after it was learned, the probe is made anew from all accepted scans.

        Raises:
            CohortError: the features are others than before; or a scan or segmentation to learn from is missing or damaged.
            Cancelled: `cancel` was called; the probe is as it was.
        """
        learner = self._require_learner()
        self._require_same_encoder(learner)
        for attempt in range(_ATTEMPTS):
            before = self._records.probes.latest(_PROBE)
            try:
                return self._teach(learner, progress, cancel)
            except Cancelled:
                raise
            except (CoralBayError, OSError):
                # Another person's probe may have taken the place of the one that was being read.
                now_there = self._records.probes.latest(_PROBE)
                if attempt + 1 == _ATTEMPTS or before is None or now_there is None or before.number == now_there.number:
                    raise
        return None

    def _teach(self, learner: Learner, progress: Progress | None, cancel: CancelToken | None) -> None:
        description, probe = read_description(self._folder), self._records.probes.latest(_PROBE)
        latest = {scan.name: self._records.accepted.latest(scan.name) for scan in description.scans}
        # A scan without any structure has no example of one.
        accepted = {name: found for name, found in latest.items() if found is not None and not found.record.get("empty")}
        learned: list[list[Any]] = [] if probe is None else list(probe.record["learned"])
        current = all(name in accepted and accepted[name].number == number for name, number in learned)
        if not current or probe is None:
            probe, learned = None, []
        done = {name for name, _ in learned}
        missing = [name for name in accepted if name not in done]
        if not missing:
            return
        lessons = self._lessons([accepted[name] for name in missing], description, learner, progress, cancel)
        base = None if probe is None else self._records.probes.require_intact(probe)
        taught = learner.learn(base, lessons, cancel)
        raise_if_cancelled(cancel)
        record = {
            "when": now(),
            "encoder": learner.identity,
            "structures": list(description.structures),
            "learned": [*learned, *([name, accepted[name].number] for name in missing)],
        }
        with locked(self._folder):
            self._records.probes.add(_PROBE, taught.save, record, earlier=1)

    def _lessons(
        self,
        accepted: Sequence[Revision],
        description: Description,
        learner: Learner,
        progress: Progress | None,
        cancel: CancelToken | None,
    ) -> Iterator[Lesson]:
        for number, revision in enumerate(accepted):
            raise_if_cancelled(cancel)
            part = subprogress(progress, number / len(accepted), (number + 1) / len(accepted))
            report(part, 0.0, f"Learning from accepted scans: {number + 1} of {len(accepted)}")
            volume = self.read(description.scan(revision.name))
            labelmap, _ = read_segmentation(self._records.accepted.require_intact(revision))
            labelmap = self.checked(labelmap, volume, description)
            looked_for = revision.record.get("structures", description.structures)
            names = {label: name for label, name in description.labels.items() if name in looked_for}
            yield Lesson(learner.embed(volume, subprogress(part, 0.1, 0.8), cancel), labelmap, names)

    def _require_learner(self) -> Learner:
        if self._learner is None:
            raise CohortError("This needs an encoder. Open the cohort with one.")
        return self._learner

    def _require_same_encoder(self, learner: Learner) -> None:
        """Check that the features are those of the cohort, which the first ones define."""
        identity, known = learner.identity, read_description(self._folder).encoder
        if known is None:
            with locked(self._folder):
                description = read_description(self._folder)
                if description.encoder is None:
                    write_description(self._folder, replace(description, encoder=identity))
                    return
                known = description.encoder
        if known != identity:
            raise CohortError(
                f"The cohort was begun with the encoder {known['encoder']} and the weights {str(known['weights'])[:12]}; "
                f"these are {identity['encoder']} and {str(identity['weights'])[:12]}. All scans of a cohort need the same.",
                remedy=Remedy.CHOOSE_ENCODER,
                encoder=known["encoder"],
            )


def volumes_ml(labelmap: Volume, names: Mapping[int, str], looked_for: Sequence[str]) -> dict[str, float]:
    """Volume of each structure that was looked for, by name, in ml."""
    counts = np.bincount(labelmap.array.ravel().astype(np.int64), minlength=max(names) + 1)
    voxel_ml = labelmap.grid.voxel_volume_mm3 / 1000
    return {name: round(float(counts[label] * voxel_ml), 3) for label, name in names.items() if name in looked_for}


def dice_by_structure(one: Volume, other: Volume, names: Mapping[int, str], looked_for: Sequence[str]) -> dict[str, float]:
    """Dice of two labelmaps on the same grid, by name; structures that are empty in both are left out."""
    found = {}
    for label, name in names.items():
        a, b = one.array == label, other.array == label
        total = int(a.sum()) + int(b.sum())
        if name in looked_for and total:
            found[name] = round(2 * int((a & b).sum()) / total, 4)
    return found
