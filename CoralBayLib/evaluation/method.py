"""What is evaluated: a way to learn from labeled patients and to segment another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume


@dataclass(frozen=True, eq=False)
class Lesson:
    """A labeled patient to learn from.

    Attributes:
        names: by label of the structures that were looked for; others may be in the scan without a label.
        load: reads the features of the scan, and the labels on the scan's grid in the common numbering.
    """

    names: Mapping[int, str]
    load: Callable[[], tuple[FeaturePyramid, Volume]]


class Method(Protocol):
    """A way to segment that learns from labeled patients.

    Attributes:
        version: changes when results change, so that results of another version are not taken for its own.
    """

    version: str

    def learn(self, lesson: Lesson, cancel: CancelToken | None = None) -> Any:
        """What one patient teaches; small enough that those of all patients are kept in memory.

        Args:
            lesson: the patient. It may be kept, to be loaded again in `combine`.
            cancel: checked between steps.
        """

    def combine(self, parts: Sequence[Any], cancel: CancelToken | None = None) -> Any:
        """What several patients teach together; asked once for each draw.

        Args:
            parts: of the labeled patients, from `learn`.
            cancel: checked between steps.
        """

    def predict(self, model: Any, pyramid: FeaturePyramid, grid: Grid, cancel: CancelToken | None = None) -> Volume:
        """Segment another patient.

        Args:
            model: from `combine`.
            pyramid: features of the scan to segment.
            grid: of the result.
            cancel: checked between steps.

        Returns:
            Labelmap in the common numbering.
        """
