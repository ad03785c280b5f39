"""Segmentation of a scan on its own grid, on the worker: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBaySlicerCore.scene.masks import Masks
from CoralBaySlicerCore.scene.volumes import VolumeSnapshot

from .masks import masks_on

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.segmenter import Options, Segmenter


def segmentation_of(
    scan: VolumeSnapshot,
    pyramid: FeaturePyramid,
    prompts: Prompts | None,
    options: Options | None = None,
    probe: Probe | None = None,
    segmenter: Segmenter | None = None,
    masks: Masks | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    extents: Mapping[int, int] | None = None,
) -> tuple[dict[str, CroppedMask], Probe]:
    """Segment a scan; returns the voxels of each structure by name, and the probe.

    Args:
        scan: the volume.
        pyramid: its features.
        prompts: in the volume's own space; None with a probe.
        options: threshold and whether to keep connected components only.
        probe: a probe that was made elsewhere, or None.
        segmenter: a `Segmenter` of this pyramid, which is used again if its prompts, masks and extents are the same.
        masks: what is locked, and what structures start from.
        progress: called with the fraction done and a message.
        cancel: checked between steps.
        extents: which answers to first clicks are wanted, see `Segmenter.fit`.
    """
    from CoralBayLib.fewshot.segmenter import Segmenter

    locked, start = masks_on(masks, scan.volume.grid)
    if segmenter is None or prompts is None or not segmenter.is_fitted_on(prompts, locked, start, extents):
        segmenter = Segmenter(pyramid, probe).fit(prompts, locked=locked, start=start, extents=extents)
    raise_if_cancelled(cancel)
    labelmap = segmenter.labelmap(scan.volume.grid, options, progress, cancel)
    fitted = segmenter.probe_
    assert fitted is not None
    return {name: CroppedMask.of(labelmap.array == label) for label, name in segmenter.names.items()}, fitted
