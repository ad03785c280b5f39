"""The evidence of one scan: voxel features, geodesic distances and intensities, each made at first use and kept."""

from __future__ import annotations

from functools import cached_property
from weakref import WeakKeyDictionary

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

from .geodesic import GeodesicEvidence
from .intensity import IntensityEvidence
from .voxel_features import VoxelFeatures


class ScanEvidence:
    """Evidence from the CT itself, in addition to the deep features.

    Args:
        image: int16 HU on the working grid.
        body: mask on the same grid.
    """

    def __init__(self, image: Volume, body: Volume) -> None:
        self._image = image
        self._body = body

    @cached_property
    def voxel_features(self) -> VoxelFeatures:
        """Intensity and position of every working voxel."""
        return VoxelFeatures(self._image, self._body)

    @cached_property
    def geodesic(self) -> GeodesicEvidence:
        """Distances from prompts along paths within a tissue."""
        return GeodesicEvidence(self._image, self._body)

    @cached_property
    def intensity(self) -> IntensityEvidence:
        """The HU of a structure compared with its neighbors."""
        return IntensityEvidence(self._image)


_known: WeakKeyDictionary[FeaturePyramid, ScanEvidence] = WeakKeyDictionary()


def evidence_of(pyramid: FeaturePyramid) -> ScanEvidence:
    """The evidence of a pyramid's scan, kept for as long as the pyramid lives."""
    evidence = _known.get(pyramid)
    if evidence is None:
        evidence = ScanEvidence(pyramid.image, pyramid.body)
        use_evidence(pyramid, evidence)
    return evidence


def use_evidence(pyramid: FeaturePyramid, evidence: ScanEvidence) -> None:
    """Replace the evidence that probes use for a pyramid, for example in an ablation."""
    _known[pyramid] = evidence
