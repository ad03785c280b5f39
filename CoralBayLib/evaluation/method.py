"""What is evaluated: a way to learn from labeled patients and to segment another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume


class Method(Protocol):
    """A way to segment that learns from labeled patients.

    Attributes:
        version: changes when results change, so that results of another version are not taken for its own.
    """

    version: str

    def learn(self, pyramid: FeaturePyramid, labelmap: Volume, names: Mapping[int, str]) -> Any:
        """What one patient teaches; small enough that those of all patients are kept in memory.

        Args:
            pyramid: features of the scan.
            labelmap: labels on the scan's grid, in the common numbering.
            names: by label of the structures that were looked for; others may be in the scan without a label.
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
