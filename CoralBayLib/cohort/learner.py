"""What a cohort needs of few-shot learning, and how a probe of many scans does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from CoralBayLib.core.errors import CohortError
from CoralBayLib.core.progress import CancelToken, Progress, subprogress
from CoralBayLib.imaging.grid import Grid, Volume

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.features.store import Store
    from CoralBayLib.fewshot.preview import Preview


@dataclass(frozen=True, eq=False)
class Lesson:
    """One accepted scan.

    Attributes:
        pyramid: its features.
        labelmap: its labels, with the numbering of the cohort.
        names: by label, of the structures that were annotated. Others are not known to be absent.
    """

    pyramid: Any
    labelmap: Volume
    names: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Suggested:
    """A segmentation of a scan that was not annotated yet.

    Attributes:
        labelmap: with the numbering of the cohort, on the grid that was asked for.
        dice: by label, the Dice to expect; may lack structures.
    """

    labelmap: Volume
    dice: Mapping[int, float]


class Saved(Protocol):
    """A probe that can be written to a file."""

    def save(self, path: Path) -> None:
        """Write the file completely or not at all."""


class Learner(Protocol):
    """Makes features, learns from accepted scans, and suggests segmentations."""

    @property
    def identity(self) -> dict[str, Any]:
        """Of its features: at least `encoder`, the name, and `weights`, their SHA-256. It never changes within a cohort."""

    def embed(self, volume: Volume, progress: Progress | None = None, cancel: CancelToken | None = None) -> Any:
        """The features of a scan."""

    def learn(self, probe: Path | None, lessons: Iterable[Lesson], cancel: CancelToken | None = None) -> Saved:
        """What the probe of a file, or a new one, becomes with more scans; the file stays as it is."""

    def suggest(
        self,
        probe: Path,
        pyramid: Any,
        grid: Grid,
        names: Mapping[int, str],
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Suggested:
        """A segmentation on a grid, with the labels of `names`."""


class ProbeLearner:
    """Learns with `Probe` on the features of an encoder.

    Args:
        encoder: from `load_encoder`.
        store: where features are kept, or None.
        assume_hu: skip the check that the values look like HU.
    """

    def __init__(self, encoder: Encoder, store: Store | None = None, assume_hu: bool = False) -> None:
        self._encoder, self._store, self._assume_hu = encoder, store, assume_hu

    @property
    def identity(self) -> dict[str, Any]:
        """See `Learner.identity`."""
        from CoralBayLib.features.identity import identity

        return identity(self._encoder)

    def embed(self, volume: Volume, progress: Progress | None = None, cancel: CancelToken | None = None) -> FeaturePyramid:
        """See `Learner.embed`."""
        from CoralBayLib.features.embedding import embed

        return embed(volume, self._encoder, progress, cancel, store=self._store, assume_hu=self._assume_hu)

    def learn(self, probe: Path | None, lessons: Iterable[Lesson], cancel: CancelToken | None = None) -> Saved:
        """See `Learner.learn`."""
        from CoralBayLib.core.progress import raise_if_cancelled
        from CoralBayLib.fewshot.probe import Probe

        learning: Any = Probe() if probe is None else Probe.load(probe)
        for lesson in lessons:
            raise_if_cancelled(cancel)
            learning.learn(lesson.pyramid, lesson.labelmap, dict(lesson.names), cancel=cancel)
        return learning

    def suggest(
        self,
        probe: Path,
        pyramid: FeaturePyramid,
        grid: Grid,
        names: Mapping[int, str],
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Suggested:
        """See `Learner.suggest`."""
        from CoralBayLib.fewshot.probe import Probe
        from CoralBayLib.fewshot.segmenter import Segmenter
        from CoralBayLib.imaging.patients import renumbered

        segmenter = Segmenter(pyramid, Probe.load(probe)).fit()
        preview = segmenter.preview(cancel=cancel)
        labelmap = segmenter.labelmap(grid, progress=subprogress(progress, 0.3, 1.0), cancel=cancel)
        by_name = {name: label for label, name in names.items()}
        unknown = [name for name in segmenter.names.values() if name not in by_name]
        if unknown:
            raise CohortError(f"The probe of the cohort has a structure '{unknown[0]}', which the cohort does not have.")
        dice = {by_name[segmenter.names[label]]: value for label, value in expected_dice(preview).items()}
        return Suggested(renumbered(labelmap, segmenter.names, names), dice)


def expected_dice(preview: Preview) -> dict[int, float]:
    """By label, the Dice to expect of a preview: its own estimate, or else what its probabilities say.

    The latter is 2 sum_A(p) / (|A| + sum(p)) with A the voxels of a structure and p its probabilities, as in
    `uncertainty.dice_from_probabilities`. The probabilities of a probe on another patient are not calibrated; the cohort
    corrects the estimate by what earlier ones were worth.
    """
    expected = {label: dice for label, (dice, _) in preview.dice_estimate.items()}
    for label, percent in preview.percent.items():
        if label not in expected:
            inside = preview.labels == label
            overlap, total = percent[inside].sum(dtype=float) / 100, percent.sum(dtype=float) / 100
            expected[label] = float(2 * overlap / max(inside.sum() + total, 1e-6))
    return expected
