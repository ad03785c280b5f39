"""A probe in another patient: a few prompts made by itself, which the user's own join and overrule.

The weights of a probe do not carry over: another scanner, contrast or body moves all features, and nothing or everything
is above the threshold (see the benchmark on transfer). What does carry over is which of the structures a place is likest
to be, given where in the body it lies. So a probe keeps samples of what it found in its own scan. In another scan they
say where each structure surely is (see `whereabouts`). A few such places then serve as prompts, and all goes on as in the
first scan: with the new scan's own basis, nearness to prompts, and the user's clicks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.shared_basis import shared_basis

from .evidence.voxel_features import KNOTS_HU
from .localization import suggest
from .prompts import BACKGROUND, Prompts

if TYPE_CHECKING:
    from .probe import Probe

BODY_SAMPLES = 4000
STRUCTURE_SAMPLES, MOST_STRUCTURE_SAMPLES = 150, 4000
"""Of each structure, and of all together: what a probe keeps stays within a few megabytes."""
_TISSUE = 2 * len(KNOTS_HU)
_KEPT = 192
"""Components of the basis, the most varied first."""
_SMALL_MM = 200.0
"""A scan less high than this has a basis ruled by chance, which means nothing in another. That of a larger one is better
than one that all scans share: fewer of the prompts made by it are wrong."""
_OVERRULED_MM = 20.0
_NOWHERE = -40.0
_NOT_SHARED = torch.tensor(False)


@dataclass(frozen=True, eq=False)
class Memory:
    """Samples of a scan and of what a probe found in it.

    Attributes:
        points_ras: (N, 3) float32 RAS mm; the last `BODY_SAMPLES`, or fewer, are drawn from the whole body.
        labels: (N,) int64 of the structure found there; 0 is background.
        body: (N,) whether drawn from the whole body.
        share: (N,) float32, mm^3 that a sample stands for.
        vectors: (N, D) half precision, whitened features.
        tissue: (N, T) half precision, functions of the HU.
        projection, offset: the whitening basis, (D, channels) and (D,).
        shared: whether that basis is one that all scans of the encoder share (see `shared_basis`), a boolean. It is for a
            small scan; in files of before there was any, the basis was always the scan's own.
        suggested: what `suggest` made of the scan it was last asked about, by that scan's key: the same for every click.
    """

    points_ras: torch.Tensor
    labels: torch.Tensor
    body: torch.Tensor
    share: torch.Tensor
    vectors: torch.Tensor
    tissue: torch.Tensor
    projection: torch.Tensor
    offset: torch.Tensor
    shared: torch.Tensor = _NOT_SHARED
    suggested: dict[str, Prompts] = field(default_factory=dict, init=False, repr=False)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parts by name, as `Memory(**parts)` takes them."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    @property
    def places(self) -> NDArray[np.float64]:
        """The points in double precision."""
        return self.points_ras.double().numpy()


def remember(probe: Probe, pyramid: FeaturePyramid, seed: int = 0) -> Memory:
    """Sample a scan and what a probe finds in it.

    Args:
        probe: fitted on the scan.
        pyramid: of the scan.
        seed: of the draw.
    """
    from .segmentation import labelmap_on

    grid = pyramid.grid
    labels = labelmap_on(grid, pyramid, probe, probe.prompts_).array.ravel()
    body = np.flatnonzero(pyramid.body.array)
    random = np.random.default_rng(seed)
    each = max(1, min(STRUCTURE_SAMPLES, MOST_STRUCTURE_SAMPLES // len(probe.labels_)))
    drawn = [random.choice(voxels, min(each, len(voxels)), replace=False) for voxels in _where(labels, probe.labels_)]
    everywhere = random.choice(body, min(BODY_SAMPLES, len(body)), replace=False)
    voxels = np.concatenate([*drawn, everywhere])
    kji = np.stack(np.unravel_index(voxels, grid.shape), axis=1)
    points = grid.to_ras(kji[:, ::-1])
    found = labels[voxels].astype(np.int64)
    size = max(probe.labels_) + 1
    stands_for = np.bincount(labels[body], minlength=size) / np.maximum(np.bincount(found, minlength=size), 1)
    common = shared_basis(pyramid) if _height_mm(pyramid) < _SMALL_MM else None
    basis = common or pyramid.basis
    projection, offset = basis.projection[:_KEPT].clone(), basis.offset[:_KEPT].clone()
    return Memory(
        torch.from_numpy(points).float(),
        torch.from_numpy(found),
        torch.arange(len(voxels)) >= len(voxels) - len(everywhere),
        torch.from_numpy(stands_for[found] * grid.voxel_volume_mm3).float(),
        (pyramid.sample(points) @ projection.T + offset).half(),
        pyramid.image_features.sample(points)[:, :_TISSUE].half(),
        projection,
        offset,
        torch.tensor(common is not None),
    )


def for_scan(probe: Probe, pyramid: FeaturePyramid, corrections: Prompts | None = None) -> Probe:
    """The probe to use on a scan: the given one on its own scan, else one that is adapted to this.

    Args:
        probe: fitted.
        pyramid: of any scan with the same features.
        corrections: prompts on that scan; they are of use on another scan than the probe's only.

    Returns:
        On another scan a new probe, fitted there; what it was fitted on is in its `prompts_`, and its structures have the
        labels of the corrections that bear the same name. Of a structure that is not in the scan it says so everywhere.
        The given probe where it kept nothing to be adapted with (a file of an earlier version).

    Raises:
        ProbeError: the scan has other features.
        PromptError: a correction lies outside the scan.
    """
    if not probe.adapts_to(pyramid):
        return probe
    probe.require_features_of(pyramid)
    memory = probe.memory
    if memory is None or BACKGROUND not in memory.labels:
        return probe
    told = corrections if corrections is not None else Prompts(np.empty((0, 3)), np.empty(0, np.int64))
    if pyramid.key not in memory.suggested:
        memory.suggested.clear()
        memory.suggested[pyramid.key] = suggest(memory, pyramid)
    made = memory.suggested[pyramid.key]
    made = Prompts(made.points_ras, made.labels, probe.names_)
    # The user's labels and names come first.
    both = told.merged(made)
    own, rest = both.labels[: len(told)], both.labels[len(told) :]
    kept = _not_overruled(made.points_ras, rest, told.points_ras, own)
    prompts = Prompts(both.points_ras[kept], both.labels[kept], both.names)
    return _fitted(probe, pyramid, prompts)


def _fitted(like: Probe, pyramid: FeaturePyramid, prompts: Prompts) -> Probe:
    """A probe like another, fitted on prompts; of a structure that has a name but no prompts it says that it is nowhere."""
    probe = type(like)(like.C, like.weak_negatives, like.max_per_label)
    labels, found = sorted({*prompts.names, *prompts.structures}), prompts.structures
    weights = torch.zeros(len(labels), pyramid.channels)
    on_image = torch.zeros(len(labels), pyramid.image_features.channels)
    intercept = torch.full((len(labels),), _NOWHERE)
    if found:
        probe.fit(pyramid, prompts)
        rows = [labels.index(label) for label in found]
        weights[rows], on_image[rows], intercept[rows] = probe.weights_, probe.image_weights_, probe.intercept_
    probe.weights_, probe.image_weights_, probe.intercept_ = weights, on_image, intercept
    probe.labels_, probe.names_ = labels, {label: prompts.name(label) for label in labels}
    probe.prompts_, probe.signature_, probe.scan_, probe.home_ = prompts, pyramid.signature, pyramid.key, pyramid
    return probe


def _height_mm(pyramid: FeaturePyramid) -> float:
    """Of the part of the patient that was scanned, along S."""
    return float(pyramid.grid.size[2] * pyramid.grid.spacing_mm[2])


def _not_overruled(
    made: NDArray[np.float64], labels: NDArray[np.int64], told: NDArray[np.float64], own: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which of the user's prompts and then of those made by itself to keep: not those near to where the user says else."""
    keep = np.ones(len(made), dtype=bool)
    for label in np.unique(own):
        near = cKDTree(told[own == label]).query(made)[0] < _OVERRULED_MM if len(made) else np.zeros(0, dtype=bool)
        keep &= ~(near & (labels != label))
    return np.concatenate([np.ones(len(told), dtype=bool), keep])


def _where(labels: NDArray, wanted: list[int]) -> list[NDArray[np.intp]]:
    return [voxels for label in wanted if len(voxels := np.flatnonzero(labels == label))]
