"""The probe as the method to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.fewshot.segmenter import Segmenter
from CoralBayLib.imaging.grid import Grid, Volume

_POINTS = 200
"""Points of each structure."""


class ProbeMethod:
    """A probe of the first labeled patient, adapted to each other one."""

    version = "probe 1"

    def learn(self, pyramid: FeaturePyramid, labelmap: Volume, names: Mapping[int, str]) -> Probe:
        """See `Method`."""
        prompts = Prompts.from_labelmap(labelmap, names=dict(names), per_structure=_POINTS)
        return Probe().fit(pyramid, prompts)

    def predict(self, parts: Sequence[Probe], pyramid: FeaturePyramid, grid: Grid, cancel: CancelToken | None = None) -> Volume:
        """See `Method`."""
        return Segmenter(pyramid, parts[0]).fit().labelmap(grid, cancel=cancel)
