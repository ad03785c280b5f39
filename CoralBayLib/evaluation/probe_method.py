"""The probe as the method to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.fewshot.segmenter import Segmenter
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.patients import renumbered

from .method import Lesson


@dataclass(frozen=True, eq=False)
class NamedProbe:
    """A probe and the common labels of its structures.

    Attributes:
        probe: fitted.
        names: by common label.
        lesson: the patient that it learned from, if its features can be compared with those of others only after they are
            loaded again; else None.
    """

    probe: Probe
    names: dict[int, str]
    lesson: Lesson | None = None


class ProbeMethod:
    """A probe that learns from all labeled patients of a draw; its answer without any click."""

    version = "probe 2"

    def learn(self, lesson: Lesson, cancel: CancelToken | None = None) -> NamedProbe:
        """See `Method`."""
        probe = _learned(Probe(), lesson, cancel)
        is_comparable = probe.patients_ is not None and probe.patients_.projection.shared
        return NamedProbe(probe, dict(lesson.names), None if is_comparable else lesson)

    def combine(self, parts: Sequence[NamedProbe], cancel: CancelToken | None = None) -> NamedProbe:
        """See `Method`."""
        names = {label: name for part in parts for label, name in part.names.items()}
        lessons = [part.lesson for part in parts if part.lesson is not None]
        # Without a basis that all scans of the encoder share, the features of all are projected as those of the first.
        probe = Probe.merged([part.probe for part in (parts[:1] if lessons else parts)], cancel)
        for lesson in lessons[1:]:
            _learned(probe, lesson, cancel)
        if probe.patients_ is not None:
            # Trained now, or the first patient tested would seem to take this long.
            probe.patients_.network(cancel=cancel)
        return NamedProbe(probe, names)

    def predict(self, model: NamedProbe, pyramid: FeaturePyramid, grid: Grid, cancel: CancelToken | None = None) -> Volume:
        """See `Method`."""
        segmenter = Segmenter(pyramid, model.probe).fit()
        # A probe numbers its structures by itself.
        return renumbered(segmenter.labelmap(grid, cancel=cancel), segmenter.names, model.names)


def _learned(probe: Probe, lesson: Lesson, cancel: CancelToken | None) -> Probe:
    """The probe, which has learned one more patient."""
    pyramid, labelmap = lesson.load()
    return probe.learn(pyramid, labelmap, dict(lesson.names), cancel=cancel)
