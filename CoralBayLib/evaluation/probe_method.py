"""The probe as the method to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from CoralBayLib.core.errors import EvaluationError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.fewshot.segmenter import Segmenter
from CoralBayLib.imaging.grid import Grid, Volume

_POINTS = 200
"""Points of each structure."""


class ProbeMethod:
    """A probe of the labeled patient, adapted to each other one."""

    version = "probe 1"

    def learn(self, pyramid: FeaturePyramid, labelmap: Volume, names: Mapping[int, str]) -> Any:
        """See `Method`."""
        return Probe().fit(pyramid, Prompts.from_labelmap(labelmap, names=dict(names), per_structure=_POINTS))

    def predict(self, parts: Sequence[Any], pyramid: FeaturePyramid, grid: Grid, cancel: CancelToken | None = None) -> Volume:
        """See `Method`."""
        if len(parts) > 1:
            raise EvaluationError("Probes of several patients are not supported yet. Evaluate with one labeled patient.")
        return Segmenter(pyramid, parts[0]).fit().labelmap(grid, cancel=cancel)
