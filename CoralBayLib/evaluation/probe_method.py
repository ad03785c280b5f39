"""The probe as the method to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.fewshot.segmenter import Segmenter
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.patients import renumbered


@dataclass(frozen=True, eq=False)
class NamedProbe:
    """A probe and the common labels of its structures.

    Attributes:
        probe: fitted.
        names: by common label.
    """

    probe: Probe
    names: dict[int, str]


class ProbeMethod:
    """A probe that learns from all labeled patients of a draw; its answer without any click."""

    version = "probe 2"

    def learn(self, pyramid: FeaturePyramid, labelmap: Volume, names: Mapping[int, str]) -> NamedProbe:
        """See `Method`."""
        return NamedProbe(Probe().learn(pyramid, labelmap, dict(names)), dict(names))

    def combine(self, parts: Sequence[NamedProbe], cancel: CancelToken | None = None) -> NamedProbe:
        """See `Method`."""
        names = {label: name for part in parts for label, name in part.names.items()}
        probe = Probe.merged([part.probe for part in parts], cancel)
        if probe.patients_ is not None:
            # Trained now, or the first patient tested would seem to take this long.
            probe.patients_.network(cancel=cancel)
        return NamedProbe(probe, names)

    def predict(self, model: NamedProbe, pyramid: FeaturePyramid, grid: Grid, cancel: CancelToken | None = None) -> Volume:
        """See `Method`."""
        segmenter = Segmenter(pyramid, model.probe).fit()
        # A probe numbers its structures by itself.
        return renumbered(segmenter.labelmap(grid, cancel=cancel), segmenter.names, model.names)
